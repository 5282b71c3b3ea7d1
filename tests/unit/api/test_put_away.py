"""Conversations.SetPutAway: the caller's own devices learn it at once, and nobody else does."""

from __future__ import annotations

import grpc

from parley_proto.v1 import conversations_pb2 as pb
from parley_proto.v1 import model_pb2
from tests.support.node import InProcessCluster
from tests.support.raw import PASSWORD, Person, Raw, refused


async def put_away(raw: Raw, person: Person, conversation_id: int, up_to: int) -> None:
    request = pb.SetPutAwayRequest(conversation_id=conversation_id, up_to=up_to)
    raw.note((await raw.conversations.SetPutAway(request, metadata=person.metadata)).position)


async def listed(raw: Raw, person: Person) -> list[tuple[int, int]]:
    request = pb.ListConversationsRequest(seen=raw.seen)
    answer = await raw.conversations.ListConversations(request, metadata=person.metadata)
    return [(one.info.put_away_up_to, one.last_message.id) for one in answer.conversations]


async def test_other_devices_of_the_account_learn_at_once_what_was_put_away_and_nobody_else_does(
    cluster: InProcessCluster, raw: Raw
) -> None:
    for name in ("ann", "ben"):
        cluster.add_account(name, PASSWORD)
    ann, ben, other_device = await raw.log_in("ann"), await raw.log_in("ben"), await raw.log_in("ben")
    channel = await raw.create_channel(ann, "Ward A", ben)
    [(_, last)] = await listed(raw, ben)
    async with raw.session(ann) as hers, raw.session(other_device) as his:
        for stream in (hers, his):
            await stream.until_caught_up()
        for up_to in (last, 0, last):
            await put_away(raw, ben, channel, up_to)
            frame = await his.next("directory")
            assert [(one.id, one.put_away_up_to) for one in frame.directory.conversations] == [(channel, up_to)]
            assert await listed(raw, ben) == [(up_to, last)]
        assert await listed(raw, ann) == [(0, last)]
        await his.send_to(model_pb2.Send(number=1, conversation_id=channel, body="hello all"))
        await hers.messages(1)
        assert not any(one.put_away_up_to for one in hers.directory.conversations)
    answer = await raw.conversations.GetHistory(
        pb.GetHistoryRequest(conversation_id=channel, seen=raw.seen), metadata=ben.metadata
    )
    assert answer.conversation.put_away_up_to == last, "a message moves no mark"
    assert len(answer.messages) == 2


async def test_a_device_that_was_away_learns_before_the_first_message_that_its_conversation_was_put_away(
    cluster: InProcessCluster, raw: Raw
) -> None:
    for name in ("ann", "ben"):
        cluster.add_account(name, PASSWORD)
    ann, ben = await raw.log_in("ann"), await raw.log_in("ben")
    channel = await raw.create_channel(ann, "Ward A", ben)
    [(_, last)] = await listed(raw, ben)
    await put_away(raw, ben, channel, last)
    async with raw.session(ben) as stream:
        frame = await stream.next("directory")
        assert [(one.id, one.put_away_up_to) for one in frame.directory.conversations] == [(channel, last)]


async def test_a_conversation_of_others_and_one_without_a_message_cannot_be_put_away(
    cluster: InProcessCluster, raw: Raw
) -> None:
    for name in ("ann", "eve"):
        cluster.add_account(name, PASSWORD)
    ann, eve = await raw.log_in("ann"), await raw.log_in("eve")
    channel = await raw.create_channel(ann, "Ward A")
    for conversation_id in (channel, 1 << 40):
        code, text = await refused(put_away(raw, eve, conversation_id, 1))
        assert (code, "no such conversation" in text) == (grpc.StatusCode.NOT_FOUND, True)
