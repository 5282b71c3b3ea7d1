"""Sends once and in order, cursors and marks that only grow."""

from __future__ import annotations

import pytest

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.features import conversations, messages, receipts, sessions
from parleyd.machine.features.conversations import ConversationCreated
from parleyd.machine.features.messages import MessageStored
from parleyd.machine.features.receipts import Marks, ReceiptMoved
from parleyd.machine.limits import FIRST_MESSAGE_ID, MAX_SENDS_IN_FLIGHT
from tests.unit.machine.harness import (
    Node,
    external,
    mark_delivered,
    mark_read,
    marks,
    message_count,
    queued,
    read_back,
    sends,
)

OK = pb.RESULT_CODE_OK
GAP = pb.RESULT_CODE_GAP
ADA, BOB = 1, 2
DEFAULT_BODY_BYTES = 65_536


@pytest.fixture
def ada(node: Node) -> int:
    return node.user("ada", 11)


@pytest.fixture
def bob(node: Node, ada: int) -> int:
    return node.user("bob", 12)


# ---- sending


def test_message_is_stored_and_told_to_both_sides(node: Node, ada: int, bob: int) -> None:
    (result,) = node.send(ada, (1, "BOB", "hello"))
    assert (result.code, result.message_id, result.sent_at_ms) == (OK, FIRST_MESSAGE_ID, node.now_ms)
    begun, effect = node.effects()
    assert begun == ConversationCreated(result.conversation_id, conversations.DIRECT, (ADA, BOB))
    assert isinstance(effect, MessageStored)
    message = effect.message
    assert (message.id, message.conversation_id) == (result.message_id, result.conversation_id)
    assert (message.sender_id, message.kind, message.body) == (ADA, messages.TEXT, "hello")
    assert (message.sent_at_ms, message.device_id, message.send_number) == (node.now_ms, external(11), 1)
    assert effect.pair == (ADA, BOB)


def test_both_directions_share_one_conversation_with_rising_ids(node: Node, ada: int, bob: int) -> None:
    (one,) = node.send(ada, (1, "bob", "ping"))
    (two,) = node.send(bob, (1, "ada", "pong"))
    assert one.conversation_id == two.conversation_id
    assert two.message_id == one.message_id + 1
    assert [m.body for m in read_back(node.reader, ADA, one.conversation_id, 0, 10)] == ["ping", "pong"]


def test_retried_send_gets_its_first_result_and_makes_no_second_message(node: Node, ada: int, bob: int) -> None:
    first = node.send(ada, (1, "bob", "hello"), (2, "bob", "again"))
    assert node.send(ada, (1, "bob", "hello"), (2, "bob", "again"), (3, "bob", "new"))[:2] == first
    assert len(node.effects()) == 1
    assert message_count(node.reader) == 3


def test_send_repeated_within_one_entry_is_stored_once(node: Node, ada: int, bob: int) -> None:
    one, two = node.apply(sends(ada, (1, "bob", "x")), sends(ada, (1, "bob", "x")))
    assert one == two
    assert message_count(node.reader) == 1


def test_retry_is_answered_after_a_restart_and_from_a_newer_session(node: Node, ada: int, bob: int) -> None:
    first = node.send(ada, (1, "bob", "hello"))
    node.reopen()
    again = node.login(ADA, 11)
    assert node.send(again, (1, "bob", "hello")) == first


def test_gap_refuses_all_that_follows_and_says_where_to_go_on(node: Node, ada: int, bob: int) -> None:
    result = node.one(sends(ada, (1, "bob", "a"), (3, "bob", "c"), (4, "bob", "d"), (2, "bob", "b")))
    assert result.code == GAP
    assert result.send_messages.last_send_number == 1
    assert [send.code for send in result.send_messages.sends] == [OK, GAP, GAP, GAP]
    assert message_count(node.reader) == 1
    assert [send.code for send in node.send(ada, (2, "bob", "b"), (3, "bob", "c"))] == [OK, OK]


