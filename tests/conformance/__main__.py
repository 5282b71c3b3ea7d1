"""`python -m tests.conformance`: replay everything, print a table, write build/conformance.json."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from tests.conformance.arithmetic import CaseResult, confchange_cases, quorum_cases
from tests.conformance.replay import ROOT, ScenarioResult, oracle_folder, replay_all


def _cases(results: Sequence[CaseResult]) -> dict[str, Any]:
    failing = [
        {"file": result.name, "case": result.case, "actual": result.actual, "expected": result.expected}
        for result in results
        if not result.ok
    ]
    return {"passed": len(results) - len(failing), "total": len(results), "failing": failing}


def _scenarios(results: Sequence[ScenarioResult]) -> dict[str, Any]:
    return {
        "scenarios": {"passed": sum(result.ok for result in results), "total": len(results)},
        "directives": {
            "passed": sum(result.passed for result in results),
            "total": sum(result.total for result in results),
        },
        "failing": [
            {"scenario": result.name, "passed": result.passed, "total": result.total, "difference": result.difference}
            for result in results
            if not result.ok
        ],
    }


def main() -> int:
    """Exit code 0: all agree; 1: something differs; 2: the reference's data is not there."""
    folder = oracle_folder()
    if not (folder / "oracle.ndjson").is_file():
        print(f"no reference data in {folder}: set RAFT_ORACLE to the folder that holds oracle.ndjson", file=sys.stderr)
        return 2
    scenarios = replay_all(folder)
    quorum, confchange = list(quorum_cases(folder)), list(confchange_cases(folder))
    report = _scenarios(scenarios) | {"quorum": _cases(quorum), "confchange": _cases(confchange)}
    for result in scenarios:
        print(f"{'ok  ' if result.ok else 'FAIL'} {result.name:48} {result.passed:3}/{result.total}")
        if not result.ok:
            print(f"     {result.difference}")
    for case in (*quorum, *confchange):
        if not case.ok:
            print(f"FAIL {case.name}: {case.case!r}\n     got {case.actual!r}, expected {case.expected!r}")
    for name in ("scenarios", "directives", "quorum", "confchange"):
        print(f"{name:10} {report[name]['passed']}/{report[name]['total']}")
    target = ROOT / "build" / "conformance.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    agrees = all(result.ok for result in scenarios) and all(case.ok for case in (*quorum, *confchange))
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
