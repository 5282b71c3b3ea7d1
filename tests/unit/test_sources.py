"""Where connections come from, in one spelling, and which sockets of the process are whose."""

from __future__ import annotations

import asyncio

import pytest

from parleyd.port_sockets import PortSockets
from parleyd.sources import Peer, peer_of_text


@pytest.mark.parametrize(
    ("text", "peer"),
    [
        ("ipv4:10.0.0.1:80", ("10.0.0.1", 80)),
        ("ipv6:%5B::1%5D:80", ("::1", 80)),
        ("ipv6:[::ffff:10.0.0.1]:80", ("10.0.0.1", 80)),
        ("ipv6:%5Bfe80::1%25eth0%5D:80", ("fe80::1", 80)),
        ("unix:/tmp/x", ("unix:/tmp/x", 0)),
    ],
)
def test_grpcs_text_of_the_other_end_is_read(text: str, peer: Peer) -> None:
    assert peer_of_text(text) == peer


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_only_the_connection_that_is_meant_is_shut_down(host: str) -> None:
    """The files of a process have many owners."""
    ended: asyncio.Queue[Peer] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        ended.put_nowait(writer.get_extra_info("peername")[:2])
        writer.close()

    first, second = [await asyncio.start_server(serve, host, 0) for _ in range(2)]
    async with first, second, asyncio.timeout(10):
        ports = [server.sockets[0].getsockname()[1] for server in (first, second)]
        opened = [await asyncio.open_connection(host, port) for port in (*ports, ports[0])]
        mine: list[Peer] = [writer.get_extra_info("sockname")[:2] for _, writer in opened]
        sockets, others = (PortSockets(port) for port in ports)
        while len(connected := sockets.connected()) < 2 or not others.connected():  # not all are accepted yet
            await asyncio.to_thread(sockets.connected)
        assert connected.keys() == {mine[0], mine[2]}
        assert not sockets.shut_down(others.connected()[mine[1]], mine[0])
        assert sockets.shut_down(connected[mine[0]], mine[0])
        assert await opened[0][0].read() == b""
        assert await ended.get() == mine[0]
        assert ended.empty()
        for _, writer in opened:
            writer.close()
        assert {await ended.get(), await ended.get()} == set(mine[1:])