def test_numbers_are_counted_per_device(node: Node, ada: int, bob: int) -> None:
    second = node.login(ADA, 13)
    assert node.send(ada, (1, "bob", "from one"))[0].code == OK
    assert node.send(second, (1, "bob", "from the other"))[0].code == OK


@pytest.mark.parametrize("number", [2**63, 2**64 - 1])
def test_number_beyond_all_bounds_is_a_gap(node: Node, ada: int, bob: int, number: int) -> None:
    assert node.send(ada, (number, "bob", "x"))[0].code == GAP


def test_number_zero_is_invalid_and_uses_up_nothing(node: Node, ada: int, bob: int) -> None:
    assert [s.code for s in node.send(ada, (0, "bob", "x"), (1, "bob", "y"))] == [pb.RESULT_CODE_INVALID_NUMBER, OK]


def test_unknown_recipient_uses_the_number_up_and_stays_refused(node: Node, ada: int) -> None:
    (first,) = node.send(ada, (1, "nobody", "x"))
    assert first.code == pb.RESULT_CODE_NO_SUCH_ACCOUNT
    node.user("nobody", 14)
    assert node.send(ada, (1, "nobody", "x")) == [first]
    assert message_count(node.reader) == 0
    assert node.send(ada, (2, "nobody", "x"))[0].code == OK


@pytest.mark.parametrize("recipient", ["", "*", "a b", "x" * 5000, "\x00"])
def test_recipient_that_is_no_name_is_not_found(node: Node, ada: int, recipient: str) -> None:
    assert node.send(ada, (1, recipient, "x"))[0].code == pb.RESULT_CODE_NO_SUCH_ACCOUNT


