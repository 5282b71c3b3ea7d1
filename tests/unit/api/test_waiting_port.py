"""A node without a cluster tells clients what it waits for, and frees its port when it serves.

What can go wrong: "connection refused", by which a person looks for a mistake in the address, an outcome that is called
unknown, or a port that is still taken when the node wants to serve.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from parley import ParleyClient
from parley_proto.v1 import accounts_pb2
from parley_proto.v1.accounts_pb2_grpc import AccountsStub
from parley_proto.v1.messaging_pb2_grpc import MessagingStub
from parleyd.exits import FatalError
from parleyd.settings.load import load_settings
from parleyd.settings.table import Settings
from parleyd.waiting_port import waiting_port


def settings_at(folder: Path, address: str, **flags: object) -> Settings:
    """The settings of a first node of three, or of one that joins."""
    peers = flags or {"peers": "n1=127.0.0.1:1,n2=127.0.0.1:2,n3=127.0.0.1:3"}
    given = {"name": "n1", "data_dir": str(folder), "insecure": True, "client_listen": address} | peers
    return load_settings(given, {}).settings


@pytest.fixture
def address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


async def log_in(channel: grpc.aio.Channel) -> None:
    await AccountsStub(channel).LogIn(accounts_pb2.LogInRequest(name="anna"))


async def connect(channel: grpc.aio.Channel) -> None:
    call: Any = MessagingStub(channel).Connect()
    await call.read()  # no frame before it: gRPC forgets the status if it is refused meanwhile (net/call_end.py)


@pytest.mark.parametrize("call", [log_in, connect])
async def test_calls_and_streams_are_told_what_the_node_waits_for_and_that_nothing_was_done(
    tmp_path: Path, address: str, call: Callable[[grpc.aio.Channel], Awaitable[None]]
) -> None:
    async with waiting_port(settings_at(tmp_path, address), None), grpc.aio.insecure_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(channel)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "waits for the other first nodes" in str(refused.value.details())
        assert "n1, n2, n3" in str(refused.value.details())
        assert ("parley-outcome", "none") in tuple(refused.value.trailing_metadata() or ())


async def test_the_status_that_a_client_shows_has_the_reason(tmp_path: Path, address: str) -> None:
    async with (
        waiting_port(settings_at(tmp_path, address), None),
        ParleyClient([address], insecure=True, state_dir=tmp_path / "state", connect=False) as client,
    ):
        [node] = (await client.cluster_status()).nodes
        assert "waits for the other first nodes" in node.error


async def test_a_node_that_joins_says_who_admits_it(tmp_path: Path, address: str) -> None:
    settings = settings_at(tmp_path, address, join="n2=127.0.0.1:2")
    async with waiting_port(settings, None), grpc.aio.insecure_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await log_in(channel)
        assert "parley cluster add" in str(refused.value.details())


async def test_the_port_is_free_again_afterwards_also_while_a_client_is_connected(tmp_path: Path, address: str) -> None:
    settings = settings_at(tmp_path, address)
    async with grpc.aio.insecure_channel(address) as channel:
        for _ in range(3):
            async with waiting_port(settings, None):
                with pytest.raises(grpc.aio.AioRpcError):
                    await AccountsStub(channel).LogIn(accounts_pb2.LogInRequest(), wait_for_ready=True)


async def test_a_port_that_is_taken_stops_the_node(tmp_path: Path, address: str) -> None:
    host, _, port = address.rpartition(":")
    with socket.create_server((host, int(port))), pytest.raises(FatalError, match="client_listen"):
        async with waiting_port(settings_at(tmp_path, address), None):
            raise AssertionError("it was not noticed")
