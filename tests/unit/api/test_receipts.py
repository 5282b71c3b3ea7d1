"""GetReceipts: the sender of a message sees who has it and where it is on disk, and nobody else does."""

from __future__ import annotations

import grpc
import pytest

from parley_proto.v1 import conversations_pb2 as pb
from parley_proto.v1 import messaging_pb2, model_pb2, state_pb2
from parleyd.delivery import receipt_counts
from parleyd.machine.features.channel_counts import MARKS_TOLD_UP_TO
from parleyd.machine.limits import MAX_ID
from tests.support.node import InProcessCluster, InProcessNode
from tests.support.raw import PASSWORD, Person, Raw, Stream, refused

Code = grpc.StatusCode


@pytest.fixture
async def people(cluster: InProcessCluster, raw: Raw) -> dict[str, Person]:
    """Four people."""
    names = ("ann", "ben", "cat", "dan")
    return {name: await raw.log_in(cluster.add_account(name, PASSWORD).name) for name in names}


async def say(stream: Stream, number: int, conversation_id: int) -> int:
    """Send one message; return its id."""
    await stream.send_to(model_pb2.Send(number=number, conversation_id=conversation_id, body="x"))
    [result] = await stream.results(1)
    assert result.message_id
    return result.message_id


async def receipts(raw: Raw, who: Person, request: pb.GetReceiptsRequest) -> pb.GetReceiptsResponse:
    return await raw.conversations.GetReceipts(request, metadata=who.metadata)


def counted(answer: pb.GetReceiptsResponse) -> tuple[int, int, int]:
    return answer.counts.others, answer.counts.delivered, answer.counts.read


def mark_read(cluster: InProcessCluster, name: str, conversation_id: int, up_to: int) -> None:
    account = cluster.accounts[name]
    [(session_id,)] = cluster.rows("SELECT max(id) FROM sessions WHERE account_id = ?", (account.id,))
    command = state_pb2.MarkRead(session_id=session_id, conversation_id=conversation_id, up_to=up_to)
    assert cluster.apply_one(state_pb2.Command(mark_read=command)).code == state_pb2.RESULT_CODE_OK


async def test_the_sender_sees_each_member_the_counts_and_the_nodes(
    cluster: InProcessCluster, raw: Raw, people: dict[str, Person]
) -> None:
    channel = await raw.create_channel(people["ann"], "Ward A", *list(people.values())[1:])
    async with raw.session(people["ann"]) as stream:
        message = await say(stream, 1, channel)
    index = cluster.index
    mark_read(cluster, "ben", channel, message)
    request = pb.GetReceiptsRequest(conversation_id=channel, message_id=message, seen=raw.seen)
    answer = await receipts(raw, people["ann"], request)
    by_name = {account.name: account.id for account in answer.accounts}
    assert [by_name[name] for name in ("ben", "cat", "dan")] == [one.account_id for one in answer.members]
    ben, _, dan = answer.members
    assert (ben.delivered, ben.read, dan.delivered, dan.read) == (True, True, False, False)
    assert (answer.counts.others, answer.counts.read) == (3, 1)
    assert (answer.disks.known, list(answer.disks.nodes), list(answer.disks.others)) == (True, ["n1"], [])
    assert (answer.disks.term, answer.disks.log_index) == (1, index)


async def test_only_the_sender_may_ask_and_nobody_learns_what_it_may_not_read(
    cluster: InProcessCluster, raw: Raw, people: dict[str, Person]
) -> None:
    channel = await raw.create_channel(people["ann"], "Ward A", people["ben"])
    async with raw.session(people["ann"]) as stream:
        message = await say(stream, 1, channel)
    add = pb.AddMembersRequest(conversation_id=channel, members=["cat"])
    await raw.conversations.AddMembers(add, metadata=people["ann"].metadata)
    request = pb.GetReceiptsRequest(conversation_id=channel, message_id=message)
    code, text = await refused(receipts(raw, people["ben"], request))
    assert (code, "Somebody else sent this message" in text) == (Code.PERMISSION_DENIED, True)
    for who in ("cat", "dan"):  # a member who joined later, and no member
        code, _ = await refused(receipts(raw, people[who], request))
        assert code is Code.NOT_FOUND, who
    for unknown in (
        pb.GetReceiptsRequest(conversation_id=channel, message_id=message + 5),
        pb.GetReceiptsRequest(conversation_id=channel),
        pb.GetReceiptsRequest(conversation_id=channel + 1, message_id=message),
    ):
        code, _ = await refused(receipts(raw, people["ann"], unknown))
        assert code is Code.NOT_FOUND, unknown
    leave = pb.LeaveChannelRequest(conversation_id=channel)
    own = await say_in(raw, people["ben"], channel)
    await raw.conversations.LeaveChannel(leave, metadata=people["ben"].metadata)
    code, _ = await refused(receipts(raw, people["ben"], own))
    assert code is Code.NOT_FOUND, "who left is told nothing new"


async def say_in(raw: Raw, who: Person, channel: int) -> pb.GetReceiptsRequest:
    async with raw.session(who) as stream:
        return pb.GetReceiptsRequest(conversation_id=channel, message_id=await say(stream, 1, channel))


