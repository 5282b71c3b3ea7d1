"""Receipts of one message: which members count, what their marks say, and the log entry that stored it."""

from __future__ import annotations

import pytest

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.features import channel_counts, message_receipts, receipts
from parleyd.machine.features.channel_counts import MARKS_TOLD_UP_TO
from parleyd.machine.features.memberships import EVERYONE_ID
from parleyd.machine.features.message_receipts import MemberReceipt, ReceiptCounts, StoredMessage
from parleyd.machine.features.messages import MessageStored
from parleyd.machine.features.receipts import ReceiptMoved
from parleyd.machine.limits import MAX_ID
from parleyd.machine.records import CommittedEntry
from tests.unit.machine.harness import ConversationId, Node, mark_delivered, mark_read, payload, sends

OK = pb.RESULT_CODE_OK
ADA, BOB, CID, DAN = 1, 2, 3, 4
NAMES = ("ada", "bob", "cid", "dan")


@pytest.fixture
def people(node: Node) -> dict[str, int]:
    """Sessions of four people at level 3."""
    sessions = {name: node.user(name, 10 + place) for place, name in enumerate(NAMES)}
    node.rise()
    return sessions


@pytest.fixture
def channel(node: Node, people: dict[str, int]) -> int:
    """A channel of all four, which ada owns."""
    return node.channel(people["ada"], "ward 3", BOB, CID, DAN)


def one(node: Node, command: pb.Command) -> pb.CommandResult:
    return node.one(command, level=node.machine.level)


def say(node: Node, session_id: int, number: int, conversation_id: int) -> int:
    """Write in a conversation; return the message's id."""
    item = (number, ConversationId(conversation_id), "x")
    [sent] = one(node, sends(session_id, item)).send_messages.sends
    assert sent.code == OK
    return sent.message_id


def find(node: Node, conversation_id: int, message_id: int) -> StoredMessage:
    found = message_receipts.find(node.reader, conversation_id, message_id)
    assert found is not None
    return found


def counts(node: Node, conversation_id: int, message_id: int) -> tuple[int, int, int]:
    counted = message_receipts.counts(node.reader, find(node, conversation_id, message_id))
    return counted.others, counted.delivered, counted.read


def leave(session_id: int, channel: int) -> pb.Command:
    return pb.Command(leave_channel=pb.LeaveChannel(session_id=session_id, conversation_id=channel))


def add(session_id: int, channel: int, *members: int) -> pb.Command:
    return pb.Command(add_members=pb.AddMembers(session_id=session_id, conversation_id=channel, members=members))


# ---- where it is in the log


def test_a_message_has_the_term_and_the_index_of_its_entry(node: Node, people: dict[str, int]) -> None:
    index = node.machine.applied_index + 1
    commands = [sends(people["ada"], (number, "bob", "x")) for number in (1, 2)]
    node.machine.apply(
        [
            CommittedEntry(index, 7, payload(commands[:1], node.now_ms, node.machine.level)),
            CommittedEntry(index + 1, 8),
            CommittedEntry(index + 2, 8, payload(commands[1:], node.now_ms, node.machine.level)),
        ]
    )
    stored = [find(node, 1, message_id) for message_id in (1, 2)]
    assert [(one.sender_id, one.entry_term, one.entry_index) for one in stored] == [
        (ADA, 7, index),
        (ADA, 8, index + 2),
    ]


def test_a_message_of_an_earlier_level_has_no_entry(node: Node) -> None:
    ada = node.user("ada", 10)
    node.user("bob", 11)
    node.send(ada, (1, "bob", "of level 1"))
    assert find(node, 1, 1) == StoredMessage(1, 1, ADA, 0, 0)
    node.rise()
    assert find(node, 1, 1) == StoredMessage(1, 1, ADA, 0, 0)
    node.send(ada, (2, "bob", "proposed at level 1, applied later"))
    assert find(node, 1, 2) == StoredMessage(1, 2, ADA, 0, 0), "an entry is applied by the rules of its level"


