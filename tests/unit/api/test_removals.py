"""Conversations.RemoveConversation: the caller's own devices learn it in any order of things, and nobody else does."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from parley_proto.v1 import conversations_pb2 as pb
from parley_proto.v1 import messaging_pb2, model_pb2
from tests.support.node import InProcessCluster
from tests.support.raw import PASSWORD, Person, Raw, bodies, eventually, refused, until_so


class Scene:
    """Ann and ben with a channel of both, and what ann writes into it."""

    def __init__(self, raw: Raw, ann: Person, ben: Person, channel: int) -> None:
        self.raw = raw
        self.ann = ann
        self.ben = ben
        self.channel = channel
        self.number = 0

    async def say(self, body: str) -> int:
        self.number += 1
        send = model_pb2.Send(number=self.number, conversation_id=self.channel, body=body)
        request = messaging_pb2.PushRequest(sends=[send])
        answer = await eventually(lambda: self.raw.messaging.Push(request, metadata=self.ann.metadata))
        self.raw.note(answer.position)
        return answer.results[0].message_id

    async def remove(self, up_to: int) -> None:
        request = pb.RemoveConversationRequest(conversation_id=self.channel, up_to=up_to)
        answer = await self.raw.conversations.RemoveConversation(request, metadata=self.ben.metadata)
        self.raw.note(answer.position)

    async def listed(self, person: Person) -> list[tuple[int, str]]:
        request = pb.ListConversationsRequest(seen=self.raw.seen)
        answer = await self.raw.conversations.ListConversations(request, metadata=person.metadata)
        return [(one.info.removed_up_to, one.last_message.body) for one in answer.conversations]

    async def fetch(self, person: Person, cursor: bytes = b"", wait_ms: int = 0) -> messaging_pb2.FetchResponse:
        request = messaging_pb2.FetchRequest(
            hello=messaging_pb2.Hello(cursor=cursor, seen=self.raw.seen), wait_ms=wait_ms
        )
        return await self.raw.messaging.Fetch(request, metadata=person.metadata)


def removed(directory: messaging_pb2.Directory) -> list[tuple[int, int]]:
    return [(one.conversation_id, one.up_to) for one in directory.removed]


@pytest.fixture
async def scene(cluster: InProcessCluster, raw: Raw) -> Scene:
    for name in ("ann", "ben"):
        cluster.add_account(name, PASSWORD)
    ann, ben = await raw.log_in("ann"), await raw.log_in("ben")
    return Scene(raw, ann, ben, await raw.create_channel(ann, "Ward A", ben))


async def test_other_devices_of_the_account_learn_at_once_what_was_removed_and_nobody_else_does(
    scene: Scene, raw: Raw
) -> None:
    last = await scene.say("hello")
    other_device = await raw.log_in("ben")
    async with raw.session(scene.ann) as hers, raw.session(other_device) as his:
        for stream in (hers, his):
            await stream.until_caught_up()
        await scene.remove(last)
        assert removed((await his.next("directory")).directory) == [(scene.channel, last)]
        assert (await scene.listed(scene.ben), await raw.history(scene.ben, scene.channel)) == ([], [])
        assert await scene.listed(scene.ann) == [(0, "hello")]
        await scene.remove(last)  # a retry tells nobody anything
        await scene.say("news")
        assert bodies(await his.messages(1)) == ["news"]
        assert removed(his.directory) == [(scene.channel, last)]
        assert removed(hers.directory) == []
    assert await scene.listed(scene.ben) == [(last, "news")]
    assert bodies(await raw.history(scene.ben, scene.channel)) == ["news"]


async def test_a_device_that_was_away_learns_it_when_it_connects_and_gets_nothing_of_it(scene: Scene, raw: Raw) -> None:
    last = await scene.say("hello")
    async with raw.session(scene.ben) as stream:
        await stream.until_caught_up()
        cursor = stream.cursor
    assert cursor
    await scene.remove(last)
    async with raw.session(scene.ben, cursor=cursor) as stream:
        assert removed((await stream.next("directory")).directory) == [(scene.channel, last)]
    async with raw.session(await raw.log_in("ben")) as stream:
        assert bodies(await stream.until_caught_up()) == []


async def test_a_conversation_that_is_told_for_the_first_time_says_up_to_where_it_was_removed(
    scene: Scene, raw: Raw
) -> None:
    last = await scene.say("hello")
    await scene.remove(last)
    await scene.say("news")
    async with raw.session(await raw.log_in("ben")) as stream:
        assert bodies(await stream.until_caught_up()) == ["news"]
        assert [(one.id, one.removed_up_to) for one in stream.directory.conversations] == [(scene.channel, last)]


async def test_a_device_without_a_stream_learns_it_with_whatever_it_fetches_next(
    scene: Scene, cluster: InProcessCluster
) -> None:
    last = await scene.say("hello")
    first = await scene.fetch(scene.ben)
    assert "hello" in bodies(first.messages.messages)
    waiting = asyncio.ensure_future(scene.fetch(scene.ben, first.messages.cursor, wait_ms=10_000))
    await until_so(lambda: cluster.nodes[0].hub.connected == 1)
    await scene.remove(last)
    await scene.say("news")
    answer = await waiting
    assert bodies(answer.messages.messages) == ["news"]
    assert removed(answer.directory) == [(scene.channel, last)], "its next cursor is beyond the removal"
    answer = await scene.fetch(scene.ben, first.messages.cursor)
    assert removed(answer.directory) == [(scene.channel, last)], "an answer that was lost"


async def test_what_cannot_be_removed_is_refused(scene: Scene, cluster: InProcessCluster, raw: Raw) -> None:
    cluster.add_account("eve", PASSWORD)
    eve = await raw.log_in("eve")
    for person, conversation_id, up_to, expected in (
        (eve, scene.channel, 1, grpc.StatusCode.NOT_FOUND),
        (eve, 1 << 40, 1, grpc.StatusCode.NOT_FOUND),
        (scene.ben, scene.channel, 0, grpc.StatusCode.INVALID_ARGUMENT),
        (scene.ben, 0, 1, grpc.StatusCode.NOT_FOUND),
    ):
        request = pb.RemoveConversationRequest(conversation_id=conversation_id, up_to=up_to)
        code, _ = await refused(raw.conversations.RemoveConversation(request, metadata=person.metadata))
        assert code is expected


async def test_the_history_of_what_was_left_and_removed_is_empty_and_not_refused(scene: Scene, raw: Raw) -> None:
    await scene.say("hello")
    leave = pb.LeaveChannelRequest(conversation_id=scene.channel)
    raw.note((await raw.conversations.LeaveChannel(leave, metadata=scene.ben.metadata)).position)
    await scene.remove(1 << 62)
    assert await raw.history(scene.ben, scene.channel) == []


async def test_receipts_of_a_removed_message_are_not_told(scene: Scene, raw: Raw) -> None:
    number = messaging_pb2.PushRequest(sends=[model_pb2.Send(number=1, conversation_id=scene.channel, body="mine")])
    sent = (await raw.messaging.Push(number, metadata=scene.ben.metadata)).results[0].message_id
    request = pb.GetReceiptsRequest(conversation_id=scene.channel, message_id=sent)
    await raw.conversations.GetReceipts(request, metadata=scene.ben.metadata)
    await scene.remove(sent)
    request.seen.CopyFrom(raw.seen)
    code, _ = await refused(raw.conversations.GetReceipts(request, metadata=scene.ben.metadata))
    assert code is grpc.StatusCode.NOT_FOUND
