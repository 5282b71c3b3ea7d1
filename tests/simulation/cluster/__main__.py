"""`make simulate`: run a campaign, or one seed with its timeline; write build/simulate.json."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from tests.simulation.cluster.campaign import Campaign, run_campaign
from tests.simulation.cluster.plan import draw_plan
from tests.simulation.cluster.planted import PLANTED
from tests.simulation.cluster.shrink import shrink, write_timeline
from tests.simulation.cluster.simulation import RunResult, run_plan

ROOT = Path(__file__).resolve().parents[3]
SEEDS_THAT_SEE_ALL = 1_000
SHRUNK_AT_MOST = 3
TOLD_EVERY = 500


def _run_one(seed: int, *, verbose: bool) -> int:
    plan = draw_plan(seed)
    print(f"servers at first: {plan.voters}; {', '.join(plan.faults_on()) or 'no faults'}")
    result = run_plan(plan, keep_timeline=verbose)
    for line in result.timeline:
        print(line)
    print(f"seed {seed}: {result.violation or 'ok'}; trace {result.trace}, {result.events} events")
    if not result.violation:
        return 0
    if not verbose:
        _explain(seed)
    return 1


def _explain(seed: int) -> None:
    plan = shrink(draw_plan(seed))
    target = ROOT / "build" / f"simulate-{seed}.txt"
    result = write_timeline(plan, target)
    print(f"seed {seed} needs {len(plan.faults)} faults in {plan.fault_phase_ms} ms: {result.violation}")
    for fault in plan.faults:
        print(f"    {fault}")
    print(f"timeline in {target.relative_to(ROOT)}")


def _find_planted(name: str, seeds: range) -> int:
    """Plant a bug and look for the first seed that finds it."""
    names = sorted(PLANTED) if name == "all" else [name]
    missed = 0
    for bug in names:
        with PLANTED[bug]():
            found = next((seed for seed in seeds if run_plan(draw_plan(seed)).violation), None)
        missed += found is None
        print(f"{bug}: {'not found' if found is None else f'seed {found}'}", flush=True)
    return 1 if missed else 0


class _Narrator:
    """Says during a long campaign how far it is."""

    def __init__(self) -> None:
        self._seen = 0
        self._failed = 0

    def __call__(self, result: RunResult) -> None:
        self._seen += 1
        if result.violation:
            self._failed += 1
            print(f"seed {result.seed}: {result.violation}", flush=True)
        if self._seen % TOLD_EVERY == 0:
            print(f"{self._seen} seeds, {self._failed} violations", flush=True)


def _show(campaign: Campaign) -> int:
    report = campaign.report()
    target = ROOT / "build" / "simulate.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(
        f"{report['seeds']} seeds, {report['faults_total']} faults, {len(campaign.violations)} violations; "
        f"{report['simulated_s']} s simulated in {report['wall_s']} s with {campaign.processes} processes, "
        f"{report['simulated_s_per_wall_s_and_core']} s for each second of a core; slowest recovery "
        f"{report['slowest_recovery_s']} s; details in {target.relative_to(ROOT)}"
    )
    for result in campaign.violations[:SHRUNK_AT_MOST]:
        _explain(result.seed)
    for result in campaign.violations:
        print(f"again: make simulate ARGS='--seed {result.seed} -v'")
    unseen = campaign.never_seen() if campaign.seeds >= SEEDS_THAT_SEE_ALL else []
    if unseen:
        print("never seen, so never tested:", ", ".join(unseen))
    return 1 if campaign.violations or unseen else 0


def main() -> int:
    """Exit code 0: no violation; 1: at least one, or a campaign that never saw what it has to see."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds to run")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one for each core)")
    parser.add_argument("--seed", type=int, help="run this seed only, and make it small if it fails")
    parser.add_argument("-v", "--verbose", action="store_true", help="with --seed: print the timeline")
    parser.add_argument("--planted", choices=["all", *sorted(PLANTED)], help="plant this bug; print who finds it first")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        return _run_one(arguments.seed, verbose=arguments.verbose)
    seeds = range(arguments.start, arguments.start + arguments.seeds)
    if arguments.planted is not None:
        return _find_planted(arguments.planted, seeds)
    return _show(run_campaign(seeds, processes=max(arguments.jobs, 1), on_result=_Narrator()))


if __name__ == "__main__":
    sys.exit(main())
