"""A snapshot is made when the last one will not do, one at a time; those received are bounded."""

from __future__ import annotations

from parleyd.group.snapshot_plan import MAX_RETRY_DELAY_MS, RETRY_DELAY_MS, SnapshotOffers
from parleyd.raft.types import ConfState, Index, NodeId, SnapshotMeta, Term

TWO, THREE, NEW = NodeId(2), NodeId(3), NodeId(4)


def made(index: int, *learners: NodeId) -> SnapshotMeta:
    return SnapshotMeta(Index(index), Term(1), ConfState(voters=(NodeId(1), TWO, THREE), learners=learners))


def test_the_last_snapshot_serves_others_while_it_reaches_the_log() -> None:
    offers = SnapshotOffers()
    assert offers.offer([TWO], Index(5)) is None
    assert offers.begin([TWO], 0)
    assert offers.made(made(9)) == ()
    assert offers.offer([THREE], Index(10)) == made(9)
    assert offers.offer([THREE], Index(11)) is None, "entry 10 is neither in it nor in the log"


def test_a_snapshot_from_before_a_node_was_added_is_made_anew_for_it() -> None:
    offers = SnapshotOffers()
    offers.made(made(9))
    assert offers.offer([NEW], Index(5)) is None
    offers.made(made(12, NEW))
    assert offers.offer([NEW], Index(5)) == made(12, NEW)


def test_who_comes_while_a_snapshot_is_made_is_looked_at_again_when_it_is_made() -> None:
    offers = SnapshotOffers()
    assert offers.begin([TWO], 0)
    assert not offers.begin([THREE], 0)
    assert not offers.begin([NEW], 0)
    assert offers.made(made(9)) == (THREE, NEW)
    assert offers.made(made(12)) == ()


def test_after_a_failed_copy_the_next_one_waits_longer_each_time_and_a_success_ends_that() -> None:
    offers = SnapshotOffers()
    now, delays = 0.0, []
    for _ in range(12):
        assert offers.begin([TWO], now)
        assert not offers.begin([THREE], now), "it waits for the copy that is being made"
        offers.failed(now)
        start = now
        while not offers.begin([THREE], now):
            now += RETRY_DELAY_MS / 2
        offers.failed(now)
        delays.append(now - start)
        now += 2 * MAX_RETRY_DELAY_MS
    assert delays[0] == RETRY_DELAY_MS
    assert delays[-1] == MAX_RETRY_DELAY_MS
    assert offers.begin([TWO], now)
    assert offers.made(made(9)) == (), "who waited for a copy that failed asks again"
    assert offers.begin([TWO], now)
    offers.failed(now)
    assert not offers.begin([TWO], now)
    assert offers.begin([TWO], now + RETRY_DELAY_MS)
