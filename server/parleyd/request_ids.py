"""The id of a client's request: from the client or made here, on each line of the log that the request causes.

It goes along to the leader with what is forwarded, so one search in the logs of all nodes tells the way of a request.
An id of another form than ours is never used or logged: this node makes a new one. Sends of messages have none, because
they write no line.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass

import structlog

REQUEST_ID_KEY = "x-parley-request-id"
"""In the metadata of a call, and beside the status of one that failed."""
MAX_LINES_PER_S = 50

_FORM = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{7,31}")


@dataclass(frozen=True, slots=True)
class _Request:
    request_id: str = ""
    is_carried: bool = False


_CURRENT: ContextVar[_Request] = ContextVar("the request of this task", default=_Request())  # noqa: B039 - frozen


def checked(text: object) -> str:
    """Return an id of our form; otherwise an empty text."""
    return text if isinstance(text, str) and _FORM.fullmatch(text) else ""


def begin_request(metadata: Iterable[tuple[str, object]] | None, *, is_carried: bool) -> None:
    """Put the id of this task's call on its lines, from the call's metadata or a new one.

    With `is_carried` it goes along to other nodes.
    """
    sent = next((checked(value) for key, value in metadata or () if key == REQUEST_ID_KEY), "")
    request_id = sent or secrets.token_hex(8)
    _CURRENT.set(_Request(request_id, is_carried))
    structlog.contextvars.bind_contextvars(request_id=request_id)


def current_request_id() -> str:
    """Return the id of this task's call; empty without one."""
    return _CURRENT.get().request_id


def carried_request_id() -> str:
    """Return the id that goes along with what this task sends to other nodes; empty without one."""
    current = _CURRENT.get()
    return current.request_id if current.is_carried else ""


def carried_metadata() -> tuple[tuple[str, str], ...]:
    """Return the same as metadata of a call."""
    request_id = carried_request_id()
    return ((REQUEST_ID_KEY, request_id),) if request_id else ()


class RequestLog:
    """Writes lines about requests, at most `lines_per_s`; the next line says how many were left out."""

    def __init__(
        self,
        logger: str,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        lines_per_s: int = MAX_LINES_PER_S,
        level: int = logging.INFO,
    ) -> None:
        self._logger = structlog.get_logger(logger)
        self._monotonic = monotonic
        self._lines_per_s = lines_per_s
        self._level = level
        self._second = 0
        self._lines = 0
        self._left_out = 0

    def line(self, event: str, **fields: object) -> None:
        """Write a line, or count it."""
        second = int(self._monotonic())
        if second != self._second:
            self._second, self._lines = second, 0
        if self._lines >= self._lines_per_s:
            self._left_out += 1
            return
        self._lines += 1
        left_out, self._left_out = self._left_out, 0
        self._logger.log(self._level, event, **fields, **({"lines_left_out": left_out} if left_out else {}))
