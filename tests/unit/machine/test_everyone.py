"""One conversation is for all accounts: nobody enters it, nobody leaves it, and no command visits all of them."""

from __future__ import annotations

import pytest

from parley_proto.v1 import model_pb2
from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.features import conversations, memberships, receipts
from parleyd.machine.features.conversations import ConversationCreated
from parleyd.machine.features.memberships import EVERYONE, EVERYONE_ID, Interval, MemberRecord
from parleyd.machine.features.messages import MessageStored
from parleyd.machine.features.receipts import ReadState, ReceiptMoved
from parleyd.machine.limits import MAX_ID
from tests.unit.machine.harness import (
    ConversationId,
    Item,
    Node,
    change_setting,
    create_channel,
    delete_account,
    dump,
    mark_delivered,
    mark_read,
    queued,
    read_back,
    sends,
)

OK = pb.RESULT_CODE_OK
ADA, BOB, CID = 1, 2, 3
ALL = ConversationId(EVERYONE_ID)


@pytest.fixture
def people(node: Node) -> dict[str, int]:
    """Sessions of ada, who is an administrator, bob and cid, at level 3."""
    sessions = {name: node.user(name, 10 + place) for place, name in enumerate(("ada", "bob"))}
    node.rise()
    return sessions | {"cid": node.user("cid", 12)}


def one(node: Node, command: pb.Command) -> pb.CommandResult:
    return node.one(command, level=node.machine.level)


def send_in(node: Node, session_id: int, *items: Item) -> list[pb.StoredSendResult]:
    return list(one(node, sends(session_id, *items)).send_messages.sends)


def call(node: Node, session_id: int, number: int, body: str) -> int:
    """Write to everyone; return the message's id."""
    [sent] = send_in(node, session_id, (number, ALL, body))
    assert (sent.code, sent.conversation_id) == (OK, EVERYONE_ID)
    return sent.message_id


def rows_of_members(node: Node) -> list[tuple[object, ...]]:
    return [row for row in dump(node.path)["members"] if row[0] == EVERYONE_ID]


def test_below_level_3_there_is_none(node: Node) -> None:
    ada = node.user("ada", 10)
    [refused] = send_in(node, ada, (1, ALL, "hello"))
    assert refused.code == pb.RESULT_CODE_NO_SUCH_CONVERSATION
    assert not memberships.is_member(node.reader, EVERYONE_ID, ADA)
    assert conversations.by_id(node.reader, EVERYONE_ID) is None
    assert one(node, mark_read(ada, EVERYONE_ID, 1)).code == pb.RESULT_CODE_NO_SUCH_CONVERSATION


def test_the_first_message_begins_it_and_every_account_receives_it(node: Node, people: dict[str, int]) -> None:
    first = call(node, people["bob"], 1, "fire drill at ten")
    created, stored = node.effects()
    assert created == ConversationCreated(EVERYONE_ID, EVERYONE, ())
    assert isinstance(stored, MessageStored)
    assert stored.pair == ()
    assert rows_of_members(node) == [], "no row for anybody"
    for account_id in (ADA, BOB, CID):
        assert [row.id for row in queued(node.reader, account_id, 0, 10, b"")] == [first]
        assert [row.id for row in read_back(node.reader, account_id, EVERYONE_ID, 0, 10)] == [first]
        [line] = conversations.page(node.reader, account_id, 0, 10)
        assert (line.conversation.id, line.conversation.title, line.conversation.member_count) == (
            EVERYONE_ID,
            "everyone",
            3,
        )
        assert line.unread == (account_id != BOB)
    second = call(node, people["ada"], 1, "over")
    assert not any(isinstance(effect, ConversationCreated) for effect in node.effects())
    assert [row.id for row in queued(node.reader, CID, first, 10, b"")] == [second]


def test_a_new_account_reads_from_its_registration_on(node: Node, people: dict[str, int]) -> None:
    before = call(node, people["ada"], 1, "before")
    node.user("dan", 14)
    dan = node.account("dan").id
    assert queued(node.reader, dan, 0, 10, b"") == []
    assert read_back(node.reader, dan, EVERYONE_ID, 0, 10) == ()
    assert list(conversations.page(node.reader, dan, 0, 10)) == [], "not even its last message is shown"
    assert memberships.readable(node.reader, EVERYONE_ID, dan) == [Interval(before + 1, MAX_ID)]
    after = call(node, people["ada"], 2, "after")
    assert [row.id for row in queued(node.reader, dan, 0, 10, b"")] == [after]
    assert not read_back(node.reader, dan, EVERYONE_ID, after, 1)
    [line] = conversations.page(node.reader, dan, 0, 10)
    assert (line.unread, line.read_up_to) == (1, before)


