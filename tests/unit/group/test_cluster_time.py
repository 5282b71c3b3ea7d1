"""The leader's stamps: one wrong clock does not move the time of the cluster.

What can go wrong: a leader ten years ahead expires every session; a stale report of an earlier term counts; a clock set
right stays wrong; time stands still because one of several members is silent.
"""

from __future__ import annotations

import pytest

from parleyd.group.cluster_time import MAX_WALL_MS, TOLERANCE_MS, ClusterTime, Moment
from parleyd.raft.types import ConfState, NodeId, Term

NOON = 1_800_000_000_000
TEN_YEARS = 10 * 365 * 86_400_000
ME, TWO, THREE, FOUR, FIVE = (NodeId(number) for number in range(1, 6))


def at(
    wall_ms: int,
    *,
    now_ms: float = 0.0,
    term: int = 5,
    voters: tuple[NodeId, ...] = (ME, TWO, THREE),
    **outgoing: object,
) -> Moment:
    return Moment(now_ms, wall_ms, Term(term), ConfState(voters=voters, **outgoing))  # type: ignore[arg-type]


def reported(*reports: tuple[NodeId, int], now_ms: float = 0.0, term: int = 5) -> ClusterTime:
    time = ClusterTime(ME)
    for node, wall_ms in reports:
        time.report(node, wall_ms, now_ms, Term(term))
    return time


def test_a_single_voter_stamps_its_own_time() -> None:
    assert ClusterTime(ME).stamp(at(NOON, voters=(ME,))) == NOON


def test_until_a_majority_has_reported_the_replicated_time_stands() -> None:
    assert ClusterTime(ME).stamp(at(NOON)) == 0
    assert reported((TWO, NOON)).stamp(at(NOON, voters=(ME, TWO, THREE, FOUR, FIVE))) == 0


def test_a_report_of_an_earlier_term_does_not_count() -> None:
    assert reported((TWO, NOON), term=4).stamp(at(NOON, term=5)) == 0


def test_a_leader_ahead_stamps_what_a_majority_has_reached() -> None:
    time = reported((TWO, NOON + 7), (THREE, NOON))
    assert time.stamp(at(NOON + TEN_YEARS)) == NOON + 7


def test_a_leader_behind_stamps_its_own_time() -> None:
    time = reported((TWO, NOON), (THREE, NOON))
    assert time.stamp(at(NOON - TEN_YEARS)) == NOON - TEN_YEARS


@pytest.mark.parametrize("wrong", [-TEN_YEARS, TEN_YEARS])
def test_one_wrong_follower_moves_nothing(wrong: int) -> None:
    assert reported((TWO, NOON + wrong), (THREE, NOON)).stamp(at(NOON)) == NOON


def test_a_reported_clock_goes_on_with_the_monotonic_clock() -> None:
    time = reported((TWO, NOON), now_ms=1000.0)
    assert time.stamp(at(NOON + TEN_YEARS, now_ms=61_000.0)) == NOON + 60_000


def test_an_idle_weekend_is_no_wrong_clock() -> None:
    days = 3 * 86_400_000
    time = reported((TWO, NOON), (THREE, NOON))
    assert time.stamp(at(NOON + days, now_ms=float(days))) == NOON + days
    assert time.wrong_clocks(at(NOON + days, now_ms=float(days))) == {}


def test_both_halves_of_a_joint_membership_have_to_have_reached_the_time() -> None:
    time = reported((TWO, NOON + TEN_YEARS), (THREE, NOON + TEN_YEARS), (FOUR, NOON), (FIVE, NOON))
    moment = at(NOON + TEN_YEARS, voters=(ME, TWO, THREE), voters_outgoing=(ME, FOUR, FIVE))
    assert time.stamp(moment) == NOON


def test_wrong_clocks_are_named_with_their_offset() -> None:
    time = reported((TWO, NOON - TOLERANCE_MS - 1), (THREE, NOON))
    assert time.wrong_clocks(at(NOON)) == {TWO: -TOLERANCE_MS - 1}
    assert time.wrong_clocks(at(NOON + TEN_YEARS)) == {ME: TEN_YEARS, TWO: -TOLERANCE_MS - 1}
    time.report(TWO, NOON, 0.0, Term(5))
    assert time.wrong_clocks(at(NOON)) == {}, "a clock that was set right counts as right"


@pytest.mark.parametrize("impossible", [0, -1, MAX_WALL_MS + 1])
def test_an_impossible_clock_is_not_taken(impossible: int) -> None:
    assert reported((TWO, impossible)).stamp(at(NOON)) == 0


def test_reports_of_any_number_of_nodes_are_bounded() -> None:
    time = reported(*((NodeId(number), NOON) for number in range(2, 1000)))
    assert len(time._reports) <= 64
