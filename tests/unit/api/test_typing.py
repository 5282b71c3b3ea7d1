"""Who is told that somebody types: the others of a small conversation, and nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import cast

import pytest
import pytest_asyncio

from parley_proto.v1 import accounts_pb2, conversations_pb2
from parley_proto.v1 import messaging_pb2 as pb
from parleyd.api import stream_person
from parleyd.delivery.small_frames import SmallFrames
from parleyd.group.readers import StateReaders
from parleyd.machine.features.conversations import SHOWN_MEMBERS
from parleyd.machine.features.memberships import EVERYONE_ID
from parleyd.presence.clients import ConnectedClients
from parleyd.presence.typists import Typing
from tests.support.node import InProcessCluster, InProcessNode
from tests.support.raw import PASSWORD, Person, Raw, Stream


class Room:
    """Three people who are connected, and what each is told of who types."""

    def __init__(self, raw: Raw, node: InProcessNode, people: dict[str, Person], streams: dict[str, Stream]) -> None:
        self.raw = raw
        self.node = node
        self.people = people
        self.streams = streams

    async def types(self, name: str, conversation_id: int) -> None:
        await self.streams[name].write(pb.ClientFrame(typist=pb.Typing(conversation_id=conversation_id)))

    async def told(self, name: str) -> list[tuple[int, int]]:
        """(conversation, account) of all that was told before the answer to a ping."""
        stream, told = self.streams[name], []
        await stream.write(pb.ClientFrame(ping=pb.Ping(nonce=1)))
        while (frame := await stream.read()) is not None and not frame.HasField("pong"):
            if frame.HasField("typist"):
                told.append((frame.typist.conversation_id, frame.typist.account_id))
        return told

    async def all_told(self, name: str, conversation_id: int) -> dict[str, list[tuple[int, int]]]:
        """What each is told of it that somebody types. The account is written as its name."""
        looked_up = asyncio.Event()
        tell = stream_person.Typists.tell

        async def told(self: stream_person.Typists, account_id: int, conversation_id: int) -> None:
            await tell(self, account_id, conversation_id)
            looked_up.set()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stream_person.Typists, "tell", told)
            await self.types(name, conversation_id)
            async with asyncio.timeout(10):
                await looked_up.wait()
        return {each: await self.told(each) for each in self.people}

    async def direct(self, sender: str, to: str) -> int:
        await self.streams[sender].send((1, to, "hello"))
        [result] = await self.streams[sender].results(1)
        return result.conversation_id


@pytest_asyncio.fixture
async def room(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Room]:
    monkeypatch.setattr(stream_person, "INTERVAL_S", 0.0)
    people, streams = {}, {}
    async with AsyncExitStack() as stack:
        for name in ("ann", "ben", "eve"):
            cluster.add_account(name, PASSWORD)
            people[name] = await raw.log_in(name)
            streams[name] = await stack.enter_async_context(raw.session(people[name]))
            await streams[name].until_caught_up()
        yield Room(raw, node, people, streams)


NOBODY: dict[str, list[tuple[int, int]]] = {"ann": [], "ben": [], "eve": []}


async def test_the_other_one_of_a_direct_conversation_is_told_with_names_before(room: Room) -> None:
    assert all(stream.welcome.takes_typing for stream in room.streams.values())
    conversation_id = await room.direct("ann", "ben")
    ann, ben = room.people["ann"].id, room.people["ben"].id
    assert await room.all_told("ann", conversation_id) == NOBODY | {"ben": [(conversation_id, ann)]}
    assert ann in [account.id for account in room.streams["ben"].directory.accounts]
    assert await room.all_told("ben", conversation_id) == NOBODY | {"ann": [(conversation_id, ben)]}


async def test_all_other_members_of_a_small_channel_are_told_and_nobody_who_is_no_member(room: Room) -> None:
    people = room.people
    channel = await room.raw.create_channel(people["ann"], "Ward", people["ben"])
    assert await room.all_told("ben", channel) == NOBODY | {"ann": [(channel, people["ben"].id)]}
    assert await room.all_told("eve", channel) == NOBODY, "who is no member cannot be seen typing there"


async def test_typing_to_oneself_to_everyone_and_in_no_conversation_is_told_to_nobody(room: Room) -> None:
    notes = await room.direct("ann", "ann")
    for conversation_id in (notes, EVERYONE_ID, 0, 999, 1 << 63):
        assert await room.all_told("ann", conversation_id) == NOBODY


async def test_an_account_that_hides_is_not_seen_typing(room: Room) -> None:
    conversation_id = await room.direct("ann", "ben")
    hide = accounts_pb2.SetHiddenRequest(hidden=True)
    await room.raw.presence.SetHidden(hide, metadata=room.people["ann"].metadata)
    assert await room.all_told("ann", conversation_id) == NOBODY


async def test_a_large_or_archived_channel_shows_nobody_typing(cluster: InProcessCluster, room: Room) -> None:
    people = room.people
    channel = await room.raw.create_channel(people["ann"], "Ward", people["ben"])
    cluster.rewrite(("UPDATE conversations SET member_count = ? WHERE id = ?", (SHOWN_MEMBERS + 1, channel)))
    assert await room.all_told("ann", channel) == NOBODY
    cluster.rewrite(("UPDATE conversations SET member_count = ? WHERE id = ?", (SHOWN_MEMBERS, channel)))
    assert (await room.all_told("ann", channel))["ben"] == [(channel, people["ann"].id)]
    archive = conversations_pb2.ChangeChannelRequest(conversation_id=channel, archived=True)
    await room.raw.conversations.ChangeChannel(archive, metadata=people["ann"].metadata)
    assert await room.all_told("ann", channel) == NOBODY


async def test_what_comes_too_often_costs_no_look_up_and_ends_nothing(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation_id = await room.direct("ann", "ben")
    looked_up: list[int] = []

    async def count(_: stream_person.Typists, account_id: int, __: int) -> None:
        looked_up.append(account_id)

    monkeypatch.setattr(stream_person.Typists, "tell", count)
    monkeypatch.setattr(stream_person, "INTERVAL_S", 3600.0)
    for _ in range(20):
        await room.types("ann", conversation_id)
    assert await room.told("ann") == []
    assert looked_up == [room.people["ann"].id]


async def test_a_node_with_enough_look_ups_drops_typing_and_goes_on(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation_id = await room.direct("ann", "ben")
    monkeypatch.setattr(stream_person, "MAX_LOOK_UPS", 0)
    assert await room.all_told("ann", conversation_id) == NOBODY
    monkeypatch.setattr(stream_person, "MAX_LOOK_UPS", 1)
    for _ in range(2):
        assert (await room.all_told("ann", conversation_id))["ben"], "a finished look-up gives its place back"


async def test_a_device_that_does_not_read_keeps_a_bounded_number_of_typists(room: Room) -> None:
    stream = next(iter(room.node.hub._streams[room.people["ben"].id]))
    waiting = stream.small_frames
    for account_id in range(1, 1000):
        waiting.offer_typing(5, account_id)
    assert len(waiting.take()) == 32
    assert not waiting.has_more


async def test_a_device_that_read_nothing_for_a_while_is_not_told_what_was_typed_then(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("parleyd.delivery.small_frames.time.monotonic", lambda: now)
    waiting = SmallFrames(lambda: None)
    waiting.offer_typing(5, 1)
    now += 2.5
    waiting.offer_typing(5, 2)
    waiting.offer_typing(5, 3)
    waiting.drop_members(5, [3])
    assert [frame.typist.account_id for frame in waiting.take()] == [2]


async def test_an_account_has_one_look_up_at_a_time_and_a_late_one_tells_nothing(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation_id = await room.direct("ann", "ben")
    told: list[Typing] = []
    typing = Typing(conversation_id, room.people["ann"].id, to=room.people["ben"].id)
    now, under_way, go_on = 100.0, asyncio.Event(), asyncio.Event()

    class Readers:
        async def run(self, _: object) -> Typing:
            under_way.set()
            await go_on.wait()
            return typing

    class Clients:
        def client_types(self, one: Typing) -> None:
            told.append(one)

    monkeypatch.setattr("parleyd.api.stream_person.time.monotonic", lambda: now)
    typists = stream_person.Typists(cast(StateReaders, Readers()), cast(ConnectedClients, Clients()))
    first = asyncio.ensure_future(typists.tell(1, conversation_id))
    await under_way.wait()
    await typists.tell(1, conversation_id)
    assert told == []
    go_on.set()
    await first
    assert told == [typing]
    go_on.clear()
    under_way.clear()
    late = asyncio.ensure_future(typists.tell(1, conversation_id))
    await under_way.wait()
    now += 5.0
    go_on.set()
    await late
    assert told == [typing]


async def test_who_left_a_channel_is_told_no_more(room: Room) -> None:
    people = room.people
    channel = await room.raw.create_channel(people["ann"], "Ward", people["ben"], people["eve"])
    assert (await room.all_told("ann", channel))["eve"]
    await room.raw.conversations.LeaveChannel(
        conversations_pb2.LeaveChannelRequest(conversation_id=channel), metadata=people["eve"].metadata
    )
    assert (await room.all_told("ann", channel))["eve"] == []
