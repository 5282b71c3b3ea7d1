"""A reader of the log that does not read stops nobody: lines wait up to a bound, and what is dropped is counted."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import grpc
import pytest
import structlog

from parleyd.observability import logs
from parleyd.observability.line_writer import LineWriter
from scripts.cluster_layout import create_layout, plan_private_nodes

PIPE_BYTES = 4096


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A small pipe that nobody reads yet."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    yield reader, writer
    for descriptor in (reader, writer):
        os.close(descriptor)


def fill(writer: int) -> None:
    """Leave no room in a pipe, so that the next write waits."""
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x")
    except BlockingIOError:
        os.set_blocking(writer, True)


def read_until(reader: int, text: str) -> str:
    found = b""
    while text.encode() not in found:
        assert select.select([reader], [], [], 10)[0], f"{text!r} does not come"
        found += os.read(reader, 1 << 16)
    return found.decode()


def test_who_logs_never_waits_and_what_was_dropped_is_reported(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    fill(writer)
    reported: list[int] = []
    lines = LineWriter(writer, reported.append, max_bytes=1000)
    for number in range(5000):
        lines.put(f"line {number:>5}")
    os.read(reader, PIPE_BYTES)
    written = read_until(reader, "\n").splitlines()
    lines.put("the end")
    written += read_until(reader, "the end").splitlines()
    lines.close(10)
    assert written[0] == "line     0"
    kept = sum(line.startswith("line") for line in written)
    assert kept < 500, "a few times the bound: what the thread has taken, and what waits"
    assert sum(reported) == 5000 - kept


def test_a_log_whose_reader_is_gone_is_no_error() -> None:
    gone_reader, gone = os.pipe()
    os.close(gone_reader)
    lines = LineWriter(gone, lambda _: None)
    lines.put("to nobody")
    lines.close(10)
    os.close(gone)


def test_closing_ends_although_nobody_reads(pipe: tuple[int, int]) -> None:
    _, writer = pipe
    fill(writer)
    lines = LineWriter(writer, lambda _: None)
    lines.put("waits")
    lines.close(0.01)
    lines.put("is dropped")


def test_dropped_lines_are_an_event_of_the_log(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LineWriter", partial(LineWriter, max_bytes=10_000))
    reader, writer = pipe
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with os.fdopen(os.dup(writer), "w") as stream:
        fill(writer)
        try:
            logs.configure_logging("info", "json", node="n1", stream=stream)
            log = structlog.get_logger("test")
            for number in range(1_000):
                log.info("happened", number=number)
            os.read(reader, PIPE_BYTES)
            found = read_until(reader, "log_lines_dropped")
            logs.close_logging()
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
            structlog.reset_defaults()
    dropped = next(json.loads(line) for line in found.splitlines() if "log_lines_dropped" in line and line[-1] == "}")
    assert dropped["lines"] > 0


def test_a_node_starts_and_stops_as_planned_although_nobody_reads_its_log(
    tmp_path: Path, pipe: tuple[int, int]
) -> None:
    """A stalled reader of stderr stopped the node."""
    _, writer = pipe
    fill(writer)
    layout = create_layout(tmp_path, plan_private_nodes(1), {"bcrypt_cost": 10})
    config = layout.config_file(layout.names[0])
    node = subprocess.Popen([sys.executable, "-m", "parleyd", "start", "--config", str(config)], stderr=writer)
    try:
        credentials = grpc.ssl_channel_credentials(layout.ca_file.read_bytes())
        with grpc.secure_channel(layout.node(layout.names[0]).client_address, credentials) as channel:
            grpc.channel_ready_future(channel).result(20)
        node.send_signal(signal.SIGTERM)
        assert node.wait(20) == 0
    finally:
        node.kill()
        node.wait()
