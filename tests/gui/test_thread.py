"""The rows of a conversation: each message once, in order, changed by edits that a mirror can follow."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from parley.gui.thread import KEEP_ROWS, Edit, Row, RowsChanged, RowsInserted, RowsRemoved, Thread
from parley.model import HistoryPage, Message, MessageStatus, Outgoing, Receipt

DAY_MS = 24 * 3600 * 1000


def message(number: int, *, mine: bool = False, at_ms: int = 0) -> Message:
    return Message(number, 7, "ann" if mine else "ben", "ben", f"m{number}", at_ms or number * 1000, mine)


def own(local_id: int, status: MessageStatus, message_id: int = 0, body: str = "") -> Outgoing:
    return Outgoing(
        local_id,
        "ben",
        body or f"own{local_id}",
        10**9,
        status,
        0,
        message_id,
        7 if message_id else 0,
        message_id * 1000,
    )


def page(*numbers: int, more: bool = False, cached: bool = False) -> HistoryPage:
    return HistoryPage(tuple(message(n) for n in numbers), more, 7, cached)


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
    thread = Thread("ann", "ben")
    thread.arrive([message(5), message(6)])
    thread.load(page(2, 3, 4, 5), 0)
    thread.arrive([message(6), message(7)])
    assert bodies(thread) == ["m2", "m3", "m4", "m5", "m6", "m7"]


def test_a_settled_message_keeps_its_row_and_changes_only_its_mark() -> None:
    thread = Thread("ann", "ben")
    thread.load(page(1, 2), 0)
    thread.update([own(1, MessageStatus.WAITING), own(2, MessageStatus.WAITING)])
    edits = thread.update([own(1, MessageStatus.ACCEPTED, 3)])
    assert [type(edit) for edit in edits] == [RowsChanged]
    assert [row.status for row in thread.rows] == [None, None, MessageStatus.ACCEPTED, MessageStatus.WAITING]
    assert thread.rows[2].message_id == 3


def test_a_message_others_sent_meanwhile_stands_before_those_that_wait() -> None:
    thread = Thread("ann", "ben")
    thread.update([own(1, MessageStatus.WAITING)])
    thread.arrive([message(4)])
    assert bodies(thread) == ["m4", "own1"]
    thread.update([own(1, MessageStatus.ACCEPTED, 5)])
    assert bodies(thread) == ["m4", "own1"]


def test_an_older_view_of_an_own_message_never_takes_back_what_is_known() -> None:
    thread = Thread("ann", "ben")
    thread.update([own(1, MessageStatus.ACCEPTED, 3)])
    assert thread.update([own(1, MessageStatus.SENDING)]) == []
    thread.withdraw([2])
    assert thread.update([own(2, MessageStatus.WAITING)]) == []
    assert [row.status for row in thread.rows] == [MessageStatus.ACCEPTED]


def test_an_own_message_that_history_has_already_is_not_shown_twice_once_it_settles() -> None:
    thread = Thread("ann", "ben")
    thread.update([own(1, MessageStatus.SENDING)])
    thread.load(HistoryPage((message(3, mine=True),), False, 7), 0)
    thread.update([own(1, MessageStatus.ACCEPTED, 3)])
    assert len(thread.rows) == 1


def test_history_that_knows_of_an_own_message_before_the_outbox_does_shows_it_once() -> None:
    under_way = replace(own(1, MessageStatus.SENDING, body="hello"), number=9)
    stored = replace(message(3, mine=True), body="hello", number=9)
    for outbox_first in (True, False):
        thread = Thread("ann", "ben")
        if outbox_first:
            thread.update([under_way, own(2, MessageStatus.WAITING, body="hello")])
        thread.load(HistoryPage((stored,), False, 7), 0)
        thread.update([under_way, own(2, MessageStatus.WAITING, body="hello")])
        assert [(row.message_id, row.status) for row in thread.rows] == [
            (3, MessageStatus.ACCEPTED),
            (0, MessageStatus.WAITING),
        ]
        assert thread.update([replace(own(1, MessageStatus.ACCEPTED, 3), number=9)]) == []


def test_marks_change_only_the_rows_they_pass() -> None:
    thread = Thread("ann", "ben")
    thread.load(HistoryPage(tuple(message(n, mine=True) for n in (1, 2, 3)), False, 7), 0)
    edits = thread.move_receipts(Receipt(7, 2, 1))
    assert [row.status for row in thread.rows] == [MessageStatus.READ, MessageStatus.DELIVERED, MessageStatus.ACCEPTED]
    assert edits == [RowsChanged(0, tuple(thread.rows[:2]))]
    assert thread.move_receipts(Receipt(7, 1, 0)) == []
    assert thread.rows[0].status is MessageStatus.READ


def test_rows_are_grouped_in_runs_that_end_with_sender_pause_and_day() -> None:
    thread = Thread("ann", "ben")
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
    thread = Thread("ann", "ben")
    thread.load(HistoryPage((message(1), message(2, mine=True), message(3), message(4)), False, 7), 0)
    thread.set_divider(1)
    assert thread.divider_row == 2
    assert [row.unread_above for row in thread.rows] == [False, False, True, False]
    thread.set_divider(None)
    assert not any(row.unread_above for row in thread.rows)


def test_older_pages_are_wanted_until_the_cluster_says_there_are_no_more() -> None:
    thread = Thread("ann", "ben")
    assert thread.wants_before(0) is None, "nothing is known yet"
    thread.load(page(*range(200, 300), more=True), 0)
    assert thread.wants_before(99) is None, "far away from the oldest row"
    assert thread.wants_before(10) == 200
    thread.load(page(*range(100, 200), more=False), 200)
    assert thread.wants_before(0) is None
    assert len(thread.rows) == 200


def test_rows_from_the_cache_are_checked_with_the_cluster_when_somebody_scrolls_there() -> None:
    thread = Thread("ann", "ben")
    thread.load(page(1, 2, 9, 10, cached=True), 0)
    thread.load(page(9, 10, more=True), 0)
    assert thread.wants_before(0) == 9
    thread.load(page(*range(1, 9)), 9)
    assert bodies(thread) == [f"m{n}" for n in range(1, 11)]


def test_a_thread_nobody_looks_at_keeps_only_its_end_and_can_load_the_rest_again() -> None:
    thread = Thread("ann", "ben")
    thread.load(page(*range(1, KEEP_ROWS + 101)), 0)
    thread.trim()
    assert len(thread.rows) == KEEP_ROWS
    assert thread.wants_before(0) == 101
    assert thread.rows[0].new_day


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
    thread, mirror = Thread("ann", "ben"), list[Row]()
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
                edits = thread.move_receipts(Receipt(7, delivered, read))
            case _, after, _:
                assert after is None or isinstance(after, int)
                edits = thread.set_divider(after)
        apply(mirror, edits)
        assert mirror == thread.rows
    ids = [row.message_id for row in thread.rows if row.message_id]
    assert ids == sorted(set(ids))
    assert sum(row.unread_above for row in thread.rows) <= 1
