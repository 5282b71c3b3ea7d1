"""Connections without a call: whose have to go while connections run short, and that a process can close its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import grpc
import grpc.aio
import pytest
import structlog.testing

from parley_proto.v1 import admin_pb2
from parleyd import connections
from parleyd.api.callers import owner_at
from parleyd.connections import SURE_S, BusyPeers, ConnectionWatch, IdleConnections
from parleyd.owners import Owner
from parleyd.port_sockets import PortSockets
from parleyd.sources import Peer, source_of_host
from tests.support.node import InProcessNode
from tests.support.raw import Raw


def owner_of(host: str) -> Owner:
    return owner_at(source_of_host(host), host)


def peers(host: str, count: int) -> list[Peer]:
    return [(host, port) for port in range(1000, 1000 + count)]


def test_nothing_is_closed_while_a_quarter_is_free() -> None:
    idle, connected = IdleConnections(8, owner_of), peers("10.0.0.1", 6)
    assert [idle.excess(connected, (), now_s) for now_s in (0.0, 3600.0)] == [[], []]


def test_whoever_has_the_most_loses_those_that_are_idle_longest() -> None:
    idle = IdleConnections(8, owner_of)
    nurse, flood = peers("192.0.2.1", 2), peers("10.0.0.1", 6)
    assert idle.excess(nurse + flood[3:], (), 0.0) == []
    assert idle.excess(nurse + flood, (), 0.5) == [], "they are new"
    assert idle.excess(nurse + flood, (), SURE_S) == flood[3:5]


def test_addresses_of_one_network_count_together() -> None:
    idle = IdleConnections(8, owner_of)
    connected = [*peers("192.0.2.1", 2), *((f"10.0.0.{number}", 1) for number in range(6))]
    idle.excess(connected, (), 0.0)
    closing = idle.excess(connected, (), SURE_S)
    assert [host.startswith("10.0.0.") for host, _ in closing] == [True, True]


def test_a_connection_with_a_call_stays_and_is_not_idle_before_the_call_ends() -> None:
    idle, busy = IdleConnections(4, owner_of), BusyPeers()
    connected = peers("10.0.0.1", 4)
    with ExitStack() as calls:
        for peer in connected:
            calls.enter_context(busy.one(peer))
        assert [idle.excess(connected, busy.peers, now_s) for now_s in (0.0, 9.0)] == [[], []]
    assert idle.excess(connected, busy.peers, 9.5) == []
    assert idle.excess(connected, busy.peers, 9.5 + SURE_S) == connected[:1]


@pytest.fixture
def opened() -> Iterator[list[socket.socket]]:
    connections: list[socket.socket] = []
    yield connections
    for connection in connections:
        connection.close()


async def test_the_port_of_clients_names_the_connection_of_each_call(node: InProcessNode, raw: Raw) -> None:
    node.faults.hang = True
    call = asyncio.ensure_future(raw.admin.GetStatus(admin_pb2.GetStatusRequest(), timeout=10))
    await node.reached.wait()
    [peer] = node.busy.peers
    watch = ConnectionWatch(node.port, IdleConnections(1, owner_of), node.busy)
    assert [*PortSockets(node.port).connected()] == [peer]
    await watch.look()
    node.release()
    await call
    assert not node.busy.peers


async def test_a_process_closes_its_idle_connections_of_one_port_only(
    opened: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SURE_S", 0.0)
    servers = [grpc.aio.server(), grpc.aio.server()]
    ports = [server.add_insecure_port("127.0.0.1:0") for server in servers]
    for server in servers:
        await server.start()
    opened += [socket.create_connection(("127.0.0.1", port)) for port in (*[ports[0]] * 4, *[ports[1]] * 4)]
    busy = BusyPeers()
    watch = ConnectionWatch(ports[0], IdleConnections(4, owner_of), busy)
    with busy.one(opened[0].getsockname()), structlog.testing.capture_logs() as logs:
        async with asyncio.timeout(10):
            while not all([await _has_ended(connection) for connection in opened[1:4]]):
                opened += [socket.create_connection(("127.0.0.1", ports[0]))]
                await watch.look()
    assert [log["event"] for log in logs] == ["idle_connections_closed"], "one line for all of a minute"
    assert [await _has_ended(connection) for connection in (opened[0], *opened[4:8])] == [False] * 5
    for server in servers:
        await server.stop(0)


async def _has_ended(connection: socket.socket) -> bool:
    """Read what gRPC has sent, and return whether the connection is at its end."""
    connection.setblocking(False)
    try:
        while await asyncio.sleep(0, connection.recv(4096)):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
