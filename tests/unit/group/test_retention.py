"""The log is cut where it is long, and never beyond what is durable elsewhere."""

from __future__ import annotations

from parleyd.group.retention import LogBounds, LogRetention
from parleyd.raft.types import Entry, Index, Term


def entries(first: int, last: int, size: int = 1) -> list[Entry]:
    return [Entry(Term(2), Index(index), data=b"." * size) for index in range(first, last + 1)]


def test_nothing_is_cut_until_half_as_much_again_is_kept() -> None:
    bounds = LogBounds(retain_entries=10, retain_bytes=1_000)
    assert not LogRetention(bounds, entries(1, 15)).should_compact
    log = LogRetention(bounds, entries(1, 16))
    assert log.should_compact
    assert log.plan_compaction(durable_index=16) == (6, 2)


def test_what_is_not_durable_in_the_state_stays() -> None:
    log = LogRetention(LogBounds(retain_entries=10, retain_bytes=1_000), entries(1, 20))
    assert log.plan_compaction(durable_index=3) == (3, 2)
    assert log.plan_compaction(durable_index=0) is None


def test_large_entries_are_cut_by_their_bytes() -> None:
    log = LogRetention(LogBounds(retain_entries=100, retain_bytes=10), entries(1, 4, size=5))
    assert log.should_compact
    assert log.plan_compaction(durable_index=4) == (2, 2)


def test_after_a_cut_and_after_a_snapshot_only_what_is_left_counts() -> None:
    log = LogRetention(LogBounds(retain_entries=2, retain_bytes=1_000), entries(1, 6))
    log.compact(Index(4))
    assert not log.should_compact
    assert log.plan_compaction(durable_index=6) is None
    log.applied(entries(7, 20))
    log.start_over()
    assert not log.should_compact
