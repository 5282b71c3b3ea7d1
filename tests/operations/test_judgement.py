"""The combined run is not easy to please: each kind of damage and each exceeded bound shows in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster import operations
from tests.cluster.paced import TimedSend
from tests.operations import __main__ as program
from tests.operations.judgement import NO_WAIT_MS, Books, Step, between, body_of, faults_of_copy
from tests.operations.procedures import Found


def good_books() -> Books:
    """Two senders with three messages each, all at one device and on one node."""
    everything = [body_of(sender, number) for sender in ("ann", "cem") for number in (1, 2, 3)]
    return Books(
        sent={"ann": 3, "cem": 3},
        accepted={"ann": [1, 3, 2], "cem": [1, 2, 3]},
        shown={"desk": list(everything)},
        stored={"n1": list(everything)},
    )


def step(*sends_ms: float, usual: float = 50.0) -> Step:
    return Step("rolling restart", 0.0, 10.0, usual, sends_ms, sends_ms, NO_WAIT_MS)


def test_a_run_without_damage_has_no_faults() -> None:
    books = good_books()
    assert books.lost_and_doubled() == (0, 0)
    assert Found([step(20.0, 350.0)], books).all_faults() == []


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda books: books.shown["desk"].pop(1), "device desk, from ann: 1 lost"),
        (lambda books: books.stored["n1"].pop(), "node n1, from cem: 1 lost"),
        (lambda books: books.shown["desk"].append("cem 1 ."), "device desk, from cem: 0 lost, 1 doubled"),
        (lambda books: books.stored["n1"].reverse(), "2 out of order"),
        (lambda books: books.stored["n1"].append("zoe 1 ."), "1 messages that nobody sent"),
        (lambda books: books.accepted["ann"].remove(3), "ann sent 3 messages, and 1 were not accepted"),
        (lambda books: books.accepted["ann"].append(3), "ann sent 3 messages"),
        (lambda books: books.stored.clear(), "nothing was shown"),
        (lambda books: books.shown.clear(), "nothing was shown"),
    ],
)
def test_damage_is_told(damage: Callable[[Books], object], says: str) -> None:
    books = good_books()
    damage(books)
    assert says in " ".join(Found([], books).all_faults())


def test_lost_and_doubled_messages_are_counted_over_all_who_should_have_them() -> None:
    books = good_books()
    books.shown["desk"].remove("ann 2 .")
    books.stored["n1"] += ["ann 1 .", "cem 3 ."]
    assert books.lost_and_doubled() == (1, 2)


def test_a_send_that_waited_longer_than_the_bound_is_told_and_one_at_the_bound_is_not() -> None:
    assert step(350.0).exceeded() == []
    assert "a send took 351 ms, 301 ms more" in step(20.0, 351.0).exceeded()[0]
    assert "nobody sent anything" in step().exceeded()[0]


def test_every_send_counts_that_was_under_way_during_a_step() -> None:
    sends = [
        TimedSend(n, *times) for n, times in enumerate([(0.0, 0.9), (0.5, 1.5), (1.2, 1.3), (1.9, 5.0), (2.1, 2.2)])
    ]
    assert between(sends, 1.0, 2.0) == pytest.approx((1000.0, 100.0, 3100.0))


@pytest.mark.parametrize(
    ("stored", "says"),
    [
        (["ann 1 .", "ann 2 ."], ""),
        (["ann 1 .", "ann 2 .", "ann 3 ."], ""),
        (["ann 1 ."], "lacks 1 messages of ann from before the backup"),
        (["ann 1 .", "ann 2 .", "ann 2 ."], "twice"),
        (["ann 2 .", "ann 1 ."], "out of order"),
    ],
)
def test_a_restored_cluster_has_all_from_before_the_backup_and_nothing_twice(stored: list[str], says: str) -> None:
    found = faults_of_copy({"ann": stored}, {"ann": [1, 2]})
    assert (says in " ".join(found)) if says else not found


def test_the_report_has_each_step_for_programs_and_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "FILE", tmp_path / "operations.json")
    monkeypatch.setattr(program, "FILE", tmp_path / "operations.json")
    monkeypatch.setattr(program, "TEXT", tmp_path / "operations.txt")
    program.write(Found([step(20.0, 400.0)], good_books()))
    assert '"in a row: rolling restart"' in (tmp_path / "operations.json").read_text()
    text = (tmp_path / "operations.txt").read_text()
    assert "6 messages sent, 0 lost, 0 doubled." in text
    assert "Up to 300 ms more are allowed" in text