def test_a_message_that_does_not_exist_is_not_found(node: Node, people: dict[str, int], channel: int) -> None:
    message = say(node, people["ada"], 1, channel)
    for conversation_id, message_id in ((channel, message + 1), (channel + 1, message), (0, 0), (MAX_ID + 1, 1)):
        assert message_receipts.find(node.reader, conversation_id, message_id) is None
    assert message_receipts.find(node.reader, channel, MAX_ID + 1) is None


# ---- whom it counts


def test_one_member_who_failed_never_marks_all(node: Node, people: dict[str, int], channel: int) -> None:
    message = say(node, people["ada"], 1, channel)
    assert counts(node, channel, message) == (3, 0, 0)
    one(node, mark_delivered(people["bob"], message))
    assert counts(node, channel, message) == (3, 1, 0)
    one(node, mark_read(people["bob"], channel, message))
    one(node, mark_read(people["cid"], channel, message))
    assert counts(node, channel, message) == (3, 2, 2), "dan has nothing yet"
    for name in ("ada", "bob", "cid"):  # whatever the others do once more
        one(node, mark_delivered(people[name], message))
        one(node, mark_read(people[name], channel, message))
    assert counts(node, channel, message) == (3, 2, 2)
    one(node, mark_delivered(people["dan"], message))
    assert counts(node, channel, message) == (3, 3, 2)


def test_a_receipt_of_one_message_says_nothing_of_a_later_one(node: Node, people: dict[str, int], channel: int) -> None:
    first, second = say(node, people["ada"], 1, channel), say(node, people["ada"], 2, channel)
    for name in ("bob", "cid", "dan"):
        one(node, mark_read(people[name], channel, first))
    assert counts(node, channel, first) == (3, 3, 3)
    assert counts(node, channel, second) == (3, 0, 0)


def test_each_member_has_a_receipt_of_its_own_and_they_come_in_pages(
    node: Node, people: dict[str, int], channel: int
) -> None:
    message = say(node, people["bob"], 1, channel)
    one(node, mark_delivered(people["cid"], message))
    one(node, mark_read(people["dan"], channel, message))
    expected = [
        MemberReceipt(ADA, delivered=False, read=False),
        MemberReceipt(CID, delivered=True, read=False),
        MemberReceipt(DAN, delivered=True, read=True),
    ]
    stored = find(node, channel, message)
    assert list(message_receipts.by_member(node.reader, stored, 0, 10)) == expected
    pages = [message_receipts.by_member(node.reader, stored, after, 2) for after in (0, CID, DAN, MAX_ID + 1)]
    assert [list(page) for page in pages] == [expected[:2], expected[2:], [], []]


def test_who_joined_after_the_message_was_not_sent_it(node: Node, people: dict[str, int]) -> None:
    channel = node.channel(people["ada"], "ward 4")
    message = say(node, people["ada"], 1, channel)
    one(node, add(people["ada"], channel, BOB))
    assert counts(node, channel, message) == (0, 0, 0), "the marks of a newcomer stand above what it never received"
    later = say(node, people["ada"], 2, channel)
    assert counts(node, channel, later) == (1, 0, 0)


def test_who_left_does_not_count_not_even_after_coming_back(node: Node, people: dict[str, int], channel: int) -> None:
    message = say(node, people["ada"], 1, channel)
    one(node, mark_read(people["bob"], channel, message))
    one(node, leave(people["bob"], channel))
    assert counts(node, channel, message) == (2, 0, 0)
    one(node, add(people["ada"], channel, BOB))
    assert counts(node, channel, message) == (2, 0, 0)


def test_a_direct_message_has_one_receipt_and_a_note_has_none(node: Node, people: dict[str, int]) -> None:
    sent = one(node, sends(people["ada"], (1, "bob", "x"), (2, "ada", "a note"))).send_messages.sends
    direct, note = (find(node, each.conversation_id, each.message_id) for each in sent)
    assert message_receipts.counts(node.reader, note) == ReceiptCounts(0, 0, 0)
    one(node, mark_delivered(people["bob"], direct.id))
    assert message_receipts.counts(node.reader, direct) == ReceiptCounts(1, 1, 0)


