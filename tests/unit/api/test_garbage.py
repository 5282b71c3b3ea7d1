"""A call that has ended is freed at once. What only the garbage collector frees, it frees at once, and all wait."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest

from parley_proto.v1 import conversations_pb2
from parley_proto.v1 import messaging_pb2 as pb
from parleyd import call_places
from parleyd.api import admission
from parleyd.api.admission import CallLimits
from parleyd.api.auth import Authenticator
from tests.support.node import InProcessCluster
from tests.support.raw import PASSWORD, Person, Raw, until_so

CALLS = 20
KEPT = {"RPCState", "_ServicerContext", "AbortError", "CancelledError", "ClientStream", "Timeout", "Task"}
"""Of each there are few in a call. A stream that ends while it writes may leave one chain of two dozen frames."""
UNKNOWN = (("authorization", "Bearer " + "A" * 43),)
Call = Callable[[Raw, Person], Awaitable[object]]


@asynccontextmanager
async def running(limits: CallLimits) -> AsyncIterator[tuple[Raw, Person]]:
    """One node with these bounds, and a person at it."""
    cluster = InProcessCluster()
    node = cluster.nodes[0]
    node.call_limits = limits
    cluster.add_account("ann", PASSWORD)
    await node.start()
    try:
        async with grpc.aio.insecure_channel(node.address) as channel:
            raw = Raw(channel)
            yield raw, await raw.log_in("ann")
    finally:
        await cluster.stop()


def calls_in_progress() -> list[object]:
    """gRPC's tasks that wait for the ends of calls."""
    coroutines = [task.get_coro() for task in asyncio.all_tasks()]
    return [each for each in coroutines if getattr(each, "__name__", "") == "_schedule_rpc_coro"]


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


@pytest.mark.parametrize(
    "call",
    [
        answered,
        refused_in_its_handler,
        without_a_token,
        with_an_unknown_token,
        stream_of_a_client_that_dies,
        stream_that_the_node_ends,
    ],
)
async def test_a_call_that_has_ended_leaves_nothing_to_the_garbage_collector(call: Call) -> None:
    async with running(CallLimits()) as (raw, person):
        await call(raw, person)
        await until_so(lambda: not calls_in_progress())
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for _ in range(CALLS):
                await call(raw, person)
            await until_so(lambda: not calls_in_progress())
            gc.collect()
            left = Counter(type(one).__name__ for one in gc.garbage)
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert {kind: left[kind] for kind in KEPT if left[kind] >= CALLS // 2} == {}


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
