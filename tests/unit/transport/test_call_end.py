"""A peer ends a call while this node writes: the node learns why, although gRPC forgets it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc
import grpc.aio
import pytest

from parley_proto.v1 import peer_pb2 as pb
from parley_proto.v1 import peer_pb2_grpc
from parleyd.transport.call_end import writing_to
from parleyd.transport.peer_calls import METADATA_REMOVED, was_refused_as_removed

TEXT = "node 2 was removed from this cluster"
ROUNDS = 50


async def refuse(_: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, TEXT, ((METADATA_REMOVED, "yes"),))


@asynccontextmanager
async def refusing() -> AsyncIterator[grpc.aio.Channel]:
    """A server that refuses each stream, as a member does with a node that was removed."""
    server = grpc.aio.server()
    handler: Any = grpc.stream_unary_rpc_method_handler(cast(Any, refuse))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("parley.v1.Peer", {"Deliver": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)


async def write_until_it_ends(call: Any) -> None:
    async with writing_to(call) as write:
        while True:
            await write(pb.RaftBatch())


async def test_a_removed_node_learns_it_also_if_it_is_writing_when_it_is_refused() -> None:
    async with refusing() as channel:
        for _ in range(ROUNDS):
            call: Any = peer_pb2_grpc.PeerStub(channel).Deliver()
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await write_until_it_ends(call)
            assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert refused.value.details() == TEXT
            assert was_refused_as_removed(refused.value)


async def test_a_call_is_cancelled_at_the_end_and_its_own_error_stays() -> None:
    async with refusing() as channel:
        call: Any = peer_pb2_grpc.PeerStub(channel).Deliver()
        with pytest.raises(OSError, match="the disk"):
            async with writing_to(call):
                raise OSError("the disk is full")
        assert call.done()
