"""Connections that say nothing: closed in time, bounded in number, and within what the process has files for."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import grpc
import grpc.aio
import pytest
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from parleyd import open_files
from parleyd.client_port import server_options
from parleyd.exits import FatalError
from parleyd.open_files import RESERVED_FILES, connections_within, raise_limit
from parleyd.settings.table import Settings
from tests.cluster.raw import health_stub

SETTINGS = Settings(name="n1", data_dir=Path("unused"), max_connections=64, handshake_timeout_ms=300)


@pytest.fixture
def limit() -> Iterator[tuple[int, int]]:
    """The limit of open files, put back afterwards."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def until_closed(reader: asyncio.StreamReader) -> None:
    """Read until the node closes the connection."""
    try:
        while await reader.read(1 << 16):
            pass
    except ConnectionError:
        return


async def test_silent_connections_are_closed_in_time_and_those_beyond_the_bound_at_once() -> None:
    server = grpc.aio.server(options=server_options(SETTINGS))
    service = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.stop, 0)
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(100)]
        for _, writer in silent:
            stack.callback(writer.close)
        closing = [asyncio.ensure_future(until_closed(reader)) for reader, _ in silent]
        async with asyncio.timeout(10):
            await asyncio.wait(closing, return_when=asyncio.FIRST_COMPLETED)
            assert sum(task.done() for task in closing) <= 100 - 64, "the bound closes no more than are beyond it"
            await asyncio.gather(*closing)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            answer = await health_stub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING, "their places are free again"


def test_the_limit_of_open_files_is_raised_for_the_connections(limit: tuple[int, int]) -> None:
    _, hard = limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    raise_limit(100)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (100 + RESERVED_FILES, hard)
    assert open_files.allowed_connections(100) == 100
    raise_limit(50)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 100 + RESERVED_FILES, "never lowered"


def test_a_hard_limit_that_is_too_low_is_logged_with_what_it_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    with structlog.testing.capture_logs() as logs:
        raise_limit(16_384)
    [event] = [each for each in logs if each["event"] == "open_file_limit_low"]
    assert event["effect"] == f"this node accepts {1024 - RESERVED_FILES} connections of clients"
    assert str(16_384 + RESERVED_FILES) in event["advice"]


def test_a_hard_limit_that_no_node_can_work_with_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node with 64 files promised 64 connections, although it had 36 files in use itself."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    with pytest.raises(FatalError, match="at least 128"):
        raise_limit(16_384)


@pytest.mark.parametrize(("files", "allowed"), [(100_000, 1000), (1500, 1500 - RESERVED_FILES), (256, 64), (128, 32)])
def test_files_that_the_cluster_needs_are_never_those_of_clients(files: int, allowed: int) -> None:
    assert connections_within(files, 1000) == allowed


def test_the_settings_reach_the_server() -> None:
    options = dict(server_options(replace(SETTINGS, max_metadata_bytes=5000, max_streams_per_connection=9)))
    assert options["grpc.absolute_max_metadata_size"] == options["grpc.max_metadata_size"] == 5000
    assert options["grpc.max_concurrent_streams"] == 9
