"""The rows of a conversation: each message once, in order, changed by edits that a mirror can follow."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from parley import HistoryPage, Message, MessageKind, MessageStatus, Outgoing
from parley.chat import (
    KEEP_ROWS,
    AccountBook,
    Edit,
    Row,
    RowsChanged,
    RowsInserted,
    RowsRemoved,
    Thread,
)
from tests.unit.chat import people
from tests.unit.chat.people import ANN, BEN, CARL, DANA, PEOPLE, channel, direct, event

DAY_MS = 24 * 3600 * 1000


def new_thread() -> Thread:
    book = AccountBook("ann")
    book.add(PEOPLE)
    return Thread(book, direct())


def message(number: int, *, mine: bool = False, at_ms: int = 0) -> Message:
    return people.message(number, sender=ANN if mine else BEN, at_ms=at_ms)


def own(local_id: int, status: MessageStatus, message_id: int = 0, body: str = "") -> Outgoing:
    return people.own(local_id, status, message_id=message_id, body=body)


def page(*numbers: int, more: bool = False, cached: bool = False) -> HistoryPage:
    return people.page(*map(message, numbers), more=more, cached=cached)


def bodies(thread: Thread) -> list[str]:
    return [row.body for row in thread.rows]


def apply(mirror: list[Row], edits: list[Edit]) -> None:
    for edit in edits:
        match edit:
            case RowsInserted(at, rows):
                assert 0 <= at <= len(mirror)
                mirror[at:at] = rows
            case RowsRemoved(at, count):
                assert at + count <= len(mirror)
                del mirror[at : at + count]
            case RowsChanged(at, rows):
                assert at + len(rows) <= len(mirror)
                mirror[at : at + len(rows)] = rows


def test_history_and_what_arrives_show_each_message_once_in_order() -> None:
    thread = new_thread()
    thread.arrive([message(5), message(6)])
    thread.load(page(2, 3, 4, 5), 0)
    thread.arrive([message(6), message(7)])
    assert bodies(thread) == ["m2", "m3", "m4", "m5", "m6", "m7"]


def test_a_settled_message_keeps_its_row_and_changes_only_its_mark() -> None:
    thread = new_thread()
    thread.load(page(1, 2), 0)
    thread.update([own(1, MessageStatus.WAITING), own(2, MessageStatus.WAITING)])
    edits = thread.update([own(1, MessageStatus.ACCEPTED, 3)])
    assert [type(edit) for edit in edits] == [RowsChanged]
    assert [row.status for row in thread.rows] == [None, None, MessageStatus.ACCEPTED, MessageStatus.WAITING]
    assert thread.rows[2].message_id == 3


def test_a_message_others_sent_meanwhile_stands_before_those_that_wait() -> None:
    thread = new_thread()
    thread.update([own(1, MessageStatus.WAITING)])
    thread.arrive([message(4)])
    assert bodies(thread) == ["m4", "own1"]
    thread.update([own(1, MessageStatus.ACCEPTED, 5)])
    assert bodies(thread) == ["m4", "own1"]


def test_an_older_view_of_an_own_message_never_takes_back_what_is_known() -> None:
    thread = new_thread()
    thread.load(page(), 0)
    thread.update([own(1, MessageStatus.ACCEPTED, 3)])
    assert thread.update([own(1, MessageStatus.SENDING)]) == []
    thread.withdraw([2])
    assert thread.update([own(2, MessageStatus.WAITING)]) == []
    assert [row.status for row in thread.rows] == [MessageStatus.ACCEPTED]


def test_an_own_message_that_history_has_already_is_not_shown_twice_once_it_settles() -> None:
    thread = new_thread()
    thread.update([own(1, MessageStatus.SENDING)])
    thread.load(HistoryPage((message(3, mine=True),), False), 0)
    thread.update([own(1, MessageStatus.ACCEPTED, 3)])
    assert len(thread.rows) == 1


def test_history_that_knows_of_an_own_message_before_the_outbox_does_shows_it_once() -> None:
    under_way = replace(own(1, MessageStatus.SENDING, body="hello"), number=9)
    stored = replace(message(3, mine=True), body="hello", number=9)
    for outbox_first in (True, False):
        thread = new_thread()
        if outbox_first:
            thread.update([under_way, own(2, MessageStatus.WAITING, body="hello")])
        thread.load(HistoryPage((stored,), False), 0)
        thread.update([under_way, own(2, MessageStatus.WAITING, body="hello")])
        assert [(row.message_id, row.status) for row in thread.rows] == [
            (3, MessageStatus.ACCEPTED),
            (0, MessageStatus.WAITING),
        ]
        assert thread.update([replace(own(1, MessageStatus.ACCEPTED, 3), number=9)]) == []


def test_marks_change_only_the_rows_they_pass() -> None:
    thread = new_thread()
    thread.load(HistoryPage(tuple(message(n, mine=True) for n in (1, 2, 3)), False), 0)
    edits = thread.set_conversation(direct(delivered=2, read=1))
    assert [row.status for row in thread.rows] == [MessageStatus.READ, MessageStatus.DELIVERED, MessageStatus.ACCEPTED]
    assert edits == [RowsChanged(0, tuple(thread.rows[:2]))]
    assert thread.set_conversation(direct(delivered=2, read=1)) == []


def test_rows_are_grouped_in_runs_that_end_with_sender_pause_and_day() -> None:
    thread = new_thread()
    noon = 1_760_000_000_000
    thread.arrive(
        [
            message(1, at_ms=noon),
            message(2, at_ms=noon + 1000),
            message(3, mine=True, at_ms=noon + 2000),
            message(4, at_ms=noon + 3000),
            message(5, at_ms=noon + 3000 + 6 * 60 * 1000),
            message(6, at_ms=noon + DAY_MS),
        ]
    )
    assert [(row.first, row.last) for row in thread.rows] == [
        (True, False), (False, True), (True, True), (True, True), (True, True), (True, True),
    ]  # fmt: skip
    assert [row.new_day for row in thread.rows] == [True, False, False, False, False, True]


def test_the_divider_stands_above_the_first_unread_message_of_others() -> None:
    thread = new_thread()
    thread.load(HistoryPage((message(1), message(2, mine=True), message(3), message(4)), False), 0)
    thread.set_divider(1)
    assert thread.divider_row == 2
    assert [row.unread_above for row in thread.rows] == [False, False, True, False]
    thread.set_divider(None)
    assert not any(row.unread_above for row in thread.rows)


def test_older_pages_are_wanted_until_the_cluster_says_there_are_no_more() -> None:
    thread = new_thread()
    assert thread.wants_before(0) is None, "nothing is known yet"
    thread.load(page(*range(200, 300), more=True), 0)
    assert thread.wants_before(99) is None, "far away from the oldest row"
    assert thread.wants_before(10) == 200
    thread.load(page(*range(100, 200), more=False), 200)
    assert thread.wants_before(0) is None
    assert len(thread.rows) == 200


def test_rows_from_the_cache_are_checked_with_the_cluster_when_somebody_scrolls_there() -> None:
    thread = new_thread()
    thread.load(page(1, 2, 9, 10, cached=True), 0)
    thread.load(page(9, 10, more=True), 0)
    assert thread.wants_before(0) == 9
    thread.load(page(*range(1, 9)), 9)
    assert bodies(thread) == [f"m{n}" for n in range(1, 11)]


def test_a_thread_nobody_looks_at_keeps_only_its_end_and_can_load_the_rest_again() -> None:
    thread = new_thread()
    thread.load(page(*range(1, KEEP_ROWS + 101)), 0)
    thread.trim()
    assert len(thread.rows) == KEEP_ROWS
    assert thread.wants_before(0) == 101
    assert thread.rows[0].new_day


def ward(*marks: tuple[int, int], messages: int = 3) -> Thread:
    book = AccountBook("ann")
    book.add(PEOPLE)
    thread = Thread(book, channel(*((who, *mark) for who, mark in zip((BEN, DANA), marks, strict=False))))
    sent = tuple(people.message(n, sender=ANN, conversation_id=people.WARD) for n in range(1, messages + 1))
    thread.load(people.page(*sent), 0)
    return thread


def test_a_channel_message_is_read_only_when_all_others_have_read_it() -> None:
    thread = ward((3, 3), (2, 0))
    assert [row.status for row in thread.rows] == [
        MessageStatus.DELIVERED,
        MessageStatus.DELIVERED,
        MessageStatus.ACCEPTED,
    ]
    assert [(row.delivered, row.read, row.others) for row in thread.rows] == [(2, 1, 2), (2, 1, 2), (1, 1, 2)]
    edits = thread.set_conversation(channel((BEN, 3, 3), (DANA, 2, 2)))
    assert [row.status for row in thread.rows] == [MessageStatus.READ, MessageStatus.READ, MessageStatus.ACCEPTED]
    assert edits == [RowsChanged(0, tuple(thread.rows[:2]))]


def test_a_member_who_joins_later_takes_back_that_all_have_read_it() -> None:
    thread = ward((3, 3))
    before = [row.status for row in thread.rows]
    thread.set_conversation(channel((BEN, 3, 3), (DANA, 0, 0)))
    assert (before, [row.status for row in thread.rows]) == ([MessageStatus.READ] * 3, [MessageStatus.ACCEPTED] * 3)


def test_in_a_channel_the_first_row_of_a_run_says_who_wrote_it() -> None:
    thread = ward(messages=0)
    said = ((1, BEN), (2, BEN), (3, DANA), (4, ANN))
    thread.arrive([people.message(n, sender=who, conversation_id=people.WARD) for n, who in said])
    assert [(row.sender, row.shows_sender) for row in thread.rows] == [
        ("Ben Ortiz (ben)", True), ("Ben Ortiz (ben)", False), ("dana", True), ("ann", False),
    ]  # fmt: skip
    direct_one = new_thread()
    direct_one.arrive([message(1)])
    assert not direct_one.rows[0].shows_sender


def test_what_happens_in_a_channel_is_a_sentence_that_nobody_sent() -> None:
    thread = ward(messages=0)
    thread.arrive(
        [
            event(1, MessageKind.CHANNEL_CREATED, "Ward 4", sender=ANN),
            event(2, MessageKind.MEMBERS_JOINED, "", BEN, DANA, sender=ANN),
            event(3, MessageKind.TITLE_CHANGED, "Ward\u202e 5"),
            event(4, MessageKind.MEMBERS_LEFT, "", CARL),
            event(5, MessageKind.MEMBERS_LEFT, "", BEN),
            event(6, MessageKind.UNKNOWN, "from a later release"),
        ]
    )
    assert bodies(thread) == [
        "You created the channel “Ward 4”.",
        "You added Ben Ortiz (ben) and dana.",
        "Ben Ortiz (ben) changed the title to “Ward\ufffd 5”.",
        "Ben Ortiz (ben) removed carl.",
        "Ben Ortiz (ben) left.",
        "Something happened here that this release of Parley cannot show.",
    ]
    assert all(row.event and row.status is None and not row.shows_sender for row in thread.rows)
    thread.set_divider(0)
    assert thread.divider_row is None, "what happens is not unread"


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), st.lists(st.integers(1, 30), min_size=1, max_size=4), st.booleans()),
        st.tuples(
            st.just("open"),
            st.integers(1, 6),
            st.sampled_from((MessageStatus.WAITING, MessageStatus.SENDING, MessageStatus.FAILED)),
        ),
        st.tuples(st.just("accept"), st.integers(1, 6), st.just(0)),
        st.tuples(st.just("withdraw"), st.integers(1, 6), st.just(0)),
        st.tuples(st.just("mark"), st.integers(0, 40), st.integers(0, 40)),
        st.tuples(st.just("divide"), st.one_of(st.none(), st.integers(0, 30)), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(EVENTS)
def test_a_mirror_that_applies_the_edits_always_equals_the_rows(told: list[tuple[str, object, object]]) -> None:
    thread, mirror = new_thread(), list[Row]()
    for kind, first, second in told:
        match kind, first, second:
            case "arrive", list(numbers), bool(mine):
                edits = thread.arrive([message(n, mine=mine and n % 2 == 0) for n in numbers])
            case "open", int(local_id), MessageStatus() as status:
                edits = thread.update([own(local_id, status)])
            case "accept", int(local_id), _:
                edits = thread.update([own(local_id, MessageStatus.ACCEPTED, 30 + local_id)])
            case "withdraw", int(local_id), _:
                edits = thread.withdraw([local_id])
            case "mark", int(delivered), int(read):
                edits = thread.set_conversation(direct(delivered=delivered, read=read))
            case _, after, _:
                assert after is None or isinstance(after, int)
                edits = thread.set_divider(after)
        apply(mirror, edits)
        assert mirror == thread.rows
    ids = [row.message_id for row in thread.rows if row.message_id]
    assert ids == sorted(set(ids))
    assert sum(row.unread_above for row in thread.rows) <= 1
