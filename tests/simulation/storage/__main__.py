"""`python -m tests.simulation.storage`: a whole campaign, or one crash state again; writes build/storage.json."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from tests.simulation.storage.campaign import (
    TRACE_LINES,
    Laboratory,
    Violation,
    crash_everywhere,
    crash_the_starts,
)
from tests.simulation.storage.faults import fail_every_call
from tests.simulation.storage.report import Scale, begin, run

ROOT = Path(__file__).resolve().parents[3]
MEMORY = Path("/dev/shm")  # nothing here needs a disk that keeps anything
SHOWN_AT_MOST = 5


def _again(folder: Path, arguments: argparse.Namespace) -> list[Violation]:
    """One crash point, one state of it, a crash in the start after it, or one failed call."""
    history, recorder, promises = begin(folder)
    laboratory = Laboratory(folder / "start", history)
    if arguments.fail is not None:
        return fail_every_call(laboratory, recorder.calls, arguments.seed, [arguments.fail]).violations
    for call in recorder.calls[max(0, arguments.point - TRACE_LINES) : arguments.point]:
        print(call)
    print(f"the node was at: {promises[arguments.point].doing}")
    tally = crash_everywhere(
        laboratory, recorder.calls, promises, arguments.seed, arguments.width, [arguments.point], arguments.state
    )
    if arguments.then is not None:
        return crash_the_starts(laboratory, tally.to_crash_again.values(), arguments.then, arguments.second).violations
    print(f"{tally.states} states:", ", ".join(f"{count} {damage}" for damage, count in tally.by_damage.items()))
    return tally.violations


def _campaign(folder: Path, scale: Scale) -> int:
    findings = run(folder, scale, lambda line: print(line, flush=True))
    target = ROOT / "build" / "storage.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(findings.report(), indent=2) + "\n", encoding="utf-8")
    for file, outcomes in findings.rot.by_file().items():
        print(f"  {file}:", ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()))
    violations, unseen = findings.violations(), findings.never_seen()
    for violation in violations[:SHOWN_AT_MOST]:
        print(violation)
    print(f"{len(violations)} violations in {findings.wall_s:.0f} s; details in {target.relative_to(ROOT)}")
    if unseen and scale.stride == 1:
        print("never seen, so never tested:", ", ".join(unseen))
        return 1
    return 1 if violations else 0


def main() -> int:
    """Exit code 0: no violation, and everything that matters came up."""
    usual = Scale()
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.storage", description=__doc__)
    parser.add_argument("--seed", type=int, default=usual.seed, help="what is drawn is drawn from this")
    parser.add_argument("--width", type=int, default=usual.width, help="crash states of one kind at one call")
    parser.add_argument("--stride", type=int, default=1, help="crash at, and fail, every so many calls only")
    parser.add_argument("--point", type=int, help="only the crash after this many calls")
    parser.add_argument("--state", type=int, help="with --point: only this state")
    parser.add_argument("--then", type=int, help="with --state: crash the start that follows after this many calls")
    parser.add_argument("--second", type=int, help="with --then: only this state")
    parser.add_argument("--fail", type=int, help="only the failure of this call")
    arguments = parser.parse_args()
    memory = MEMORY if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        if arguments.point is None and arguments.fail is None:
            scale = replace(usual, seed=arguments.seed, width=arguments.width, stride=arguments.stride)
            return _campaign(Path(folder), replace(scale, fault_stride=arguments.stride))
        violations = _again(Path(folder), arguments)
        for violation in violations:
            print(violation)
        print(f"{len(violations)} violations")
        return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
