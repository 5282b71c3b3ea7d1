"""`python -m tests.simulation`: run a campaign, or one seed with its timeline; write build/simulate.json."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.simulation.campaign import run_campaign
from tests.simulation.plan import draw_plan
from tests.simulation.simulation import RunResult, run_plan

ROOT = Path(__file__).resolve().parents[2]


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
    """Exit code 0: no violation; 1: at least one."""
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
    return 1 if campaign.violations else 0


if __name__ == "__main__":
    sys.exit(main())