def test_a_row_exists_only_once_a_mark_moves_and_keeps_from_where_the_account_reads(
    node: Node, people: dict[str, int]
) -> None:
    call(node, people["ada"], 1, "before")
    dan_session = node.user("dan", 14)
    dan = node.account("dan").id
    first = call(node, people["ada"], 2, "one")
    second = call(node, people["ada"], 3, "two")
    one(node, mark_delivered(dan_session, first))
    assert node.effects() == (ReceiptMoved(EVERYONE_ID, dan, first, first - 1, (), is_large=True),)
    assert [row[1] for row in rows_of_members(node)] == [dan]
    assert [row.id for row in read_back(node.reader, dan, EVERYONE_ID, 0, 10)] == [first, second]
    assert [row.id for row in queued(node.reader, dan, 0, 10, b"")] == [first, second]
    one(node, mark_read(dan_session, EVERYONE_ID, second))
    assert node.effects() == (ReceiptMoved(EVERYONE_ID, dan, second, second, (), is_large=True),)
    [line] = conversations.page(node.reader, dan, 0, 10)
    assert (line.unread, line.read_up_to) == (0, second)
    assert one(node, mark_read(people["cid"], EVERYONE_ID, first)).code == OK, "a read mark comes first"
    assert memberships.members(node.reader, EVERYONE_ID, 0, 10) == (
        MemberRecord(ADA, memberships.ROLE_MEMBER, 0, 0, 1),
        MemberRecord(BOB, memberships.ROLE_MEMBER, 0, 0, 1),
        MemberRecord(CID, memberships.ROLE_MEMBER, first, first, 1),
        MemberRecord(dan, memberships.ROLE_MEMBER, second, second, first),
    )
    assert memberships.members(node.reader, EVERYONE_ID, CID, 10)[0].account_id == dan
    one(node, mark_delivered(dan_session, second))
    assert node.effects() == (), "nothing moves twice"


def test_marks_move_after_a_restart_too(node: Node, people: dict[str, int]) -> None:
    first = call(node, people["ada"], 1, "one")
    one(node, mark_delivered(people["bob"], first))
    node.machine.close()
    node.machine = type(node.machine).open(node.path)
    second = call(node, people["ada"], 2, "two")
    one(node, mark_delivered(people["bob"], second))
    assert node.effects() == (ReceiptMoved(EVERYONE_ID, BOB, second, 0, (), is_large=True),)
    assert len(rows_of_members(node)) == 1


def test_a_read_mark_is_looked_up_like_those_of_other_conversations(node: Node, people: dict[str, int]) -> None:
    call(node, people["ada"], 1, "before")
    node.user("dan", 14)
    dan = node.account("dan").id
    sent = call(node, people["ada"], 2, "one")
    found = receipts.read_states(node.reader, dan, {EVERYONE_ID: sent})
    assert (found.known, found.beyond) == ({EVERYONE_ID: ReadState(sent, sent - 1)}, frozenset())
    one(node, mark_read(people["bob"], EVERYONE_ID, sent))
    found = receipts.read_states(node.reader, BOB, {EVERYONE_ID: sent})
    assert found.known == {EVERYONE_ID: ReadState(sent, sent)}
    assert receipts.of_others(node.reader, ADA, 10) == (), "a device is not sent the marks of all accounts"


def test_administrators_can_keep_it_for_themselves(node: Node, people: dict[str, int]) -> None:
    assert one(node, change_setting(people["ada"], "everyone_writers", 0)).code == OK
    [refused] = send_in(node, people["bob"], (1, ALL, "me too"))
    assert refused.code == pb.RESULT_CODE_ADMINISTRATORS_WRITE
    sent = call(node, people["ada"], 1, "fire drill at ten")
    assert [row.id for row in queued(node.reader, BOB, 0, 10, b"")] == [sent]
    assert one(node, change_setting(people["ada"], "everyone_writers", 1)).code == OK
    call(node, people["bob"], 2, "me too")


def test_it_is_no_channel(node: Node, people: dict[str, int]) -> None:
    call(node, people["ada"], 1, "hello")
    one(node, change_setting(people["ada"], "max_joined_channels", 1))
    one(node, mark_delivered(people["bob"], 1))
    for session in (people["ada"], people["bob"]):
        renamed = pb.Command(
            change_channel=pb.ChangeChannel(session_id=session, conversation_id=EVERYONE_ID, title="ours")
        )
        assert one(node, renamed).code == pb.RESULT_CODE_NOT_A_CHANNEL
        left = pb.Command(leave_channel=pb.LeaveChannel(session_id=session, conversation_id=EVERYONE_ID))
        assert one(node, left).code == pb.RESULT_CODE_NOT_A_CHANNEL
    assert one(node, create_channel(people["ada"], "ward", BOB)).code == OK, "it is not counted among joined channels"
    assert EVERYONE_ID not in memberships.channels_of(node.reader, BOB)


def test_a_deleted_account_is_no_member(node: Node, people: dict[str, int]) -> None:
    sent = call(node, people["ada"], 1, "hello")
    one(node, mark_delivered(people["cid"], sent))
    assert one(node, delete_account(node.token)).code == OK
    found = conversations.by_id(node.reader, EVERYONE_ID)
    assert found is not None
    assert (found.member_count, found.members) == (2, ())
    assert [one.account_id for one in memberships.members(node.reader, EVERYONE_ID, 0, 10)] == [ADA, BOB]


def test_what_a_message_to_everyone_writes_does_not_depend_on_the_number_of_accounts(node: Node) -> None:
    ada = node.user("ada", 10)
    node.rise()
    call(node, ada, 1, "hello")
    few = {table: len(rows) for table, rows in dump(node.path).items()}
    call(node, ada, 2, "hello")
    step = {table: len(rows) - few[table] for table, rows in dump(node.path).items()}
    for place in range(50):
        node.register(f"user-{place}")
    before = {table: len(rows) for table, rows in dump(node.path).items()}
    call(node, ada, 3, "hello")
    assert {table: len(rows) - before[table] for table, rows in dump(node.path).items()} == step
    assert len(node.effects()) == 1


def test_kinds_of_rows_are_those_of_messages(node: Node, people: dict[str, int]) -> None:
    sent = call(node, people["bob"], 1, "hello")
    [row] = read_back(node.reader, CID, EVERYONE_ID, 0, 10)
    assert (row.id, row.kind, row.sender_id, row.body) == (sent, model_pb2.MESSAGE_KIND_TEXT, BOB, "hello")
