"""A node ends a stream while the client writes: the client learns why, although gRPC forgets it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn, cast

import grpc
import pytest

from parley import ConnectionState
from parley.net.call_end import CallEnd
from parley.net.message_stream import MessageStream
from parley.net.stream_closed import StreamClosedError, why_closed
from parley.wire.actions import StreamCloseReason
from parley_proto.v1 import messaging_pb2, messaging_pb2_grpc
from tests.support.node import running_cluster
from tests.unit.client.helpers import PASSWORD, signed_in, until

TEXT = "This session has ended. Sign in again."
ROUNDS = 200


async def refuse(_: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, TEXT, (("parley-outcome", "none"),))


@asynccontextmanager
async def refusing() -> AsyncIterator[grpc.aio.Channel]:
    """A server that refuses each stream, as a node does with a session that was ended."""
    server = grpc.aio.server()
    handler: Any = grpc.stream_stream_rpc_method_handler(cast(Any, refuse))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("parley.v1.Messaging", {"Connect": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)


async def write_until_it_ends(call: Any) -> None:
    while True:
        await call.write(messaging_pb2.ClientFrame())


async def test_the_status_of_a_node_is_known_although_grpc_forgets_it() -> None:
    forgotten = 0
    async with refusing() as channel:
        for _ in range(ROUNDS):
            end = CallEnd()
            call = end.watch(messaging_pb2_grpc.MessagingStub(channel).Connect())
            with pytest.raises((grpc.aio.AioRpcError, asyncio.InvalidStateError)):
                await write_until_it_ends(call)
            forgotten += await call.code() is grpc.StatusCode.INTERNAL
            assert end.error is not None
            assert end.error.code() is grpc.StatusCode.UNAUTHENTICATED
            assert end.error.details() == TEXT
            assert ("parley-outcome", "none") in tuple(end.error.trailing_metadata())
            if forgotten:
                return
    pytest.skip("gRPC has forgotten no status")


def leaf(error: Exception) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup("tasks", [error])


def of(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)


@pytest.mark.parametrize(
    "error",
    [of(grpc.StatusCode.INTERNAL, "Internal error from Core"), asyncio.InvalidStateError("RPC already finished.")],
)
def test_what_the_node_said_is_why_a_stream_ended_and_not_what_grpc_made_of_it(error: Exception) -> None:
    closed = why_closed(leaf(error), "n1", insecure=True, ended=of(grpc.StatusCode.UNAUTHENTICATED, TEXT))
    assert isinstance(closed, StreamClosedError)
    assert closed.reason is StreamCloseReason.SIGNED_OUT
    assert closed.text == TEXT


def test_a_stream_that_no_node_ended_ends_by_what_its_tasks_say() -> None:
    closed = why_closed(leaf(of(grpc.StatusCode.INTERNAL, "Internal error from Core")), "n1", insecure=True)
    assert isinstance(closed, StreamClosedError)
    assert closed.reason is StreamCloseReason.LOST
    assert closed.text == "n1 gave no clear answer (the connection was cut)."


async def test_a_client_that_writes_is_told_what_the_node_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node ends the stream between the frames of a client that sends much."""
    texts: list[str] = []
    run = MessageStream.run

    async def recorded(stream: MessageStream, welcome_timeout_s: float, starts: asyncio.Semaphore) -> NoReturn:
        try:
            await run(stream, welcome_timeout_s, starts)
        except StreamClosedError as closed:
            texts.append(closed.text)
            raise

    monkeypatch.setattr(MessageStream, "run", recorded)
    async with running_cluster(("n1",)) as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path) as anna:
            for round_ in range(5):
                await anna.wait_until(ConnectionState.CONNECTED, timeout=5)
                cluster.nodes[0].faults.break_after_sends = 1
                await anna.send_many([("bob", f"{round_} {number} " + "x" * 30_000) for number in range(300)])
                await until(lambda: len(texts) > round_, "the node has ended the stream")  # noqa: B023 - asked here
    assert {text.partition(" broke ")[2] for text in texts} == {"before it answered (the connection was cut)."}
