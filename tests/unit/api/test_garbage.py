"""A call that has ended is freed at once. What only the garbage collector frees, it frees at once, and all wait."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest

from parley_proto.v1 import conversations_pb2, model_pb2
from parley_proto.v1 import messaging_pb2 as pb
from parleyd import call_places
from parleyd.api import admission
from parleyd.api.admission import CallLimits
from parleyd.api.auth import Authenticator
from parleyd.delivery.device_hub import DeviceHub
from parleyd.delivery.device_stream import CloseReason
from tests.support.garbage import left_to_the_collector
from tests.support.node import FaultyStream, InProcessCluster
from tests.support.raw import PASSWORD, Person, Raw, until_so
from tests.support.strikes import Steps, Strike, Task, waits_for_an_end

CALLS = 20
ENDS_OF_A_CALL = (asyncio.InvalidStateError, grpc.aio.AioRpcError, grpc.aio.InternalError, type(None))
MOST_STEPS = 200
UNKNOWN = (("authorization", "Bearer " + "A" * 43),)
Call = Callable[[Raw, Person], Awaitable[object]]


@asynccontextmanager
async def running(limits: CallLimits) -> AsyncIterator[tuple[Raw, Person]]:
    """One node with these bounds, and a person at it."""
    cluster = InProcessCluster()
    node = cluster.nodes[0]
    node.call_limits = limits
    cluster.add_account("ann", PASSWORD)
    cluster.add_account("ben", PASSWORD)
    await node.start()
    try:
        async with grpc.aio.insecure_channel(node.address) as channel:
            raw = Raw(channel)
            yield raw, await raw.log_in("ann")
    finally:
        await cluster.stop()


def calls_in_progress() -> list[object]:
    """gRPC's tasks that wait for the ends of calls."""
    return [task for task in asyncio.all_tasks() if waits_for_an_end(task)]


async def answered(raw: Raw, person: Person) -> None:
    request = conversations_pb2.ListConversationsRequest()
    await raw.conversations.ListConversations(request, metadata=person.metadata)


async def refused_in_its_handler(raw: Raw, person: Person) -> None:
    request = conversations_pb2.GetHistoryRequest(account_name="nobody")
    await raw.conversations.GetHistory(request, metadata=person.metadata).code()


async def without_a_token(raw: Raw, _: Person) -> None:
    await raw.conversations.GetHistory(conversations_pb2.GetHistoryRequest()).code()


async def with_an_unknown_token(raw: Raw, _: Person) -> None:
    await raw.conversations.GetHistory(conversations_pb2.GetHistoryRequest(), metadata=UNKNOWN).code()


async def stream_of_a_client_that_dies(raw: Raw, person: Person) -> None:
    async with raw.session(person):
        pass


async def stream_that_the_node_ends(raw: Raw, person: Person) -> None:
    call: Any = raw.messaging.Connect(metadata=person.metadata)
    await call.write(pb.ClientFrame(ping=pb.Ping(nonce=1)))
    await call.code()


async def stream_that_the_node_ends_later(raw: Raw, person: Person) -> None:
    async with raw.session(person) as stream:
        await stream.until_caught_up()
        await stream.write(pb.ClientFrame(hello=pb.Hello()))
        status, _ = await stream.refusal()
        assert status is grpc.StatusCode.INVALID_ARGUMENT


async def stream_that_the_client_ends(raw: Raw, person: Person) -> None:
    call: Any = raw.messaging.Connect(metadata=person.metadata)
    await call.write(pb.ClientFrame(hello=pb.Hello()))
    await frame_of(call, "caught_up")
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


async def fetch(raw: Raw, person: Person) -> None:
    await raw.messaging.Fetch(pb.FetchRequest(hello=pb.Hello()), metadata=person.metadata)


@pytest.mark.parametrize(
    "call",
    [
        answered,
        refused_in_its_handler,
        without_a_token,
        with_an_unknown_token,
        stream_of_a_client_that_dies,
        stream_that_the_client_ends,
        stream_that_the_node_ends,
        stream_that_the_node_ends_later,
        fetch,
    ],
)
async def test_a_call_that_has_ended_leaves_nothing_to_the_garbage_collector(call: Call) -> None:
    async with running(CallLimits()) as (raw, person):
        await call(raw, person)
        await until_so(lambda: not calls_in_progress())
        with left_to_the_collector() as left:
            for _ in range(CALLS):
                await call(raw, person)
            await until_so(lambda: not calls_in_progress())
    assert left.kinds == {}


