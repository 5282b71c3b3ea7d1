"""What was on the screen: a read mark moves over seen messages only, and over no gap."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from parley import HistoryPage, MessageKind
from parley.chat import AccountBook, Seen, Thread
from tests.unit.chat.people import ANN, BEN, PEOPLE, direct, event, message


def thread_of(numbers: range, *, more: bool = False, cached: bool = False) -> Thread:
    book = AccountBook("ann")
    book.add(PEOPLE)
    thread = Thread(book, direct())
    thread.load(HistoryPage(tuple(map(message, numbers)), more, cached=cached), 0)
    return thread


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (range(11, 21), 20),
        (range(11, 15), 14),
        (range(12, 21), 10),
        ((11, 12, 14, 15), 12),
        ((), 10),
    ],
)
def test_the_mark_moves_up_to_the_first_message_that_was_not_seen(seen: Sequence[int], expected: int) -> None:
    thread = thread_of(range(1, 21))
    looked = Seen()
    looked.add(row for row in thread.rows if row.message_id in seen)
    assert looked.up_to(thread, 10, 10) == expected


def test_what_was_seen_earlier_counts_once_the_gap_before_it_is_closed() -> None:
    thread = thread_of(range(1, 21))
    looked = Seen()
    looked.add(thread.rows[15:])
    assert looked.up_to(thread, 10, 10) == 10
    looked.add(thread.rows[10:15])
    assert looked.up_to(thread, 10, 10) == 20


def test_own_messages_and_events_are_no_gap() -> None:
    thread = thread_of(range(1, 3))
    thread.arrive([message(3, sender=ANN), event(4, MessageKind.MEMBERS_JOINED, "", BEN), message(5)])
    looked = Seen()
    looked.add(row for row in thread.rows if row.message_id == 5)
    assert looked.up_to(thread, 2, 1) == 5


def test_nothing_moves_while_messages_below_the_loaded_ones_may_be_missing() -> None:
    thread = thread_of(range(50, 60), more=True)
    looked = Seen()
    looked.add(thread.rows)
    assert looked.up_to(thread, 10, 49) == 10
    assert looked.up_to(thread, 10, 0) == 10, "a count that is not known proves nothing"
    assert looked.up_to(thread, 50, 9) == 59
    thread.load(HistoryPage(tuple(map(message, range(5, 50))), has_older=True), 50)
    assert looked.up_to(thread, 10, 49) == 10
    looked.add(thread.rows)
    assert looked.up_to(thread, 10, 49) == 59


def test_without_a_node_the_clusters_count_shows_that_this_device_has_all_unread_messages() -> None:
    thread = thread_of(range(50, 60), more=True, cached=True)
    looked = Seen()
    looked.add(thread.rows)
    assert looked.up_to(thread, 49, 10) == 59
    assert looked.up_to(thread, 49, 11) == 49
