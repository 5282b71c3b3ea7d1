"""A connection over a long or slow line is made: by a node to another, by a client, and by the scripts.

What can go wrong: gRPC gives up an attempt when the shortest time between two attempts has passed. If that is less than
the handshakes take, every attempt is given up, and the nodes of two sites never hear each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc.aio
import pytest

from parley.net.channel import ChannelPool, Security
from parley.wire.endpoints import parse_endpoints
from parleyd.transport.channels import SERVER_OPTIONS, peer_channel
from scripts.cluster_status import insecure_channel
from tests.abuse.relays import Relay

WAY_S = 1.2
"""Each way. A server says its first word at once, so one way makes this connection. With TLS it takes three."""

OPEN: dict[str, Callable[[str], grpc.aio.Channel]] = {
    "a node": lambda address: peer_channel(address, None),
    "a client": lambda address: ChannelPool(Security(insecure=True)).get(*parse_endpoints([address])),
    "a script": insecure_channel,
}


@pytest.mark.parametrize("who", OPEN)
async def test_a_connection_that_takes_more_than_a_second_is_made(who: str) -> None:
    server = grpc.aio.server(options=SERVER_OPTIONS)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    relay = Relay(f"127.0.0.1:{port}", way_s=WAY_S)
    await relay.open()
    channel = OPEN[who](f"127.0.0.1:{relay.port}")
    try:
        async with asyncio.timeout(15):
            await channel.channel_ready()
    finally:
        await channel.close()
        await relay.cut()
        await server.stop(None)
