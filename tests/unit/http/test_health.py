"""When a node should be restarted, and when clients should use it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from parleyd.http.health import READY_LAG_ENTRIES, Condition, Phase, judge_health, judge_readiness

WELL = Condition(
    has_leader=True,
    is_serving=True,
    has_majority=True,
    is_fenced=False,
    is_removed=False,
    is_disk_full=False,
    is_disk_low=False,
    is_receiving=False,
    lag_entries=0,
)


def test_a_node_that_serves_and_lacks_nothing_is_ready() -> None:
    verdict = judge_readiness(Phase.SERVING, WELL)
    assert (verdict.is_good, verdict.reasons, verdict.notes) == (True, (), ())


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.SERVING])
def test_a_node_is_ready_in_no_other_phase_than_serving(phase: Phase) -> None:
    assert not judge_readiness(phase, WELL).is_good
    assert not judge_readiness(phase, None).is_good


def test_a_node_whose_parts_are_not_made_is_not_ready() -> None:
    assert not judge_readiness(Phase.SERVING, None).is_good


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (replace(WELL, has_leader=False, is_serving=False, has_majority=False), "knows no leader"),
        (replace(WELL, has_majority=False), "does not reach a majority"),
        (replace(WELL, is_serving=False, has_majority=False), "a write of the log has been waiting"),
        (replace(WELL, is_fenced=True, is_serving=False, has_majority=False), "is not trusted"),
        (replace(WELL, is_removed=True, is_serving=False, has_majority=False), "was removed"),
        (replace(WELL, is_disk_full=True, is_serving=False, has_majority=False), "disk of this node is full"),
        (replace(WELL, is_receiving=True), "receives a copy of the state"),
        (replace(WELL, lag_entries=READY_LAG_ENTRIES + 1), "committed entries to apply"),
    ],
)
def test_each_reason_alone_makes_a_node_not_ready_and_is_told_alone(condition: Condition, words: str) -> None:
    [reason] = judge_readiness(Phase.SERVING, condition).reasons
    assert words in reason


def test_a_lag_up_to_the_bound_and_a_disk_in_its_reserve_do_not_take_a_node_out_of_service() -> None:
    verdict = judge_readiness(Phase.SERVING, replace(WELL, lag_entries=READY_LAG_ENTRIES, is_disk_low=True))
    assert verdict.is_good
    assert "uses its reserve" in verdict.notes[0]


@pytest.mark.parametrize("phase", [Phase.ENTERING, Phase.STARTING, Phase.SERVING])
def test_a_process_that_works_is_healthy_however_long_it_takes(phase: Phase) -> None:
    assert judge_health(phase, 1e9, 10).is_good


def test_a_stop_is_healthy_until_it_takes_longer_than_its_bound() -> None:
    assert judge_health(Phase.STOPPING, 50, 10).is_good
    verdict = judge_health(Phase.STOPPING, 51, 10)
    assert not verdict.is_good
    assert "End the process" in verdict.reasons[0]


def test_a_process_whose_work_has_failed_has_to_be_restarted() -> None:
    assert "Restart the process" in judge_health(Phase.FAILED, 0, 10).reasons[0]