class Struck:
    """A client with one call, and what may happen to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._client: Task | None = None
        self.is_gone = False
        self._streams: list[Any] = []
        join, send = DeviceHub.join, FaultyStream._send

        def joined(hub: DeviceHub, session_id: int, stream: Any) -> None:
            self._streams.append(stream)
            join(hub, session_id, stream)

        async def sent(stream: FaultyStream, frame: Any) -> None:
            if self.is_gone:
                raise grpc.aio.InternalError("nobody is there")
            await send(stream, frame)

        monkeypatch.setattr(DeviceHub, "join", joined)
        monkeypatch.setattr(FaultyStream, "_send", sent)

    async def run(self, client: Coroutine[Any, Any, None]) -> None:
        """Run the client until its call has ended on both sides."""
        self.is_gone = False
        self._client = asyncio.create_task(client)
        await asyncio.wait([self._client])
        if not self._client.cancelled():
            assert isinstance(self._client.exception(), ENDS_OF_A_CALL)
        await until_so(lambda: not calls_in_progress())
        self._client = None
        self._streams.clear()

    def client_dies(self, _: Task) -> None:
        """The way of it: the node learns of it when it learns of it."""
        self._leave()

    def handler_is_cancelled(self, handler: Task) -> None:
        """What gRPC does when it learns that the client has left."""
        handler.cancel()
        handler.add_done_callback(self._leave)

    def handler_is_cancelled_and_waits(self, handler: Task) -> None:
        """The same, and again while the call ends."""
        self.handler_is_cancelled(handler)
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: loop.call_soon(handler.cancel))

    def node_cannot_write(self, handler: Task) -> None:
        """The client has left, and a frame meets that before gRPC's cancellation does."""
        self.is_gone = True
        handler.add_done_callback(self._leave)
        for stream in self._streams:
            stream.small_frames.offer_pong(1)

    def node_closes_it(self, _: Task) -> None:
        """The node stops, or the session ends."""
        for stream in self._streams:
            stream.close(CloseReason.STOPPING)

    def _leave(self, _: Task | None = None) -> None:
        # Not only the call: what writes the first frame of a call that is cancelled waits without end in grpc.aio.
        if self._client is not None:
            self._client.cancel()


async def busy_stream(raw: Raw, person: Person) -> None:
    """A stream on which each of its tasks has work, and which the client ends."""
    call: Any = raw.messaging.Connect(metadata=person.metadata)
    try:
        await call.write(pb.ClientFrame(hello=pb.Hello()))
        number = (await frame_of(call, "welcome")).welcome.last_send_number + 1
        cursor = (await frame_of(call, "caught_up")).caught_up.cursor
        send = model_pb2.Send(number=number, account_name="ben", body="hello")
        await call.write(pb.ClientFrame(sends=pb.SendBatch(sends=[send])))
        [sent] = (await frame_of(call, "results")).results.results
        await call.write(pb.ClientFrame(delivered=pb.Delivered(cursor=cursor)))
        await call.write(pb.ClientFrame(read=pb.Read(conversation_id=sent.conversation_id, up_to=sent.message_id)))
        await call.write(pb.ClientFrame(typist=pb.Typing(conversation_id=sent.conversation_id)))
        await call.write(pb.ClientFrame(ping=pb.Ping(nonce=1)))
        await frame_of(call, "pong")
        await call.done_writing()
        await call.code()
    finally:
        call.cancel()


async def waiting_fetch(raw: Raw, person: Person) -> None:
    """A single call that is served like a stream."""
    await raw.messaging.Fetch(pb.FetchRequest(hello=pb.Hello(), wait_ms=20), metadata=person.metadata)


async def frame_of(call: Any, kind: str) -> pb.ServerFrame:
    """Read up to a frame of this kind."""
    while isinstance(frame := await call.read(), pb.ServerFrame):
        if frame.WhichOneof("frame") == kind:
            return frame
    raise asyncio.InvalidStateError


STRIKES: list[Callable[[Struck], Strike]] = [
    lambda struck: struck.client_dies,
    lambda struck: struck.handler_is_cancelled,
    lambda struck: struck.handler_is_cancelled_and_waits,
    lambda struck: struck.node_cannot_write,
    lambda struck: struck.node_closes_it,
]


@pytest.mark.parametrize(
    "strike_of", STRIKES, ids=["dies", "cancelled", "cancelled twice", "cannot be written to", "closed"]
)
@pytest.mark.parametrize("call", [busy_stream, waiting_fetch])
async def test_a_stream_that_is_struck_at_any_step_leaves_nothing_to_the_garbage_collector(
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[Raw, Person], Coroutine[Any, Any, None]],
    strike_of: Callable[[Struck], Strike],
) -> None:
    steps, struck = Steps(), Struck(monkeypatch)
    strike = strike_of(struck)
    async with running(CallLimits()) as (raw, person):
        await struck.run(call(raw, person))
        with steps.counted(), left_to_the_collector() as left:
            for step in range(1, MOST_STEPS):
                with steps.struck_after(step, strike):
                    await struck.run(call(raw, person))
                if not steps.was_struck:
                    break
    assert not steps.was_struck
    assert step > 10
    assert left.kinds == {}


async def test_few_unknown_tokens_are_looked_up_at_once_and_newcomers_come_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All that wait for one answer of the leader would go on in one turn of the event loop."""
    inside: set[asyncio.Task[Any] | None] = set()
    answer = asyncio.Event()

    async def read_barrier(_: Authenticator) -> None:
        inside.add(asyncio.current_task())
        await answer.wait()

    monkeypatch.setattr(call_places, "SURE_S", 0.0)
    async with running(CallLimits(calls_per_address=60)) as (raw, person):
        monkeypatch.setattr(Authenticator, "read_barrier", read_barrier)
        request = conversations_pb2.ListConversationsRequest()
        strangers = [raw.conversations.ListConversations(request, metadata=UNKNOWN) for _ in range(60)]
        await until_so(lambda: len(calls_in_progress()) == 60)
        # All places of this address are taken. A member's call has the place of a stranger's that waits.
        await raw.conversations.ListConversations(request, metadata=person.metadata, timeout=5)
        assert len(inside) <= admission.UNKNOWN_TOKENS // 2 + 1
        answer.set()
        codes = Counter([await stranger.code() for stranger in strangers])
    assert codes == {grpc.StatusCode.UNAUTHENTICATED: 59, grpc.StatusCode.RESOURCE_EXHAUSTED: 1}
