"""Conversations: lists, history, members and channels, each only for those who are in them."""

from __future__ import annotations

import secrets

import grpc
import pytest
from structlog.testing import capture_logs

from parley_proto.v1 import conversations_pb2 as pb
from parley_proto.v1 import model_pb2
from parley_proto.v1.messaging_pb2 import SEND_STATUS_ACCEPTED
from parleyd.api import conversations as service
from parleyd.machine.features import conversations as records
from parleyd.machine.reader import StateReader
from tests.support.node import InProcessCluster
from tests.support.raw import PASSWORD, Person, Raw, refused, until_so

Code = grpc.StatusCode
DIRECT, CHANNEL = model_pb2.CONVERSATION_KIND_DIRECT, model_pb2.CONVERSATION_KIND_CHANNEL
Summaries = list[pb.ConversationSummary]


@pytest.fixture
async def ann(cluster: InProcessCluster, raw: Raw) -> Person:
    cluster.add_account("ann", PASSWORD)
    return await raw.log_in("ann")


@pytest.fixture
async def ben(cluster: InProcessCluster, raw: Raw, ann: Person) -> Person:
    cluster.add_account("ben", PASSWORD)
    return await raw.log_in("ben")


async def test_conversations_are_listed_latest_first_with_what_is_unread(
    cluster: InProcessCluster, raw: Raw, ann: Person, ben: Person
) -> None:
    one, two = cluster.accounts["ann"], cluster.accounts["ben"]
    cluster.store(one, two, "one")
    last = cluster.store(one, two, "two")
    channel = await raw.create_channel(ann, "Ward A", ben)
    answer = await raw.conversations.ListConversations(
        pb.ListConversationsRequest(seen=raw.seen), metadata=ben.metadata
    )
    in_channel, direct = answer.conversations
    assert (in_channel.info.id, in_channel.info.kind, in_channel.info.title) == (channel, CHANNEL, "Ward A")
    assert in_channel.last_message.kind == model_pb2.MESSAGE_KIND_CHANNEL_CREATED
    assert (in_channel.unread, in_channel.info.member_count) == (0, 2)
    assert (direct.info.kind, direct.unread, direct.last_message) == (DIRECT, 2, last)
    assert [(member.account_id, member.delivered_up_to) for member in direct.info.members] == [(1, 0), (2, 0)]
    assert {account.id: account.name for account in answer.accounts} == {1: "ann", 2: "ben"}
    assert (answer.position, answer.next_page_token) == (cluster.position, b"")


async def test_a_long_list_comes_in_pages_by_an_opaque_token(cluster: InProcessCluster, raw: Raw, ann: Person) -> None:
    one = cluster.accounts["ann"]
    for number in range(7):
        cluster.store(one, cluster.add_account(f"other{number}"), str(number))
    found: list[str] = []
    token = b""
    while True:
        request = pb.ListConversationsRequest(page_size=3, page_token=token)
        answer = await raw.conversations.ListConversations(request, metadata=ann.metadata)
        found += [summary.last_message.body for summary in answer.conversations]
        token = answer.next_page_token
        if not token:
            break
    assert found == ["6", "5", "4", "3", "2", "1", "0"]
    for wrong in (b"x", b"\x02" + bytes(8), b"\x01" + bytes(8), b"\x01" + b"\xff" * 8, bytes(100)):
        request = pb.ListConversationsRequest(page_token=wrong)
        code, text = await refused(raw.conversations.ListConversations(request, metadata=ann.metadata))
        assert code is Code.INVALID_ARGUMENT, wrong
        assert text.startswith("page_token ")


async def test_pages_of_long_messages_are_bounded_in_bytes_and_together_have_everything(
    cluster: InProcessCluster, raw: Raw, ann: Person, ben: Person
) -> None:
    # The defaults of the client's channel: a page above them would be refused by the client's gRPC.
    one, two = cluster.accounts["ann"], cluster.accounts["ben"]
    body = "😀" * 16_384
    stored = [cluster.store(one, two, body) for _ in range(40)]
    request = pb.GetHistoryRequest(account_name="ann", limit=1000)
    found: list[int] = []
    while True:
        page = await raw.conversations.GetHistory(request, metadata=ben.metadata)
        assert page.messages
        assert page.ByteSize() <= 1 << 20
        found = [message.id for message in page.messages] + found
        if not page.has_older:
            break
        request.before_id = found[0]
    assert found == [message.id for message in stored]


