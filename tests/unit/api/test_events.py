"""The events of a node over the wire: for administrators only, bounded, without doubles, and never after the rights."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from parley_proto.v1 import admin_pb2 as pb
from parleyd.api import events as served
from parleyd.events.event import Event
from parleyd.events.ring import EventRing
from tests.support.node import InProcessCluster, InProcessNode
from tests.support.raw import PASSWORD, Person, Raw, until_so


@pytest.fixture
async def admin(cluster: InProcessCluster, raw: Raw) -> Person:
    """The first account here is an administrator."""
    cluster.add_account("boss", PASSWORD)
    return await raw.log_in("boss")


def happen(node: InProcessNode, *terms: int) -> None:
    for term in terms:
        node.events.record("vote_given", {"term": term, "candidate": "n1"})


def follow(raw: Raw, person: Person, *, after: tuple[int, int] = (0, 0), once: bool = False) -> Any:
    position = pb.EventPosition(start=after[0], number=after[1])
    return raw.admin.FollowEvents(pb.FollowEventsRequest(after=position, follow=not once), metadata=person.metadata)


async def next_of(call: Any) -> pb.EventBatch:
    async with asyncio.timeout(10):
        batch = await call.read()
    assert isinstance(batch, pb.EventBatch)
    return batch


async def read_to_end(call: Any) -> None:
    while True:
        assert not (await next_of(call)).events


async def terms(batches: AsyncIterator[pb.EventBatch]) -> list[int]:
    return [event.fields["term"].number async for batch in batches for event in batch.events]


async def test_what_is_in_memory_is_told_once_and_then_the_stream_ends(
    node: InProcessNode, raw: Raw, admin: Person
) -> None:
    happen(node, *range(600))
    batches = [batch async for batch in follow(raw, admin, once=True)]
    assert [event.fields["term"].number for batch in batches for event in batch.events] == [*range(600)]
    assert {(batch.node, batch.start) for batch in batches} == {(node.name, node.events.start)}
    first = batches[0].events[0]
    assert (first.number, first.kind, first.topic, first.fields["candidate"].text) == (1, "vote_given", "raft", "n1")


async def test_a_node_without_events_says_at_once_that_it_has_none(
    node: InProcessNode, raw: Raw, admin: Person
) -> None:
    [batch] = [batch async for batch in follow(raw, admin, once=True)]
    assert (batch.node, len(batch.events)) == (node.name, 0)


async def test_a_follower_hears_each_event_when_it_happens_also_from_another_thread(
    node: InProcessNode, raw: Raw, admin: Person
) -> None:
    call = follow(raw, admin)
    assert not (await next_of(call)).events
    happen(node, 1)
    assert [event.number for event in (await next_of(call)).events] == [1]
    await asyncio.to_thread(happen, node, 2)
    assert [event.number for event in (await next_of(call)).events] == [2]
    call.cancel()


async def test_who_comes_back_with_a_position_gets_the_rest_and_after_a_new_start_everything(
    node: InProcessNode, raw: Raw, admin: Person
) -> None:
    happen(node, 1, 2, 3)
    start = node.events.start
    assert await terms(follow(raw, admin, after=(start, 2), once=True)) == [3]
    assert await terms(follow(raw, admin, after=(start, 3), once=True)) == []
    assert await terms(follow(raw, admin, after=(start - 1, 2), once=True)) == [1, 2, 3]


async def test_a_follower_that_was_away_for_too_long_hears_how_much_it_missed(
    node: InProcessNode, raw: Raw, admin: Person
) -> None:
    node.events.ring = EventRing(capacity=2)
    happen(node, 1, 2, 3, 4)
    call = follow(raw, admin, after=(node.events.start, 1), once=True)
    [batch] = [batch async for batch in call]
    assert (batch.missed, [event.number for event in batch.events]) == (1, [3, 4])


async def test_only_an_administrator_is_told(cluster: InProcessCluster, raw: Raw, admin: Person) -> None:
    cluster.add_account("ann", PASSWORD)
    ann = await raw.log_in("ann")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await terms(follow(raw, ann))
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_follower_whose_session_ends_hears_nothing_more(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw, admin: Person
) -> None:
    call = follow(raw, admin)
    await next_of(call)
    cluster.end_sessions()
    happen(node, 1)
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        assert not (await next_of(call)).events
    assert ended.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_quiet_follower_gets_an_empty_batch_and_is_looked_up_again(
    cluster: InProcessCluster, raw: Raw, admin: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "QUIET_S", 0.01)
    call = follow(raw, admin)
    for _ in range(3):
        assert not (await next_of(call)).events
    cluster.end_sessions()
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await read_to_end(call)
    assert ended.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_one_follower_too_many_is_refused_until_another_leaves(
    node: InProcessNode, raw: Raw, admin: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node.followers, "_most", 2)
    calls = [follow(raw, admin) for _ in range(2)]
    for call in calls:
        await next_of(call)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await terms(follow(raw, admin))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "2 followers" in (refused.value.details() or "")
    calls[0].cancel()
    await until_so(lambda: vars(node.followers)["_followed"] == 1)
    call = follow(raw, admin)
    await next_of(call)
    for one in (*calls, call):
        one.cancel()


async def test_a_node_that_stops_tells_what_happened_until_then_and_ends_the_stream(
    node: InProcessNode, raw: Raw, admin: Person
) -> None:
    call = follow(raw, admin)
    await next_of(call)
    happen(node, 1)
    node.events.ring.end_round()
    assert [event.number for event in (await next_of(call)).events] == [1]
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await read_to_end(call)
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "This node stops" in (ended.value.details() or "")


async def test_nothing_is_left_behind_by_followers_that_leave(node: InProcessNode, raw: Raw, admin: Person) -> None:
    for _ in range(5):
        call = follow(raw, admin)
        await next_of(call)
        call.cancel()
    await until_so(lambda: not vars(node.events.ring)["_listeners"])
    assert vars(node.followers)["_followed"] == 0


def test_any_value_of_an_event_can_be_sent() -> None:
    event = Event(1, 2, 3, "vote_given", {"a": 1 << 70, "b": True, "c": "\ud800x", "d": -5})
    sent = served.encode_event(event).fields
    assert (sent["a"].text, sent["b"].flag, sent["c"].text, sent["d"].number) == (str(1 << 70), True, "?x", -5)
