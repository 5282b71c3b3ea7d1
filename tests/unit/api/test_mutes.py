"""Conversations.SetMuted: the caller's own devices learn it at once, and nobody else does."""

from __future__ import annotations

import grpc

from parley_proto.v1 import conversations_pb2 as pb
from parley_proto.v1 import model_pb2
from tests.support.node import InProcessCluster
from tests.support.raw import PASSWORD, Person, Raw, refused


async def set_muted(raw: Raw, person: Person, conversation_id: int, *, muted: bool = True) -> None:
    request = pb.SetMutedRequest(conversation_id=conversation_id, muted=muted)
    raw.note((await raw.conversations.SetMuted(request, metadata=person.metadata)).position)


async def listed(raw: Raw, person: Person) -> list[tuple[int, bool]]:
    request = pb.ListConversationsRequest(seen=raw.seen)
    answer = await raw.conversations.ListConversations(request, metadata=person.metadata)
    return [(one.info.id, one.info.muted) for one in answer.conversations]


async def test_other_devices_of_the_account_learn_at_once_what_is_muted_and_nobody_else_does(
    cluster: InProcessCluster, raw: Raw
) -> None:
    for name in ("ann", "ben"):
        cluster.add_account(name, PASSWORD)
    ann, ben, other_device = await raw.log_in("ann"), await raw.log_in("ben"), await raw.log_in("ben")
    channel = await raw.create_channel(ann, "Ward A", ben)
    async with raw.session(ann) as hers, raw.session(other_device) as his:
        for stream in (hers, his):
            await stream.until_caught_up()
        for muted in (True, False, True):
            await set_muted(raw, ben, channel, muted=muted)
            frame = await his.next("directory")
            assert [(one.id, one.muted) for one in frame.directory.conversations] == [(channel, muted)]
            assert await listed(raw, ben) == [(channel, muted)]
        assert await listed(raw, ann) == [(channel, False)]
        await his.send_to(model_pb2.Send(number=1, conversation_id=channel, body="hello all"))
        await hers.messages(1)
        assert not any(one.muted for one in hers.directory.conversations)
    answer = await raw.conversations.GetHistory(
        pb.GetHistoryRequest(conversation_id=channel, seen=raw.seen), metadata=ben.metadata
    )
    assert answer.conversation.muted
    channels = await raw.conversations.ListChannels(pb.ListChannelsRequest(seen=raw.seen), metadata=ben.metadata)
    assert [one.info.muted for one in channels.channels] == [True]


async def test_a_device_that_was_away_learns_before_the_first_message_that_its_conversation_is_muted(
    cluster: InProcessCluster, raw: Raw
) -> None:
    for name in ("ann", "ben"):
        cluster.add_account(name, PASSWORD)
    ann, ben = await raw.log_in("ann"), await raw.log_in("ben")
    channel = await raw.create_channel(ann, "Ward A", ben)
    await set_muted(raw, ben, channel)
    async with raw.session(ben) as stream:
        frame = await stream.next("directory")
        assert [(one.id, one.muted) for one in frame.directory.conversations] == [(channel, True)]


async def test_a_conversation_of_others_cannot_be_muted(cluster: InProcessCluster, raw: Raw) -> None:
    for name in ("ann", "eve"):
        cluster.add_account(name, PASSWORD)
    ann, eve = await raw.log_in("ann"), await raw.log_in("eve")
    channel = await raw.create_channel(ann, "Ward A")
    code, text = await refused(set_muted(raw, eve, channel))
    assert (code, "no such conversation" in text) == (grpc.StatusCode.NOT_FOUND, True)