async def test_a_list_of_conversations_with_long_messages_is_bounded_in_bytes(
    cluster: InProcessCluster, raw: Raw, ann: Person
) -> None:
    one = cluster.accounts["ann"]
    others = [cluster.add_account(f"other{number}") for number in range(40)]
    for other in others:
        cluster.store(one, other, "😀" * 16_384)
    request = pb.ListConversationsRequest(page_size=1000)
    found: list[int] = []
    while True:
        answer = await raw.conversations.ListConversations(request, metadata=ann.metadata)
        assert answer.ByteSize() <= 1 << 20
        assert {account.id for account in answer.accounts} >= {
            member.account_id for summary in answer.conversations for member in summary.info.members
        }
        found += [summary.info.id for summary in answer.conversations]
        request.page_token = answer.next_page_token
        if not request.page_token:
            break
    assert len(found) == len(set(found)) == len(others)


async def test_a_page_of_conversations_costs_what_it_holds(
    cluster: InProcessCluster, raw: Raw, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = cluster.accounts["ann"]
    for number in range(120):
        cluster.store(one, cluster.add_account(f"other{number}"), "hi")
    read: list[int] = []
    by_id = records.by_id

    def counted(reader: StateReader, conversation_id: int) -> records.ConversationRecord | None:
        read.append(conversation_id)
        return by_id(reader, conversation_id)

    monkeypatch.setattr(records, "by_id", counted)
    request = pb.ListConversationsRequest(page_size=1000)
    sizes = []
    while True:
        read.clear()
        answer = await raw.conversations.ListConversations(request, metadata=ann.metadata)
        sizes.append(len(answer.conversations))
        assert len(read) <= sizes[-1] + 1
        request.page_token = answer.next_page_token
        if not request.page_token:
            break
    assert sizes == [100, 20]
    monkeypatch.setattr(service, "LIST_BYTES", 2_000)
    read.clear()
    answer = await raw.conversations.ListConversations(pb.ListConversationsRequest(), metadata=ann.metadata)
    assert 0 < len(answer.conversations) == len(read) - 1 < 10
    assert answer.next_page_token


async def test_history_is_read_on_and_around_a_message_and_from_the_first_unread_one(
    cluster: InProcessCluster, raw: Raw, ann: Person, ben: Person
) -> None:
    ids = [cluster.store(cluster.accounts["ben"], cluster.accounts["ann"], str(number)).id for number in range(10)]
    conversation_id = cluster.conversation_id(cluster.accounts["ann"], cluster.accounts["ben"])

    async def page(limit: int, **start: int | bool) -> tuple[list[int], bool, bool, int]:
        request = pb.GetHistoryRequest(conversation_id=conversation_id, limit=limit)
        for field, value in start.items():
            setattr(request, field, value)
        answer = await raw.conversations.GetHistory(request, metadata=ann.metadata)
        return [ids.index(one.id) for one in answer.messages], answer.has_older, answer.has_newer, answer.read_up_to

    assert await page(3) == ([7, 8, 9], True, False, 0)
    assert await page(3, after_id=0) == ([0, 1, 2], False, True, 0)
    assert await page(3, after_id=ids[6]) == ([7, 8, 9], True, False, 0)
    assert await page(3, after_id=ids[9]) == ([], True, False, 0)
    highest = (1 << 63) - 1
    assert (await page(3, after_id=highest))[0] == []
    assert await page(4, around_id=ids[5]) == ([3, 4, 5, 6], True, True, 0)
    assert await page(4, around_id=ids[1]) == ([0, 1, 2, 3], False, True, 0)
    assert await page(4, around_id=ids[9]) == ([6, 7, 8, 9], True, False, 0)
    assert await page(4, first_unread=True) == ([0, 1, 2, 3], False, True, 0)
    async with raw.session(ann) as stream:
        await stream.mark_read(conversation_id, ids[4])
        await until_so(lambda: cluster.reads.get((conversation_id, ann.id)) == ids[4])
    assert await page(4, first_unread=True) == ([3, 4, 5, 6], True, True, ids[4])
    assert await page(3, first_unread=False) == ([7, 8, 9], True, False, ids[4])
    for start in ("before_id", "after_id", "around_id"):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await page(3, **{start: 1 << 63})
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert start in str(refused.value.details())


async def test_history_is_found_by_conversation_by_name_and_by_account(
    cluster: InProcessCluster, raw: Raw, ann: Person, ben: Person
) -> None:
    one, two = cluster.accounts["ann"], cluster.accounts["ben"]
    stored = [cluster.store(one, two, str(number)) for number in range(5)]
    conversation_id = cluster.conversation_id(one, two)
    for which in (
        pb.GetHistoryRequest(conversation_id=conversation_id, limit=3),
        pb.GetHistoryRequest(account_name="BEN", limit=3),
        pb.GetHistoryRequest(account_id=two.id, limit=3),
    ):
        page = await raw.conversations.GetHistory(which, metadata=ann.metadata)
        assert (list(page.messages), page.has_older) == (stored[2:], True)
        assert (page.conversation.id, page.conversation.member_count) == (conversation_id, 2)
        assert [account.name for account in page.accounts] == ["ann", "ben"]
        assert page.position == cluster.position
        which.before_id = page.messages[0].id
        older = await raw.conversations.GetHistory(which, metadata=ann.metadata)
        assert (list(older.messages), older.has_older) == (stored[:2], False)


async def test_two_who_have_never_spoken_have_an_empty_history(raw: Raw, ann: Person, ben: Person) -> None:
    for which in (pb.GetHistoryRequest(account_name="ben"), pb.GetHistoryRequest(account_id=ben.id)):
        page = await raw.conversations.GetHistory(which, metadata=ann.metadata)
        assert (list(page.messages), page.has_older, page.conversation.id) == ([], False, 0)
        assert [account.name for account in page.accounts] == ["ann", "ben"]


@pytest.mark.parametrize(
    "which",
    [
        pb.GetHistoryRequest(),
        pb.GetHistoryRequest(account_name="a b"),
        pb.GetHistoryRequest(account_id=1 << 63),
        pb.GetHistoryRequest(conversation_id=1 << 63),
        pb.GetHistoryRequest(account_name="ben", before_id=1 << 63),
        pb.GetHistoryRequest(account_name="ben", limit=1001),
    ],
    ids=["nothing", "name", "account", "conversation", "before", "limit"],
)
async def test_a_history_nobody_can_have_is_refused(raw: Raw, ann: Person, which: pb.GetHistoryRequest) -> None:
    code, _ = await refused(raw.conversations.GetHistory(which, metadata=ann.metadata))
    assert code is Code.INVALID_ARGUMENT


async def test_a_conversation_of_others_looks_as_if_it_did_not_exist(
    cluster: InProcessCluster, raw: Raw, ann: Person, ben: Person
) -> None:
    cluster.add_account("eve", PASSWORD)
    eve = await raw.log_in("eve")
    channel = await raw.create_channel(ann, "Ward A", ben)
    for conversation_id in (channel, channel + 1, 0):
        history = pb.GetHistoryRequest(conversation_id=conversation_id)
        members = pb.ListMembersRequest(conversation_id=conversation_id)
        one = await refused(raw.conversations.GetHistory(history, metadata=eve.metadata))
        other = await refused(raw.conversations.ListMembers(members, metadata=eve.metadata))
        assert one == other
        assert one[0] is Code.NOT_FOUND
    async with raw.session(eve) as stream:
        await stream.send_to(model_pb2.Send(number=1, conversation_id=channel, body="let me in"))
        [result] = await stream.results(1)
        assert "no such conversation" in result.detail
        await stream.mark_read(channel, 1)
        await stream.send((2, "eve", "still here"))
        [result] = await stream.results(1)
        assert result.status == SEND_STATUS_ACCEPTED


async def test_members_are_listed_by_page(cluster: InProcessCluster, raw: Raw, ann: Person, ben: Person) -> None:
    others = [await raw.log_in(cluster.add_account(f"other{number}", PASSWORD).name) for number in range(3)]
    channel = await raw.create_channel(ann, "Ward A", ben, *others)
    names: list[str] = []
    roles: list[int] = []
    after = 0
    while True:
        request = pb.ListMembersRequest(conversation_id=channel, page_size=2, after_account_id=after)
        page = await raw.conversations.ListMembers(request, metadata=ben.metadata)
        names += [account.name for account in page.accounts]
        roles += [member.role for member in page.members]
        after = page.next_after_account_id
        if not after:
            break
    assert names == ["ann", "ben", "other0", "other1", "other2"]
    assert roles == [model_pb2.MEMBER_ROLE_OWNER] + [model_pb2.MEMBER_ROLE_MEMBER] * 4


async def test_a_role_that_is_given_by_an_administrator_who_is_no_owner_is_logged_as_such(
    cluster: InProcessCluster, raw: Raw, ann: Person, ben: Person
) -> None:
    of_ben, of_ann = await raw.create_channel(ben, "Ward A", ann), await raw.create_channel(ann, "Ward B", ben)
    with capture_logs() as logs:
        for channel, member in ((of_ben, "ann"), (of_ann, "ben")):
            request = pb.SetMemberRoleRequest(conversation_id=channel, member=member, role=model_pb2.MEMBER_ROLE_OWNER)
            await raw.conversations.SetMemberRole(request, metadata=ann.metadata)
    told = [line for line in logs if line["event"] == "admin_action"]
    assert [(line["action"], line["by"], line["about"]) for line in told] == [("change_channel", "ann", "ann")]


async def test_a_channel_is_made_once_however_often_it_is_asked_for(
    cluster: InProcessCluster, raw: Raw, ann: Person, ben: Person
) -> None:
    request = pb.CreateChannelRequest(title="Ward A", members=["Ben", "ann", "ben"], request_id=secrets.token_bytes(16))
    first = await raw.conversations.CreateChannel(request, metadata=ann.metadata)
    again = await raw.conversations.CreateChannel(request, metadata=ann.metadata)
    assert first.conversation_id == again.conversation_id
    [message] = await raw.history(ben, first.conversation_id)
    assert (message.kind, message.body, list(message.subjects)) == (
        model_pb2.MESSAGE_KIND_CHANNEL_CREATED,
        "Ward A",
        [ann.id, ben.id],
    )
    request.title = "Ward B"
    code, _ = await refused(raw.conversations.CreateChannel(request, metadata=ann.metadata))
    assert code is Code.ALREADY_EXISTS


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"title": ""}, Code.INVALID_ARGUMENT),
        ({"title": "x" * 101}, Code.INVALID_ARGUMENT),
        ({"title": "a\nb"}, Code.INVALID_ARGUMENT),
        ({"request_id": b"x"}, Code.INVALID_ARGUMENT),
        ({"members": ["a b"]}, Code.INVALID_ARGUMENT),
        ({"members": ["ben"] * 256}, Code.INVALID_ARGUMENT),
        ({"members": ["ben", "nobody"]}, Code.NOT_FOUND),
    ],
    ids=["no title", "long title", "line break", "request id", "bad name", "too many", "unknown"],
)
async def test_a_channel_that_breaks_the_rules_is_not_made(
    cluster: InProcessCluster, raw: Raw, ann: Person, ben: Person, fields: dict[str, object], code: grpc.StatusCode
) -> None:
    request = pb.CreateChannelRequest(
        **{"title": "Ward A", "members": ["ben"], "request_id": bytes(16), **fields}  # type: ignore[arg-type]
    )
    assert (await refused(raw.conversations.CreateChannel(request, metadata=ann.metadata)))[0] is code
    assert cluster.messages == []