def test_a_message_to_everyone_counts_the_accounts_that_were_there(node: Node, people: dict[str, int]) -> None:
    message = say(node, people["ada"], 1, EVERYONE_ID)
    node.user("eve", 14)
    one(node, mark_read(people["cid"], EVERYONE_ID, message))
    assert counts(node, EVERYONE_ID, message) == (3, 1, 1)
    stored = find(node, EVERYONE_ID, message)
    receipts = message_receipts.by_member(node.reader, stored, 0, 10)
    assert [(each.account_id, each.read) for each in receipts] == [(BOB, False), (CID, True), (DAN, False)]


# ---- large channels


@pytest.fixture
def crowd(node: Node, people: dict[str, int]) -> int:
    """A channel of more members than are told each other's marks: ada, bob, and many others."""
    others = [node.register(f"other{number}") for number in range(MARKS_TOLD_UP_TO - 1)]
    return node.channel(people["ada"], "all of us", BOB, *others, request_id=b"l" * 16)


def test_a_mark_in_a_large_channel_is_marked_as_such_and_follows_its_members(
    node: Node, people: dict[str, int], crowd: int
) -> None:
    message = say(node, people["ada"], 1, crowd)
    one(node, mark_delivered(people["bob"], message))
    assert node.effects() == (ReceiptMoved(crowd, BOB, message, 0, (), is_large=True),)
    one(node, leave(people["bob"], crowd))
    one(node, mark_read(people["ada"], crowd, message))
    assert node.effects() == (ReceiptMoved(crowd, ADA, message, message, ()),), "it is small enough again"
    one(node, add(people["ada"], crowd, CID))
    for is_reopened in (False, True):
        if is_reopened:
            node.reopen()
        one(node, mark_read(people["ada"], crowd, message + 1 + is_reopened))
        [moved] = node.effects()
        assert isinstance(moved, ReceiptMoved)
        assert moved.is_large


def test_a_message_in_a_large_channel_is_marked_as_such(
    node: Node, people: dict[str, int], crowd: int, channel: int
) -> None:
    def stored_is_large(send_number: int, conversation_id: int) -> bool:
        say(node, people["ada"], send_number, conversation_id)
        [stored] = (effect for effect in node.effects() if isinstance(effect, MessageStored))
        return stored.is_large

    assert [stored_is_large(1, crowd), stored_is_large(2, channel), stored_is_large(3, EVERYONE_ID)] == [
        True,
        False,
        True,
    ]
    one(node, leave(people["bob"], crowd))
    assert not stored_is_large(4, crowd), "it is small enough again"


def test_the_marks_of_a_large_channel_are_not_among_those_that_a_device_missed(
    node: Node, people: dict[str, int], crowd: int, channel: int
) -> None:
    missed = receipts.of_others(node.reader, ADA, 1000)
    assert {one.conversation_id for one in missed} == {channel}


def test_a_large_channel_is_counted_for_its_senders_and_a_small_or_huge_one_is_not(
    node: Node, people: dict[str, int], crowd: int, channel: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = say(node, people["ada"], 1, crowd), say(node, people["bob"], 1, crowd)
    one(node, mark_read(people["bob"], crowd, first))
    ada, bob = channel_counts.count(node.reader, crowd, {ADA: first, BOB: second, CID: second})
    others = MARKS_TOLD_UP_TO
    assert (ada.account_id, ada.others, ada.delivered, ada.read) == (ADA, others, 1, 1)
    assert (bob.account_id, bob.others, bob.delivered, bob.read) == (BOB, others, 0, 0)
    assert (ada.delivered_to_all, ada.sent_from) == (0, 0)
    assert channel_counts.count(node.reader, channel, {ADA: say(node, people["ada"], 2, channel)}) == ()
    monkeypatch.setattr(channel_counts, "MAX_COUNTED", others)
    assert channel_counts.count(node.reader, crowd, {ADA: first}) == ()


def test_the_newest_messages_of_a_device_in_large_channels_are_found(
    node: Node, people: dict[str, int], crowd: int, channel: int
) -> None:
    say(node, people["ada"], 1, crowd)
    newest = say(node, people["ada"], 2, crowd)
    say(node, people["ada"], 3, channel)
    say(node, people["bob"], 1, crowd)
    [(device,)] = node.reader.rows("SELECT id FROM devices WHERE account_id = ?", (ADA,))
    assert channel_counts.newest_of_device(node.reader, device) == {crowd: newest}
