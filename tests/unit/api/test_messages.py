"""The stream as a client sees it: names before ids, cursors that only the node reads, channels, marks of members."""

from __future__ import annotations

import grpc
import pytest

from parley_proto.v1 import accounts_pb2, conversations_pb2, model_pb2
from parley_proto.v1 import messaging_pb2 as pb
from parleyd.delivery.cursor import StreamCursor
from tests.support.node import InProcessCluster
from tests.support.raw import PASSWORD, Person, Raw, Stream, bodies

Code = grpc.StatusCode


@pytest.fixture
async def ann(cluster: InProcessCluster, raw: Raw) -> Person:
    cluster.add_account("ann", PASSWORD)
    return await raw.log_in("ann")


@pytest.fixture
async def ben(cluster: InProcessCluster, raw: Raw, ann: Person) -> Person:
    cluster.add_account("ben", PASSWORD)
    return await raw.log_in("ben")


def names(stream: Stream) -> dict[int, str]:
    """The accounts that the stream was told."""
    return {account.id: account.name for account in stream.directory.accounts}


async def test_everything_is_told_by_name_before_a_frame_names_it(
    cluster: InProcessCluster, raw: Raw, ann: Person, ben: Person
) -> None:
    async with raw.session(ben) as receiving, raw.session(ann) as sending:
        await receiving.until_caught_up()
        await sending.send((1, "ben", "hello"))
        [result] = await sending.results(1)
        [message] = await receiving.messages(1)
        assert (message.conversation_id, message.id) == (result.conversation_id, result.message_id)
        for stream in (receiving, sending):
            assert names(stream) == {ann.id: "ann", ben.id: "ben"}
            [info] = stream.directory.conversations
            assert (info.id, info.kind) == (message.conversation_id, model_pb2.CONVERSATION_KIND_DIRECT)
            assert [member.account_id for member in info.members] == [ann.id, ben.id]
        await receiving.delivered(receiving.cursor)
        receipt = (await sending.next("receipts")).receipts.receipts[0]
        assert (receipt.conversation_id, receipt.account_id) == (message.conversation_id, ben.id)
        assert receipt.delivered_up_to == message.id
        await sending.send((2, "ben", "again"))
        assert bodies(await receiving.messages(1)) == ["again"]
        assert len(receiving.directory.conversations) == 1, "told once"


async def test_an_account_that_changes_is_told_again(
    cluster: InProcessCluster, raw: Raw, ann: Person, ben: Person
) -> None:
    async with raw.session(ann) as stream:
        await stream.send((1, "ben", "hello"))
        await stream.results(1)
        request = accounts_pb2.DeleteAccountRequest(password=PASSWORD)
        await raw.accounts.DeleteAccount(request, metadata=ben.metadata)
        frame = await stream.next("directory")
        assert [(account.name, account.deleted) for account in frame.directory.accounts] == [("ben", True)]


async def test_a_send_is_fixed_to_its_target_however_it_is_named(
    cluster: InProcessCluster, raw: Raw, ann: Person, ben: Person
) -> None:
    async with raw.session(ann) as stream:
        await stream.send((1, "ben", "by name"))
        [first] = await stream.results(1)
        by_id = model_pb2.Send(number=2, account_id=ben.id, body="by id")
        await stream.send_to(by_id, model_pb2.Send(number=3, conversation_id=first.conversation_id, body="here"))
        assert {result.conversation_id for result in await stream.results(2)} == {first.conversation_id}
        by_id.conversation_id = first.conversation_id
        await stream.send_to(by_id)
        [again] = await stream.results(1)
        assert again.status == pb.SEND_STATUS_REJECTED, "a retry repeats the target as it was"
        assert "used the number for another message" in again.detail
    assert cluster.bodies_for("ben") == ["by name", "by id", "here"]
    assert cluster.resent_differently == [2]


@pytest.mark.parametrize(
    ("send", "text"),
    [
        (model_pb2.Send(number=1, account_name="ben"), "shows nothing, or is longer"),
        (model_pb2.Send(number=1, account_name="ben", body="x" * 65537), "shows nothing, or is longer"),
        (model_pb2.Send(number=1, account_name="nobody", body="x"), "no such account"),
        (model_pb2.Send(number=1, account_id=99, body="x"), "no such account"),
        (model_pb2.Send(number=1, conversation_id=99, body="x"), "no such conversation"),
        (model_pb2.Send(number=1, body="x"), "names nobody"),
    ],
    ids=["empty", "long", "name", "account", "conversation", "nobody"],
)
async def test_a_refused_send_uses_its_number_up_and_says_why(
    cluster: InProcessCluster, raw: Raw, ann: Person, ben: Person, send: model_pb2.Send, text: str
) -> None:
    async with raw.session(ann) as stream:
        await stream.send_to(send)
        [refused] = await stream.results(1)
        assert (refused.status, refused.message_id) == (pb.SEND_STATUS_REJECTED, 0)
        assert text in refused.detail
        await stream.send_to(send)
        assert await stream.results(1) == [refused]
        assert (await stream.send_surely(2, "ben", "next")).status == pb.SEND_STATUS_ACCEPTED
    assert cluster.bodies_for("ben") == ["next"]


