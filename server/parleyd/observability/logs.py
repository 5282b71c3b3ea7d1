"""Logs: one event per line on stderr, JSON for machines or coloured text on a terminal.

structlog and the standard library (grpc, asyncio) use the same processors, so every event has the node's name and is
redacted. Redaction is a second defence: code must not log bodies, passwords or tokens. If it does, the value is masked
by the name of its key, at any depth.

A thread writes the lines (line_writer.py). So a reader of stderr that stops reading does not stop the node: lines above
a bound are dropped, and the event `log_lines_dropped` reports how many.
"""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from parleyd.observability.line_writer import LineWriter

MASK = "[redacted]"
MAX_TEXT = 8_192
MAX_ITEMS = 256
_MAX_DEPTH = 6

_SECRET_KEYS = frozenset({"password", "passwords", "token", "authorization", "body", "bodies", "secret", "private_key"})
_SECRET_PARTS = ("password", "passwd", "token", "authorization", "body", "secret", "private_key", "key_pem")
_BEARER = re.compile(r"(?i)\bbearer\s+[^\s'\",]+")
_process_fields: dict[str, str] = {}
_CLOSE_WITHIN_S = 2.0


class _Output:
    """Where the lines of this process go; to no writer before `configure_logging`, or without a descriptor."""

    writer: LineWriter | None = None
    is_for_people: bool = False


class _QueueHandler(logging.Handler):
    """Formats a record where it was made, and leaves the writing to a thread."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the line, or drop it; never waits."""
        try:
            self._writer.put(self.format(record))
        except Exception:
            self.handleError(record)


def configure_logging(
    level: str = "info",
    log_format: str = "auto",
    *,
    node: str = "",
    cluster: str = "",
    stream: TextIO | None = None,
    tap: Processor | None = None,
) -> None:
    """Send all logs of the process to `stream` (stderr); a second call replaces the earlier configuration.

    `tap` sees each line before the level decides whether it is logged.
    """
    out = stream or sys.stderr
    console = log_format == "console" or (log_format == "auto" and out.isatty())
    _Output.is_for_people = console
    _process_fields.clear()
    bind_process_fields(node=node, cluster=cluster)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_process_fields,
    ]
    structlog.configure(
        processors=[
            *([] if tap is None else [tap]),
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = _make_handler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.StackInfoRenderer(),
                structlog.processors.format_exc_info,
                redact,
                _when_and_what_first,
                _console_renderer(out) if console else structlog.processors.JSONRenderer(default=repr),
            ],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    set_log_level(level)


def set_log_level(level: str) -> None:
    """Log events of this level and above, from now on."""
    root = logging.getLogger()
    root.setLevel(level.upper())
    # At debug level it logs every poll of the event loop.
    logging.getLogger("asyncio").setLevel(max(logging.INFO, root.level))


def _make_handler(out: TextIO) -> logging.Handler:
    close_logging()
    try:
        descriptor = out.fileno()
    except (AttributeError, io.UnsupportedOperation):  # a stream in memory never blocks
        return logging.StreamHandler(out)
    out.flush()
    _Output.writer = LineWriter(descriptor, _report_dropped)
    return _QueueHandler(_Output.writer)


def _report_dropped(lines: int) -> None:
    structlog.get_logger("logs").warning(
        "log_lines_dropped", lines=lines, reason="the reader of the log was slower than the node, or did not read"
    )


def is_read_by_people() -> bool:
    """Return whether the log is text for people, so that what it says needs no second line."""
    return _Output.is_for_people


def print_error(text: str) -> None:
    """Print a text for a person on stderr, in order with the log, without waiting for the reader."""
    if _Output.writer is not None:
        _Output.writer.put(text)
    else:
        sys.stderr.write(text + "\n")


def close_logging() -> None:
    """Write what is queued, for a bounded time. Later lines are written as before `configure_logging`."""
    writer, _Output.writer = _Output.writer, None
    if writer is not None:
        writer.close(_CLOSE_WITHIN_S)


def bind_process_fields(**values: str) -> None:
    """Put these fields on every event of the process from now on; omit empty ones.

    The cluster's id is known only after the bootstrap or after reading the data directory. Context variables do not
    work, because the storage and state machine threads log too.
    """
    _process_fields.update({name: value for name, value in values.items() if value})


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Mask secrets by the name of their key, at any depth, and shorten very long texts."""
    return {key: _clean(key, value, 0) for key, value in event.items()}


def _when_and_what_first(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Put the most important keys at the beginning of the line."""
    return {key: event[key] for key in ("timestamp", "level", "event") if key in event} | dict(event)


def _clean(key: object, value: object, depth: int) -> object:
    if _is_secret(key, value):
        return MASK
    if isinstance(value, str):
        return _clean_text(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth >= _MAX_DEPTH:
        return "[nested too deeply]"
    if isinstance(value, Mapping):
        items = list(value.items())[:MAX_ITEMS]
        return {str(name): _clean(name, inner, depth + 1) for name, inner in items}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean("", inner, depth + 1) for inner in list(value)[:MAX_ITEMS]]
    return _clean_text(str(value))


def _is_secret(key: object, value: object) -> bool:
    name = str(key).lower()
    if name in _SECRET_KEYS:
        return True
    # body_bytes=120 or token_count=3 are numbers, not secrets.
    is_figure = value is None or isinstance(value, bool | int | float)
    return not is_figure and any(part in name for part in _SECRET_PARTS)


def _clean_text(text: str) -> str:
    text = _BEARER.sub("Bearer " + MASK, text)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}... [{len(text)} characters]"


def _add_process_fields(_: WrappedLogger, __: str, event: EventDict) -> MutableMapping[str, object]:
    for name, value in _process_fields.items():
        event.setdefault(name, value)
    return event


def _console_renderer(out: TextIO) -> structlog.dev.ConsoleRenderer:
    # The default renderer prints local variables with a traceback, among them passwords and bodies.
    return structlog.dev.ConsoleRenderer(
        colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=36
    )
