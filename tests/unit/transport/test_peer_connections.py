"""Connections to the peer port: whoever only holds them must not keep members away.

What can go wrong: idle connections of a certified stranger take all places of the port; a connection with a call in
progress, as every member has, ends with them.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, cast

import grpc
import grpc.aio

from parley_proto.v1 import peer_pb2 as pb
from parley_proto.v1 import peer_pb2_grpc
from parleyd.transport.channels import MAX_PEER_CONNECTIONS, PEER_IDLE_MS, SERVER_OPTIONS, peer_channel

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # with an empty SETTINGS frame


def held_streams(held: asyncio.Event) -> grpc.GenericRpcHandler:
    """Return handlers of the Peer service: Deliver holds its stream, Handshake answers."""

    async def deliver(_: object, __: object) -> pb.DeliverSummary:
        held.set()
        await asyncio.get_running_loop().create_future()
        return pb.DeliverSummary()

    async def handshake(request: pb.HandshakeInfo, _: object) -> pb.HandshakeInfo:
        return request

    handlers: dict[str, Any] = {
        "Deliver": grpc.stream_unary_rpc_method_handler(
            cast(Any, deliver), pb.RaftBatch.FromString, pb.DeliverSummary.SerializeToString
        ),
        "Handshake": grpc.unary_unary_rpc_method_handler(
            cast(Any, handshake), pb.HandshakeInfo.FromString, pb.HandshakeInfo.SerializeToString
        ),
    }
    return grpc.method_handlers_generic_handler("parley.v1.Peer", handlers)


async def closed(reader: asyncio.StreamReader) -> None:
    """Wait until the server has closed the connection."""
    with contextlib.suppress(ConnectionError):
        while await reader.read(4096):
            pass


async def test_idle_connections_end_and_those_with_a_call_stay() -> None:
    held, server = asyncio.Event(), grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers((held_streams(held),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    member, late = (peer_channel(f"127.0.0.1:{port}", None) for _ in range(2))
    idle: list[asyncio.StreamWriter] = []
    try:
        deliver = peer_pb2_grpc.PeerStub(member).Deliver()
        await held.wait()
        readers = []
        for _ in range(MAX_PEER_CONNECTIONS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(PREFACE)
            readers.append(reader)
            idle.append(writer)
        async with asyncio.timeout(20 * PEER_IDLE_MS / 1000):
            await asyncio.gather(*map(closed, readers))
            handshake = pb.HandshakeInfo(cluster_id="c")
            assert await peer_pb2_grpc.PeerStub(late).Handshake(handshake, wait_for_ready=True) == handshake
        assert not deliver.done(), "the member's connection has a call"
        deliver.cancel()
    finally:
        for writer in idle:
            writer.close()
        for channel in (member, late):
            await channel.close()
        await server.stop(grace=0)
