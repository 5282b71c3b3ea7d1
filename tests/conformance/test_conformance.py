"""The core agrees with the reference: every scenario, every quorum case, every membership case."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.arithmetic import CaseResult, confchange_cases, quorum_cases
from tests.conformance.replay import load_oracle, oracle_folder, replay, scenario_files

FOLDER = oracle_folder()
needs_oracle = pytest.mark.skipif(
    not (FOLDER / "oracle.ndjson").is_file(),
    reason=f"no reference data in {FOLDER}: set RAFT_ORACLE to the folder that holds oracle.ndjson",
)


def failures(results: list[CaseResult]) -> list[str]:
    return [f"{result.name}: {result.case!r} gave {result.actual!r}" for result in results if not result.ok]


@needs_oracle
@pytest.mark.parametrize("path", scenario_files(FOLDER), ids=lambda path: path.stem)
def test_scenario_agrees_with_the_reference_after_every_directive(path: Path) -> None:
    result = replay(path, load_oracle(FOLDER).get(path.name, []))
    assert result.difference == ""
    assert result.passed == result.total > 0


@needs_oracle
def test_quorum_cases_agree_with_the_reference() -> None:
    results = list(quorum_cases(FOLDER))
    assert results
    assert failures(results) == []


@needs_oracle
def test_membership_cases_agree_with_the_reference() -> None:
    results = list(confchange_cases(FOLDER))
    assert results
    assert failures(results) == []


@needs_oracle
def test_replay_notices_a_difference() -> None:
    path = next(path for path in scenario_files(FOLDER) if path.stem == "campaign")
    expected = load_oracle(FOLDER)[path.name]
    expected[-1]["nodes"][0]["commit"] += 1
    result = replay(path, expected)
    assert "commit" in result.difference
    assert result.passed == result.total - 1
