"""The simulation finds nothing wrong with the cluster, and finds what is planted."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.simulation.cluster.campaign import run_campaign, run_seed
from tests.simulation.cluster.plan import FAULT_KINDS, draw_plan
from tests.simulation.cluster.planted import PLANTED
from tests.simulation.cluster.shrink import shrink, write_timeline
from tests.simulation.cluster.simulation import run_plan

ROOT = Path(__file__).resolve().parents[3]
SEEDS = range(1_000, 1_030)
"""Few, because `make simulate` runs any number. A count and no time: a busy machine must not make a test fail."""

FOUND_A_BUG = {
    1182: "a removed server with the longest log kept those who stayed from electing anybody (docs/adr/0006)",
    10455: "only the leader knew of a removal that was told as done; it lost power, the removed server was gone",
}
"""Seeds that fail without what was done about the bug."""

MUTANTS = ROOT / "tests" / "mutants" / "patches"
FINDERS = {
    "a_removal_is_told_before_others_know": 126,
    "anybody_gets_a_vote": 2,
    "two_votes_in_a_term": 0,
    "entries_are_taken_without_a_match": 32,
    "a_follower_commits_beyond_what_it_checked": 30,
    "a_leader_counts_itself_too_early": 0,
    "reads_without_a_round": 8,
    "reads_before_the_first_commit": 63,
    "several_changes_at_a_time": 5,
    "the_window_is_never_reopened": 0,
    "a_leader_stays_when_it_meets_a_higher_term": 0,
    "a_lone_voter_reads_early": 156,
    "a_leader_without_a_durable_vote": 4,
    "vote_is_not_durable": 0,
    "promises_leave_before_the_sync": 0,
    "a_failed_write_is_taken_for_done": 2,
    "entries_of_a_snapshot_are_applied_again": 731,
    "the_log_is_cut_beyond_the_checkpoint": 8,
    "a_log_behind_its_state_is_not_repaired": 2,
    "results_go_to_whoever_waits_at_the_index": 0,
    "a_retry_is_a_new_message": 1,
    "sends_are_taken_out_of_order": 0,
    "apply_draws_a_number": 0,
    "a_repeated_channel_is_made_again": 2,
    "a_channel_message_goes_to_a_pair": 1,
    "channels_have_no_delivery_marks": 5,
    "a_former_member_receives_on": 2,
    "what_waited_for_a_former_member_is_lost": 0,
    "a_read_mark_is_told_and_not_stored": 1,
    "a_mute_is_told_and_not_stored": 0,
    "what_is_put_away_is_told_and_not_stored": 0,
    "a_removal_is_told_and_not_stored": 1,
    "a_device_at_the_end_is_not_told_of_a_removal": 1,
    "who_leaves_a_channel_loses_its_mute": 5,
    "a_snapshot_brings_an_old_membership": 2,
    "a_wiped_server_keeps_its_id": 4,
    "reads_are_answered_from_what_is_here": 0,
}
"""A seed that finds each planted bug; where a change of the simulation has moved it, the first hundreds are tried."""

NEED_CHANGES_OF_CHANNELS = {
    "a_former_member_receives_on",
    "what_waited_for_a_former_member_is_lost",
    "who_leaves_a_channel_loses_its_mute",
}
NEED_PUT_AWAY = {"what_is_put_away_is_told_and_not_stored"}
NEED_REMOVALS = {"a_removal_is_told_and_not_stored", "a_device_at_the_end_is_not_told_of_a_removal"}
NEED_MUTES = {"a_mute_is_told_and_not_stored", "who_leaves_a_channel_loses_its_mute"}

WITHOUT_A_SEED = {
    "waiting_reads_are_not_counted_again": "waiting_reads_are_not_counted_again",
    "a_removed_server_keeps_its_commit_index_to_itself": "removed_server_keeps_its_commit_index_to_itself",
}
"""Bugs that no seed among the first hundreds finds since the group became a pure object.

Reads that are not counted again only wait longer, because the group asks again for a read without an answer. The other
one needs a removed server with the longest log. Each is a mutant as well, named beside it, which a unit test kills.
`python -m tests.simulation.cluster --planted NAME` looks for a seed.
"""


@pytest.mark.timeout(180)
def test_a_short_campaign_finds_no_violation_and_has_seen_every_kind_of_fault() -> None:
    campaign = run_campaign(SEEDS)
    assert [(result.seed, result.violation) for result in campaign.violations] == []
    assert campaign.seeds == len(SEEDS)
    assert {*FAULT_KINDS} - {*campaign.faults} <= {"crash-in-install"}  # counted where it happens


@pytest.mark.parametrize("seed", sorted(FOUND_A_BUG))
def test_a_seed_that_once_found_a_bug_passes(seed: int) -> None:
    # They were found before commits had notices. Without notices a seed is the run that it was.
    assert (
        run_plan(
            replace(
                draw_plan(seed),
                commit_notices=False,
                channel_changes=False,
                mutes=False,
                puts_away=False,
                removes=False,
                gathers=False,
                asks_early=False,
            )
        ).violation
        == ""
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", sorted(FINDERS))
def test_a_planted_bug_is_found(name: str) -> None:
    with PLANTED[name]():
        plan = replace(
            draw_plan(FINDERS[name]),
            channel_changes=name in NEED_CHANGES_OF_CHANNELS,
            mutes=name in NEED_MUTES,
            puts_away=name in NEED_PUT_AWAY,
            removes=name in NEED_REMOVALS,
            gathers=False,
        )
        pinned = run_plan(plan)
        found = pinned.violation or any(run_seed(seed).violation for seed in range(300))
    assert found


def test_every_planted_bug_has_a_finder() -> None:
    assert {*FINDERS, *WITHOUT_A_SEED} == {*PLANTED}
    assert all((MUTANTS / f"{mutant}.patch").exists() for mutant in WITHOUT_A_SEED.values())


def test_one_seed_is_one_run_under_any_hash_seed() -> None:
    outputs = set()
    for hash_seed in ("0", "77"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulation.cluster", "--seed", "3", "-v"],
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
    traces = {run_seed(seed).trace for seed in range(5)}
    assert len(traces) == 5


def test_plans_turn_every_fault_on_and_off() -> None:
    plans = [draw_plan(seed) for seed in range(200)]
    kinds = {kind for plan in plans for kind in plan.faults_on()}
    assert kinds == {*FAULT_KINDS, "drop", "duplicate", "late", "reorder", "slow-write", "clock-skew"}
    for kind in kinds:
        assert 0 < sum(kind in plan.faults_on() for plan in plans) < len(plans)


def test_a_failing_seed_shrinks_to_fewer_faults_and_writes_its_timeline(tmp_path: Path) -> None:
    plan = replace(
        draw_plan(FINDERS["apply_draws_a_number"]),
        channel_changes=False,
        mutes=False,
        puts_away=False,
        removes=False,
        gathers=False,
    )
    with PLANTED["apply_draws_a_number"]():
        small = shrink(plan)
        result = write_timeline(small, tmp_path / "timeline.txt")
    assert result.violation
    assert len(small.faults) < len(plan.faults)
    text = (tmp_path / "timeline.txt").read_text(encoding="utf-8")
    assert result.violation in text
    assert "starts in term" in text
    assert str(small.faults[0]) in text


def test_a_seed_that_does_not_fail_is_not_shrunk() -> None:
    plan = draw_plan(0)
    assert shrink(plan) == plan
