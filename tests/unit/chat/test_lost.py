"""What a restored cluster does not have any more, among the rows of its conversation and on a page of history."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from parley import Changes, ClientState, HistoryPage, LostMessage, LostOrigin, MessageStatus, Target
from parley.chat import KEEP_ROWS, NOT_IN_CLUSTER, Chats, Row, in_order, known_of, lost_notice, spoken, why_fixed
from tests.unit.chat import people
from tests.unit.chat.people import BEN, PEOPLE, direct
from tests.unit.chat.test_thread import apply, bodies, message, new_thread, own, page


def lost(
    id_: int, body: str, *, after_id: int = 2, origin: LostOrigin = LostOrigin.OTHERS, conversation_id: int = 0
) -> LostMessage:
    """A lost message of the conversation with ben."""
    sender = "ben" if origin is LostOrigin.OTHERS else ""
    where = conversation_id or direct().id
    return LostMessage(id_, origin, "ben", sender, body, 5_000 + id_, where, after_id, Target(account="ben"))


def test_lost_rows_stand_between_what_was_before_and_after_and_say_what_they_are() -> None:
    thread = new_thread()
    thread.load(page(1, 2, 3), 0)
    mine = lost(8, "mine", origin=LostOrigin.THIS_DEVICE)
    thread.set_lost([lost(7, "from ben"), mine])
    assert bodies(thread) == [message(1).body, message(2).body, "from ben", "mine", message(3).body]
    of_ben, of_ann = thread.rows[2], thread.rows[3]
    assert (of_ben.lost, of_ben.mine, of_ben.message_id, of_ben.local_id) == (True, False, 0, 0)
    assert (of_ann.lost, of_ann.mine) == (True, True)
    assert (of_ann.retriable, of_ann.cancellable, of_ann.editable) == (False,) * 3, "the outbox has none of it"
    assert known_of(of_ben) == known_of(of_ann) == NOT_IN_CLUSTER
    assert NOT_IN_CLUSTER in spoken(of_ben)
    assert NOT_IN_CLUSTER in spoken(of_ann)
    assert NOT_IN_CLUSTER in why_fixed(of_ann), "the cluster has not stored it"
    assert thread.last_message_id == 3


def test_lost_rows_are_in_the_order_of_their_times() -> None:
    thread = new_thread()
    thread.load(page(1, 2), 0)
    thread.set_lost([replace(lost(7, "later"), sent_at_ms=9_000), replace(lost(8, "sooner"), sent_at_ms=8_000)])
    assert bodies(thread)[2:] == ["sooner", "later"]


def test_a_lost_row_goes_when_it_is_not_in_the_list_any_more() -> None:
    thread = new_thread()
    thread.load(page(1, 2), 0)
    thread.set_lost([lost(7, "one"), lost(8, "two")])
    thread.update([own(5, MessageStatus.WAITING, body="waits")])
    thread.set_lost([lost(8, "two")])
    assert bodies(thread)[2:] == ["two", "waits"]
    thread.set_lost([])
    assert bodies(thread)[2:] == ["waits"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.integers(1, 30), st.sets(st.integers(1, 12), max_size=6)), max_size=20))
def test_a_mirror_follows_lost_rows_as_it_follows_others(steps: list[int | set[int]]) -> None:
    """A number is a message that arrives, a set is the list of lost messages from then on."""
    thread, mirror = new_thread(), list[Row]()
    arrived, listed = set[int](), set[int]()
    for step in steps:
        if isinstance(step, int):
            arrived.add(step)
            apply(mirror, thread.arrive([message(step)]))
        else:
            listed = step
            apply(mirror, thread.set_lost([lost(one, f"lost {one}", after_id=2 * one) for one in sorted(step)]))
    assert mirror == thread.rows
    wanted = [(one, 0, message(one).body) for one in arrived] + [(2 * one, one, f"lost {one}") for one in listed]
    assert bodies(thread) == [body for _, _, body in sorted(wanted)]


def test_marks_of_members_leave_lost_rows_as_they_are() -> None:
    thread = new_thread()
    thread.load(HistoryPage((message(1, mine=True), message(3, mine=True)), False), 0)
    thread.set_lost([lost(7, "mine", after_id=1, origin=LostOrigin.THIS_DEVICE)])
    thread.set_conversation(people.direct(delivered=3, read=3))
    assert [row.status for row in thread.rows] == [MessageStatus.READ, MessageStatus.FAILED, MessageStatus.READ]


def test_the_unread_divider_is_never_at_a_lost_row() -> None:
    thread = new_thread()
    thread.load(page(1, 2, 3), 0)
    thread.set_lost([lost(7, "from ben", after_id=2)])
    thread.set_divider(2)
    assert [row.unread_above for row in thread.rows] == [False, False, False, True]


def test_a_thread_that_ends_at_a_lost_row_asks_for_the_message_before_it_again() -> None:
    thread = new_thread()
    last = KEEP_ROWS + 3
    thread.load(page(*range(1, last + 1), more=True), 0)
    thread.set_lost([lost(7, "from ben", after_id=4)])
    thread.trim()
    assert bodies(thread)[:2] == ["from ben", message(5).body]
    assert thread.wants_before(0) == 5, "4 is not among the rows any more"


def test_what_was_trimmed_is_shown_when_the_conversation_is_opened_again() -> None:
    chats = chats_with_ben()
    chats.take_lost([lost(7, "from ben", after_id=0)])
    key, _, _ = chats.open("ben")
    chats.load(Target(account="ben"), 0, page(*range(1, KEEP_ROWS + 1)))
    chats.leave()
    thread = chats.thread(key)
    assert thread is not None
    assert "from ben" not in bodies(thread)
    chats.open("ben")
    assert bodies(thread)[0] == "from ben"


def test_a_page_of_history_has_lost_messages_where_they_stood() -> None:
    found = HistoryPage(tuple(map(message, (1, 2, 5))), False, lost=(lost(9, "late", after_id=5), lost(7, "early")))
    assert [one.body for one in in_order(found)] == [
        message(1).body,
        message(2).body,
        "early",
        message(5).body,
        "late",
    ]
    assert [one.body for one in in_order(HistoryPage((), False, lost=(lost(7, "alone"),)))] == ["alone"]


def chats_with_ben() -> Chats:
    chats = Chats("ann")
    chats.take_accounts(PEOPLE)
    chats.take_conversations([direct()])
    return chats


def test_an_opened_conversation_shows_its_lost_messages_and_no_others() -> None:
    chats = chats_with_ben()
    by_name = LostMessage(9, LostOrigin.THIS_DEVICE, "ben", "", "by name", 9, target=Target(account="ben"))
    elsewhere = LostMessage(10, LostOrigin.OTHERS, "ops", "carl", "of a lost channel", 10)
    chats.take_lost([lost(7, "by id"), by_name, elsewhere])
    key, _, _ = chats.open("ben")
    thread = chats.thread(key)
    assert thread is not None
    assert sorted(bodies(thread)) == ["by id", "by name"]
    chats.take_lost([by_name])
    assert bodies(thread) == ["by name"]


def test_lost_messages_are_shown_once_the_conversation_has_its_id() -> None:
    chats = Chats("ann")
    key, _, _ = chats.open("ben")
    chats.take_lost([lost(7, "by id")])
    thread = chats.thread(key)
    assert thread is not None
    assert bodies(thread) == []
    chats.take_accounts(PEOPLE)
    chats.take_conversations([direct()])
    opened = chats.thread(chats.key_of("ben"))
    assert opened is not None
    assert bodies(opened) == ["by id"]


def test_when_ids_mean_others_everything_is_forgotten_first() -> None:
    chats = chats_with_ben()
    key, _, _ = chats.open("ben")
    chats.take_arrived([people.message(1, sender=BEN)])
    chats.changed(Changes(ClientState(), accounts=PEOPLE, reload=True, anew=True))
    assert chats.open_key is None
    assert chats.thread(key) is None
    assert chats.items() == []
    assert chats.book.own_name == "ann"
    assert chats.book.get(BEN.id) is not None, "what comes with the change is of the new life"


def test_the_sentence_counts() -> None:
    assert lost_notice(1).startswith("1 message that you sent is not in the cluster any more.")
    assert lost_notice(2).startswith("2 messages that you sent are not")
