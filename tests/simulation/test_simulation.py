"""The simulation finds nothing wrong with the core, and finds what is planted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.campaign import run_campaign
from tests.simulation.plan import draw_plan
from tests.simulation.planted import PLANTED
from tests.simulation.shrink import shrink, write_timeline
from tests.simulation.simulation import run_plan

ROOT = Path(__file__).resolve().parents[2]
CAMPAIGN_WALL_S = 20.0

FOUND_A_BUG = {
    16: "reads waited for servers that had left a joint membership",
    104: "a lone voter read before it had committed in its term",
    334: "a candidate led before its own disk had the term, crashed, and led the same term again",
}

FINDERS = {
    "vote_is_not_durable": 19,
    "promises_leave_before_the_sync": 0,
    "anybody_gets_a_vote": 1,
    "two_votes_in_a_term": 0,
    "entries_are_taken_without_a_match": 19,
    "a_follower_commits_beyond_what_it_checked": 128,
    "a_leader_counts_itself_too_early": 4,
    "reads_without_a_round": 1,
    "reads_before_the_first_commit": 13,
    "waiting_reads_are_not_counted_again": 16,
    "several_changes_at_a_time": 9,
    "the_window_is_never_reopened": 0,
    "a_leader_stays_when_it_meets_a_higher_term": 1,
    "a_lone_voter_reads_early": 104,
    "a_leader_without_a_durable_vote": 334,
}
"""A seed that finds each planted bug; where a change of the simulation has moved it, the first hundreds are tried."""


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_short_campaign_finds_no_violation_and_has_seen_every_kind_of_event() -> None:
    campaign = run_campaign(range(1_000, 2_000), wall_limit_s=CAMPAIGN_WALL_S)
    assert [(result.seed, result.violation) for result in campaign.violations] == []
    assert campaign.seeds > 10
    if campaign.seeds >= 100:
        assert campaign.never_seen() == []


@pytest.mark.parametrize("seed", sorted(FOUND_A_BUG))
def test_a_seed_that_once_found_a_bug_passes(seed: int) -> None:
    assert run_plan(draw_plan(seed)).violation == ""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", sorted(PLANTED))
def test_a_planted_bug_is_found(name: str) -> None:
    with PLANTED[name]():
        found = any(run_plan(draw_plan(seed)).violation for seed in (FINDERS[name], *range(400)))
    assert found


def test_every_planted_bug_has_a_finder() -> None:
    assert set(FINDERS) == set(PLANTED)


def test_one_seed_is_one_run_under_any_hash_seed() -> None:
    outputs = set()
    for hash_seed in ("0", "77"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--seed", "3", "-v"],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )
        outputs.add(done.stdout)
    assert len(outputs) == 1
    assert "trace" in outputs.pop()


def test_different_seeds_are_different_runs() -> None:
    traces = {run_plan(draw_plan(seed)).trace for seed in range(5)}
    assert len(traces) == 5


def test_plans_turn_every_fault_on_and_off() -> None:
    plans = [draw_plan(seed) for seed in range(200)]
    kinds = {kind for plan in plans for kind in plan.faults_on()}
    assert len(kinds) == 15
    for kind in kinds:
        assert 0 < sum(kind in plan.faults_on() for plan in plans) < len(plans)


def test_a_failing_seed_shrinks_to_fewer_faults_and_writes_its_timeline(tmp_path: Path) -> None:
    plan = draw_plan(FINDERS["promises_leave_before_the_sync"])
    with PLANTED["promises_leave_before_the_sync"]():
        small = shrink(plan)
        result = write_timeline(small, tmp_path / "timeline.txt")
    assert result.violation
    assert len(small.faults_on()) < len(plan.faults_on())
    text = (tmp_path / "timeline.txt").read_text(encoding="utf-8")
    assert result.violation in text
    assert "starts in term" in text
