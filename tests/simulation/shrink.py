"""A failing run made small: the faults it needs, the shortest fault phase seen to fail, and its timeline for people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.simulation.plan import Plan
from tests.simulation.simulation import RunResult, run_plan

_WITHOUT: tuple[Callable[[Plan], Plan], ...] = (
    lambda plan: replace(plan, partition_every_ms=0),
    lambda plan: replace(plan, crash_every_ms=0),
    lambda plan: replace(plan, change_every_ms=0, spares=0),
    lambda plan: replace(plan, transfer_every_ms=0),
    lambda plan: replace(plan, forget_every_ms=0),
    lambda plan: replace(plan, compact_every_ms=0),
    lambda plan: replace(plan, stall_every_ms=0),
    lambda plan: replace(plan, torn_update=0.0),
    lambda plan: replace(plan, drop=0.0),
    lambda plan: replace(plan, duplicate=0.0),
    lambda plan: replace(plan, late=0.0),
    lambda plan: replace(plan, in_order=True),
    lambda plan: replace(plan, one_way=False),
    lambda plan: replace(plan, skewed_clocks=False),
    lambda plan: replace(plan, max_sync_ms=1),
)
_SHORTEST_MS = 250


def shrink(plan: Plan) -> Plan:
    """Switch off one kind of fault after another, then halve the fault phase, for as long as something still fails.

    What fails then may be another property than at first: the random numbers are drawn in another order.
    """
    for without in _WITHOUT:
        plan = _if_it_fails(without(plan), plan)
    while plan.fault_phase_ms > _SHORTEST_MS:
        shorter = _if_it_fails(replace(plan, fault_phase_ms=plan.fault_phase_ms // 2), plan)
        if shorter is plan:
            break
        plan = shorter
    return plan


def write_timeline(plan: Plan, target: Path) -> RunResult:
    """Run `plan` once more and write down all that happened in it."""
    result = run_plan(plan, keep_timeline=True)
    faults = ", ".join(plan.faults_on()) or "none"
    head = [f"seed {plan.seed}: {result.violation or 'ok'}", f"faults: {faults}", str(plan), ""]
    target.parent.mkdir(exist_ok=True)
    target.write_text("\n".join([*head, *result.timeline, ""]), encoding="utf-8")
    return result


def _if_it_fails(smaller: Plan, otherwise: Plan) -> Plan:
    return smaller if smaller != otherwise and run_plan(smaller).violation else otherwise