async def test_a_queue_of_long_messages_comes_in_frames_of_bounded_size(
    cluster: InProcessCluster, raw: Raw, ann: Person, ben: Person
) -> None:
    one, two = cluster.accounts["ann"], cluster.accounts["ben"]
    stored = [cluster.store(one, two, "😀" * 16_384).id for _ in range(20)]
    async with raw.session(ben) as stream:
        found: list[int] = []
        while len(found) < len(stored):
            frame = await stream.next("messages")
            assert frame.ByteSize() <= 256 << 10
            found += [message.id for message in frame.messages.messages]
    assert found == stored


async def test_a_stream_goes_on_from_its_cursor_and_from_one_of_another_generation_from_what_the_cluster_knows(
    cluster: InProcessCluster, raw: Raw, ann: Person, ben: Person
) -> None:
    one, two = cluster.accounts["ann"], cluster.accounts["ben"]
    for body in ("one", "two", "three"):
        cluster.store(one, two, body)
    async with raw.session(ben) as stream:
        first = (await stream.messages(3))[0]
        assert stream.cursor == StreamCursor.at(0, first.id + 2).encode()
        after_first = StreamCursor.at(0, first.id).encode()
        await stream.delivered(after_first)
        await stream.delivered(StreamCursor.at(1, first.id + 2).encode())
    async with raw.session(ben, cursor=after_first) as stream:
        assert bodies(await stream.until_caught_up()) == ["two", "three"]
    async with raw.session(ben, cursor=StreamCursor.at(1, first.id + 2).encode()) as stream:
        assert stream.welcome.cursor == after_first
        assert bodies(await stream.until_caught_up()) == ["two", "three"]
        assert stream.cursor == StreamCursor.at(0, first.id + 2).encode()


async def test_a_cursor_that_no_node_gave_out_ends_the_stream_with_the_reason(raw: Raw, ann: Person) -> None:
    async with raw.stream(ann.metadata) as stream:
        await stream.write(pb.ClientFrame(hello=pb.Hello(cursor=b"nonsense")))
        code, text = await stream.refusal()
        assert (code, text.startswith("cursor has version 110")) == (Code.INVALID_ARGUMENT, True)
    async with raw.stream(ann.metadata) as stream:
        await stream.write(pb.ClientFrame(hello=pb.Hello(cursor=b"\x01")))
        code, text = await stream.refusal()
        assert (code, "too short" in text) == (Code.INVALID_ARGUMENT, True)


async def test_a_channel_reaches_its_connected_members_live_and_nobody_else(
    cluster: InProcessCluster, raw: Raw, ann: Person, ben: Person
) -> None:
    eve = await raw.log_in(cluster.add_account("eve", PASSWORD).name)
    async with raw.session(ann) as one, raw.session(ben) as two, raw.session(eve) as outsider:
        for stream in (one, two, outsider):
            await stream.until_caught_up()
        channel = await raw.create_channel(ann, "Ward A", ben)
        for stream in (one, two):
            [created] = await stream.messages(1)
            assert (created.conversation_id, created.kind) == (channel, model_pb2.MESSAGE_KIND_CHANNEL_CREATED)
            assert [info.title for info in stream.directory.conversations] == ["Ward A"]
        await one.send_to(model_pb2.Send(number=1, conversation_id=channel, body="hello all"))
        [message] = await two.messages(1)
        await two.mark_read(channel, message.id)
        receipt = (await one.next("receipts")).receipts.receipts[0]
        assert (receipt.conversation_id, receipt.account_id, receipt.read_up_to) == (channel, ben.id, message.id)
        await one.send((2, "eve", "just for you"))
        [first] = await outsider.messages(1)
        assert first.body == "just for you"
        assert [info.kind for info in outsider.directory.conversations] == [model_pb2.CONVERSATION_KIND_DIRECT]


async def test_a_member_who_comes_later_finds_the_channel_and_hears_it_from_then_on(
    cluster: InProcessCluster, raw: Raw, ann: Person, ben: Person
) -> None:
    one = cluster.accounts["ann"]
    channel = await raw.create_channel(ann, "Ward A", ben)
    cluster.store(one, channel, "before")
    async with raw.session(ben) as stream:
        assert bodies(await stream.until_caught_up()) == ["Ward A", "before"]
        cluster.store(one, channel, "after")
        assert bodies(await stream.messages(1)) == ["after"]
    async with raw.session(ben, cursor=stream.cursor) as stream:
        assert bodies(await stream.until_caught_up()) == []
    request = conversations_pb2.ListConversationsRequest(seen=raw.seen)
    answer = await raw.conversations.ListConversations(request, metadata=ben.metadata)
    assert [summary.unread for summary in answer.conversations] == [2]


async def test_another_device_of_the_sender_gets_the_message_and_the_sending_one_does_not(
    cluster: InProcessCluster, raw: Raw, ann: Person, ben: Person
) -> None:
    other = await raw.log_in("ann")
    async with raw.session(ann) as sending, raw.session(other) as watching:
        await sending.until_caught_up()
        await watching.until_caught_up()
        await sending.send((1, "ann", "a note to myself"))
        await sending.results(1)
        [message] = await watching.messages(1)
        assert (message.body, message.device_id, message.send_number) == ("a note to myself", ann.device_id, 1)
        cluster.store(cluster.accounts["ben"], cluster.accounts["ann"], "hello")
        assert bodies(await sending.messages(1)) == ["hello"]