@pytest.mark.parametrize("field", ["conversation_id", "message_id", "after_account_id", "page_size"])
async def test_a_request_that_no_client_makes_is_refused(raw: Raw, people: dict[str, Person], field: str) -> None:
    request = pb.GetReceiptsRequest(conversation_id=1, message_id=1)
    setattr(request, field, 1001 if field == "page_size" else MAX_ID + 1)
    code, text = await refused(receipts(raw, people["ann"], request))
    assert (code, text.split()[0]) == (Code.INVALID_ARGUMENT, field)


async def test_members_come_in_pages_and_only_the_first_one_counts(
    cluster: InProcessCluster, raw: Raw, people: dict[str, Person]
) -> None:
    channel = await raw.create_channel(people["ann"], "Ward A", *list(people.values())[1:])
    request = await say_in(raw, people["ann"], channel)
    request.page_size = 2
    first = await receipts(raw, people["ann"], request)
    assert (len(first.members), counted(first)) == (2, (3, 0, 0))
    request.after_account_id = first.next_after_account_id
    second = await receipts(raw, people["ann"], request)
    assert [account.name for account in (*first.accounts, *second.accounts)] == ["ben", "cat", "dan"]
    assert not second.next_after_account_id
    assert not second.HasField("counts")
    assert not second.HasField("disks")


async def test_where_a_message_is_on_disk_is_not_known_without_a_leader_or_of_an_earlier_level(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw
) -> None:
    ann, ben = cluster.add_account("ann", PASSWORD), cluster.add_account("ben", PASSWORD)
    person = await raw.log_in("ann")
    old = cluster.store(ann, ben, "of level 2")
    cluster.rewrite(("UPDATE messages SET entry_term = 0, entry_index = 0 WHERE id = ?", (old.id,)))
    new = cluster.store(ann, ben, "of level 3")
    found = {
        message.id: await receipts(
            raw, person, pb.GetReceiptsRequest(conversation_id=message.conversation_id, message_id=message.id)
        )
        for message in (old, new)
    }
    assert (found[old.id].disks.known, found[old.id].disks.log_index) == (False, 0)
    assert found[new.id].disks.known
    node.faults.no_majority = True
    request = pb.GetReceiptsRequest(conversation_id=new.conversation_id, message_id=new.id)
    answer = await receipts(raw, person, request)
    assert (answer.disks.known, list(answer.disks.nodes), answer.disks.log_index > 0) == (False, [], True)
    assert counted(answer) == (1, 0, 0), "the marks are this node's own"


# ---- large channels


@pytest.fixture
async def crowd(cluster: InProcessCluster, raw: Raw, people: dict[str, Person], monkeypatch: pytest.MonkeyPatch) -> int:
    """A channel of ann, ben, and more members than are told each other's marks."""
    monkeypatch.setattr(receipt_counts, "INTERVAL_S", 0.001)
    others = [cluster.add_account(f"other{number}", PASSWORD) for number in range(MARKS_TOLD_UP_TO)]
    return cluster.create_channel(cluster.accounts["ann"], "all", [cluster.accounts["ben"], *others])


async def next_counts(stream: Stream, message: int, read: int) -> messaging_pb2.ReceiptCount:
    """The counts that say that so many have read a message; no mark of a member comes with any."""
    while True:
        batch = (await stream.next("receipts")).receipts
        assert not batch.receipts
        for count in batch.counts:
            if (count.message_id, count.read) == (message, read):
                return count


async def test_a_sender_in_a_large_channel_is_told_counts_also_on_a_device_that_connects_again(
    cluster: InProcessCluster, raw: Raw, people: dict[str, Person], crowd: int
) -> None:
    ann = people["ann"]
    async with raw.session(ann) as stream, raw.session(people["ben"]) as other:
        message = await say(stream, 1, crowd)
        mark_read(cluster, "ben", crowd, message)
        found = await next_counts(stream, message, 1)
        assert (found.conversation_id, found.others, found.delivered) == (crowd, MARKS_TOLD_UP_TO + 1, 1)
        assert (found.delivered_to_all_up_to, found.read_by_all_up_to, found.sent_from) == (0, 0, 0)
        assert crowd in {one.id for one in stream.directory.conversations}, "the channel is named before its counts"
        await other.send((1, "ben", "a note"))
        kinds: set[str | None] = set()
        while not kinds & {"results"}:
            frame = await other.read()
            assert frame is not None
            kinds.add(frame.WhichOneof("frame"))
        assert "receipts" not in kinds
    async with raw.session(ann) as stream:
        assert (await next_counts(stream, message, 1)).delivered == 1
    for number in range(MARKS_TOLD_UP_TO):
        cluster.store(cluster.accounts[f"other{number}"], cluster.accounts["ben"], "begins a session")
        mark_read(cluster, f"other{number}", crowd, message)
    async with raw.session(ann) as stream:
        found = await next_counts(stream, message, MARKS_TOLD_UP_TO + 1)
        assert (found.delivered, found.others) == (MARKS_TOLD_UP_TO + 1, MARKS_TOLD_UP_TO + 1)
        assert found.read_by_all_up_to == message
    answer = await receipts(raw, ann, pb.GetReceiptsRequest(conversation_id=crowd, message_id=message))
    assert counted(answer) == (found.others, found.delivered, found.read)