def test_body_is_bounded_in_bytes_and_a_refused_one_uses_its_number_up(node: Node, ada: int, bob: int) -> None:
    limit = DEFAULT_BODY_BYTES
    results = node.send(
        ada,
        (1, "bob", ""),
        (2, "bob", "x" * limit),
        (3, "bob", "x" * (limit + 1)),
        (4, "bob", "ä" * (limit // 2)),
        (5, "bob", "ä" * (limit // 2 + 1)),
    )
    invalid = pb.RESULT_CODE_INVALID_BODY
    assert [send.code for send in results] == [invalid, OK, invalid, OK, invalid]
    assert node.send(ada, (5, "bob", "ä" * (limit // 2 + 1))) == results[4:]


@pytest.mark.parametrize("body", ["\x00", "a\x00b", "'; DROP TABLE messages; --", "👩‍👩‍👧", "\u202e", "\r\n" * 10])
def test_any_text_comes_back_as_it_was_sent(node: Node, ada: int, bob: int, body: str) -> None:
    (result,) = node.send(ada, (1, "bob", body))
    assert read_back(node.reader, BOB, result.conversation_id, 0, 1)[0].body == body


def test_notes_to_oneself_are_a_conversation_with_one_member(node: Node, ada: int) -> None:
    other = node.login(ADA, 13)
    (result,) = node.send(ada, (1, "ada", "remember"))
    begun, effect = node.effects()
    assert begun == ConversationCreated(result.conversation_id, conversations.DIRECT, (ADA,))
    assert isinstance(effect, MessageStored)
    assert effect.pair == (ADA,)
    assert marks(node, result.conversation_id) == [Marks(result.conversation_id, ADA, 0, 0)]
    (summary,) = conversations.page(node.reader, ADA, 0, 10)
    assert ([member.account_id for member in summary.conversation.members], summary.unread) == ([ADA], 0)
    node.one(mark_read(other, result.conversation_id, result.message_id))
    assert node.effects() == (ReceiptMoved(result.conversation_id, ADA, result.message_id, result.message_id, (ADA,)),)


def test_results_outside_the_window_are_forgotten_but_never_applied_again(node: Node, ada: int, bob: int) -> None:
    total = MAX_SENDS_IN_FLIGHT + 2
    numbers = list(range(1, total + 1))
    first = node.send(ada, *[(number, "bob", "x") for number in numbers])
    retried = node.send(ada, *[(number, "bob", "x") for number in numbers])
    assert [send.code for send in retried[:2]] == [pb.RESULT_CODE_FORGOTTEN] * 2
    assert retried[2:] == first[2:]
    assert message_count(node.reader) == total


@pytest.mark.parametrize("session_id", [0, 99, 2**63, 2**64 - 1])
def test_unknown_session_may_do_nothing(node: Node, ada: int, session_id: int) -> None:
    for command in (sends(session_id, (1, "ada", "x")), mark_delivered(session_id, 1), mark_read(session_id, 1, 1)):
        assert node.one(command).code == pb.RESULT_CODE_SIGNED_OUT
    assert node.effects() == ()


def test_time_of_messages_never_runs_backwards(node: Node, ada: int, bob: int) -> None:
    (early,) = node.send(ada, (1, "bob", "x"))
    late = node.one(sends(ada, (2, "bob", "y")), at_ms=5)
    assert late.send_messages.sends[0].sent_at_ms == early.sent_at_ms


# ---- delivery


def test_delivery_moves_the_cursor_and_tells_the_sender(node: Node, ada: int, bob: int) -> None:
    one, two = node.send(ada, (1, "bob", "x"), (2, "bob", "y"))
    node.one(mark_delivered(bob, one.message_id))
    assert node.effects() == (ReceiptMoved(one.conversation_id, BOB, one.message_id, 0, (ADA, BOB)),)
    node.one(mark_delivered(bob, two.message_id))
    assert node.effects() == (ReceiptMoved(one.conversation_id, BOB, two.message_id, 0, (ADA, BOB)),)
    assert sessions.with_account(node.reader, b"") is None
    assert node.login(BOB, 12)
    assert node.last.results[0][0].open_session.delivered_up_to == two.message_id


def test_delivery_never_goes_back_and_a_repeated_mark_tells_nobody(node: Node, ada: int, bob: int) -> None:
    one, two = node.send(ada, (1, "bob", "x"), (2, "bob", "y"))
    node.one(mark_delivered(bob, two.message_id))
    for up_to in (0, one.message_id, two.message_id):
        result = node.one(mark_delivered(bob, up_to))
        assert (result.code, result.mark_delivered.delivered_up_to) == (OK, two.message_id)
        assert node.effects() == ()


@pytest.mark.parametrize("up_to", [FIRST_MESSAGE_ID + 100, 2**63, 2**64 - 1])
def test_mark_beyond_the_newest_message_is_capped_there(node: Node, ada: int, bob: int, up_to: int) -> None:
    (one,) = node.send(ada, (1, "bob", "x"))
    assert node.one(mark_delivered(bob, up_to)).mark_delivered.delivered_up_to == one.message_id
    (two,) = node.send(ada, (2, "bob", "y"))
    found = queued(node.reader, BOB, one.message_id, 10, b"")
    assert [message.id for message in found] == [two.message_id]


def test_delivery_moves_marks_in_all_conversations_concerned_and_no_others(node: Node, ada: int, bob: int) -> None:
    cid = node.user("cid", 15)
    (from_ada,) = node.send(ada, (1, "bob", "x"))
    (from_cid,) = node.send(cid, (1, "bob", "y"))
    (unrelated,) = node.send(ada, (2, "cid", "z"))
    node.one(mark_delivered(bob, unrelated.message_id))
    assert node.effects() == (
        ReceiptMoved(from_ada.conversation_id, BOB, from_ada.message_id, 0, (ADA, BOB)),
        ReceiptMoved(from_cid.conversation_id, BOB, from_cid.message_id, 0, (BOB, 3)),
    )


def test_message_after_a_delivery_is_waited_for_in_its_turn(node: Node, ada: int, bob: int) -> None:
    for number in (1, 2, 3):
        (result,) = node.send(ada, (number, "bob", "x"))
        node.one(mark_delivered(bob, result.message_id))
        assert node.effects() == (ReceiptMoved(result.conversation_id, BOB, result.message_id, 0, (ADA, BOB)),)


def test_slower_device_of_an_account_moves_no_mark_back(node: Node, ada: int, bob: int) -> None:
    tablet = node.login(BOB, 16)
    one, two, _ = node.send(ada, (1, "bob", "x"), (2, "bob", "y"), (3, "bob", "not delivered yet"))
    node.one(mark_delivered(bob, two.message_id))
    assert node.one(mark_delivered(tablet, one.message_id)).mark_delivered.delivered_up_to == one.message_id
    assert node.effects() == ()
    assert receipts.of_others(node.reader, ADA, 10) == (Marks(one.conversation_id, BOB, two.message_id, 0),)


def test_delivery_after_a_restart_finds_the_conversations_again(node: Node, ada: int, bob: int) -> None:
    one, two = node.send(ada, (1, "bob", "x"), (2, "bob", "y"))
    node.one(mark_delivered(bob, one.message_id))
    node.reopen()
    node.one(mark_delivered(bob, two.message_id))
    assert node.effects() == (ReceiptMoved(one.conversation_id, BOB, two.message_id, 0, (ADA, BOB)),)


# ---- reading


def test_reading_implies_delivery_and_tells_the_sender(node: Node, ada: int, bob: int) -> None:
    one, two = node.send(ada, (1, "bob", "x"), (2, "bob", "y"))
    node.one(mark_read(bob, one.conversation_id, one.message_id))
    assert node.effects() == (ReceiptMoved(one.conversation_id, BOB, one.message_id, one.message_id, (ADA, BOB)),)
    (conversation,) = conversations.page(node.reader, BOB, 0, 10)
    assert (conversation.unread, conversation.read_up_to) == (1, one.message_id)
    node.one(mark_delivered(bob, two.message_id))
    assert node.effects() == (ReceiptMoved(one.conversation_id, BOB, two.message_id, one.message_id, (ADA, BOB)),)


def test_read_mark_never_goes_back_and_is_capped_at_the_last_message(node: Node, ada: int, bob: int) -> None:
    (one,) = node.send(ada, (1, "bob", "x"))
    node.send(bob, (1, "bob", "a newer message elsewhere"))
    assert node.one(mark_read(bob, one.conversation_id, 2**64 - 1)).code == OK
    assert node.effects() == (ReceiptMoved(one.conversation_id, BOB, one.message_id, one.message_id, (ADA, BOB)),)
    assert node.one(mark_read(bob, one.conversation_id, 0)).code == OK
    assert node.effects() == ()


@pytest.mark.parametrize("conversation_id", [0, 1, 99, 2**63, 2**64 - 1])
def test_conversation_of_others_cannot_be_marked(node: Node, ada: int, bob: int, conversation_id: int) -> None:
    node.send(ada, (1, "bob", "x"))
    cid = node.user("cid", 15)
    assert node.one(mark_read(cid, conversation_id, 1)).code == pb.RESULT_CODE_NO_SUCH_CONVERSATION
    assert node.effects() == ()


def test_reading_less_than_was_delivered_takes_no_delivery_back(node: Node, ada: int, bob: int) -> None:
    one, two = node.send(ada, (1, "bob", "x"), (2, "bob", "y"))
    node.one(mark_delivered(bob, two.message_id))
    node.one(mark_read(bob, one.conversation_id, one.message_id))
    assert node.effects() == (ReceiptMoved(one.conversation_id, BOB, two.message_id, one.message_id, (ADA, BOB)),)


def test_read_and_delivered_in_one_entry_leave_nothing_undelivered(node: Node, ada: int, bob: int) -> None:
    (one,) = node.send(ada, (1, "bob", "x"))
    node.apply(mark_read(bob, one.conversation_id, one.message_id), mark_delivered(bob, one.message_id))
    assert len(node.effects()) == 1
    assert marks(node, one.conversation_id)[1] == Marks(one.conversation_id, BOB, one.message_id, one.message_id)
