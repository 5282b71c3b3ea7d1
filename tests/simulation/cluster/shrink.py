"""A failing run made small: only the faults it needs, the shortest fault phase, and its timeline for people.

Faults are left out in ever smaller groups, as long as what is left still fails in the same way (delta debugging:
Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", 2002).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.simulation.cluster.plan import Fault, Plan
from tests.simulation.cluster.simulation import RunResult, run_plan

_CALMER: tuple[Callable[[Plan], Plan], ...] = (
    lambda plan: replace(plan, drop=0.0),
    lambda plan: replace(plan, duplicate=0.0),
    lambda plan: replace(plan, late=0.0),
    lambda plan: replace(plan, in_order=True),
    lambda plan: replace(plan, skewed_clocks=False),
    lambda plan: replace(plan, max_write_ms=1),
    lambda plan: replace(plan, max_apply_ms=1),
    lambda plan: replace(plan, max_delay_ms=2),
    lambda plan: replace(plan, clients=1),
)
_SHORTEST_MS = 250
_NUMBERS = re.compile(r"[\d.]+")


def shrink(plan: Plan) -> Plan:
    """A plan with fewer faults that fails like `plan`; `plan` itself if it does not fail."""
    kind = _kind_of(run_plan(plan).violation)
    if not kind:
        return plan

    def fails(smaller: Plan) -> bool:
        return _kind_of(run_plan(smaller).violation) == kind

    plan = _fewer_faults(plan, fails)
    for calmer in _CALMER:
        smaller = calmer(plan)
        if smaller != plan and fails(smaller):
            plan = smaller
    while plan.fault_phase_ms > _SHORTEST_MS:
        shorter = replace(plan, fault_phase_ms=plan.fault_phase_ms // 2)
        if not fails(shorter):
            break
        plan = shorter
    return _fewer_faults(plan, fails)


def _fewer_faults(plan: Plan, fails: Callable[[Plan], bool]) -> Plan:
    group = max(len(plan.faults) // 2, 1)
    while plan.faults:
        smaller = _without_one_group(plan, group, fails)
        if smaller is not None:
            plan = smaller
            group = min(group, max(len(plan.faults) // 2, 1))
        elif group == 1:
            break
        else:
            group //= 2
    return plan


def _without_one_group(plan: Plan, group: int, fails: Callable[[Plan], bool]) -> Plan | None:
    for start in range(0, len(plan.faults), group):
        left: tuple[Fault, ...] = plan.faults[:start] + plan.faults[start + group :]
        smaller = replace(plan, faults=left)
        if fails(smaller):
            return smaller
    return None


def _kind_of(violation: str) -> str:
    """What went wrong, whatever the numbers: the first words without them."""
    return " ".join(_NUMBERS.sub("", violation).split()[:6])


def write_timeline(plan: Plan, target: Path) -> RunResult:
    """Run `plan` once more and write down all that happened in it."""
    result = run_plan(plan, keep_timeline=True)
    calm = replace(plan, faults=())
    head = [
        f"seed {plan.seed}: {result.violation or 'ok'}",
        "",
        f"settings: {calm}",
        f"single messages and disks: {', '.join(calm.faults_on()) or 'nothing goes wrong'}",
        "faults:",
        *(f"    {fault}" for fault in plan.faults),
        "",
        "    ms what happened (sender->receiver message term index rejected)",
    ]
    target.parent.mkdir(exist_ok=True)
    target.write_text("\n".join([*head, *result.timeline, ""]), encoding="utf-8")
    return result
