"""`python -m tests.simulation`: run a campaign, or one seed with its timeline; write build/simulate.json."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.simulation.campaign import run_campaign
from tests.simulation.plan import draw_plan
from tests.simulation.shrink import shrink, write_timeline
from tests.simulation.simulation import RunResult, run_plan

ROOT = Path(__file__).resolve().parents[2]
SEEDS_THAT_SEE_ALL = 100
SHRUNK_AT_MOST = 3


def _run_one(seed: int, *, verbose: bool) -> int:
    plan = draw_plan(seed)
    print(plan)
    print("faults:", ", ".join(plan.faults_on()) or "none")
    result = run_plan(plan, keep_timeline=verbose)
    for line in result.timeline:
        print(line)
    print(f"seed {seed}: {result.violation or 'ok'}; trace {result.trace}, {result.events} events")
    return 1 if result.violation else 0


def _show(result: RunResult) -> None:
    if result.violation:
        print(f"seed {result.seed}: {result.violation}", flush=True)


def main() -> int:
    """Exit code 0: no violation; 1: at least one, or a campaign that never saw what it has to see."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds to run")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="run this seed only")
    parser.add_argument("-v", "--verbose", action="store_true", help="with --seed: print the timeline")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        return _run_one(arguments.seed, verbose=arguments.verbose)
    campaign = run_campaign(range(arguments.start, arguments.start + arguments.seeds), on_result=_show)
    report = campaign.report()
    target = ROOT / "build" / "simulate.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(
        f"{report['seeds']} seeds, {report['faults_total']} faults, {len(campaign.violations)} violations; "
        f"{report['simulated_s']} s simulated in {report['wall_s']} s; details in {target.relative_to(ROOT)}"
    )
    for result in campaign.violations:
        print(f"again: python -m tests.simulation --seed {result.seed} -v")
    for result in campaign.violations[:SHRUNK_AT_MOST]:
        _explain(result.seed)
    unseen = campaign.never_seen() if campaign.seeds >= SEEDS_THAT_SEE_ALL else []
    if unseen:
        print("never seen, so never tested:", ", ".join(unseen))
    return 1 if campaign.violations or unseen else 0


def _explain(seed: int) -> None:
    plan = shrink(draw_plan(seed))
    target = ROOT / "build" / f"simulate-{seed}.txt"
    result = write_timeline(plan, target)
    faults = ", ".join(plan.faults_on()) or "none"
    print(f"seed {seed} shrunk to {plan.fault_phase_ms} ms with: {faults}; {result.violation}")
    print(f"timeline in {target.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
