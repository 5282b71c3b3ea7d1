"""`python -m tests.simulation.exhaustion.__main__`: every order of events in small worlds, breadth first.

Three servers; an election or two; a proposal, a change of the membership, a transfer, a read, some ticks; a crash that
loses what was not synced. A message may arrive at any time after it was sent, or never: a lost one is one that nobody
delivers. Each disk carries out its writes in order, at any time. What is committed is applied at once. After every step
the checker of the simulation looks at the server, and what was seen must agree with all that was seen before.

`exhaustion_server` takes one step of one server, `exhaustion_space` makes numbers of that, `exhaustion_search` goes
through the states.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from parleyd.raft.membership import ConfChange, ConfChangeType, SingleChange, Transition
from parleyd.raft.types import ConfState, NodeId
from tests.simulation.exhaustion.search import Report, explore
from tests.simulation.exhaustion.space import NODES, Scope

ROOT = Path(__file__).resolve().parents[3]


def each(kind: ConfChangeType) -> tuple[ConfChange, ...]:
    """The same change for each server."""
    return tuple(ConfChange((SingleChange(kind, node),)) for node in NODES)


def third_for(transition: Transition) -> tuple[ConfChange, ...]:
    """The third server takes the place of the first, or of the second, through a joint membership."""
    joins = SingleChange(ConfChangeType.ADD_VOTER, NODES[2])
    return tuple(ConfChange((joins, SingleChange(ConfChangeType.REMOVE_NODE, node)), transition) for node in NODES[:2])


TWO = ConfState(voters=NODES[:2])
"""Two voters; the third server is a non-member, and begins with a snapshot when it is taken in."""
LEARNER = ConfState(voters=NODES[:2], learners=NODES[2:])
JOINS = (ConfChange((SingleChange(ConfChangeType.ADD_VOTER, NodeId(3)),)),)
APART = ((1,), (2,), ())
"""Each of two earlier leaders has an entry that nobody else has (Raft figure 7)."""

JOINT_AUTO, JOINT_EXPLICIT = (third_for(way) for way in (Transition.JOINT_IMPLICIT, Transition.JOINT_EXPLICIT))
REMOVALS, DEMOTIONS = (each(kind) for kind in (ConfChangeType.REMOVE_NODE, ConfChangeType.ADD_LEARNER))

SCOPES = (
    Scope("one election, a crash", campaigns=1, crashes=1),
    Scope("one election, a proposal, a crash", campaigns=1, proposals=1, crashes=1),
    Scope("two elections, a crash", campaigns=2, crashes=1),
    Scope("two elections over logs that differ", campaigns=2, logs=APART),
    Scope("two elections, a proposal, a crash", campaigns=2, proposals=1, crashes=1, bound=1_000_000),
    Scope("a transfer, a crash", campaigns=1, transfers=1, crashes=1),
    Scope("a server leaves, a crash", campaigns=1, changes=1, crashes=1, offered=REMOVALS),
    Scope("a voter becomes a learner, a crash", campaigns=1, changes=1, crashes=1, offered=DEMOTIONS),
    Scope("a learner becomes a voter, a crash", campaigns=1, changes=1, crashes=1, offered=JOINS, bootstrap=LEARNER),
    Scope(
        "a non-member joins, two elections, a crash", campaigns=2, changes=1, crashes=1, offered=JOINS, bootstrap=TWO
    ),
    Scope("joint, left by itself, a crash", campaigns=1, changes=1, crashes=1, offered=JOINT_AUTO, bootstrap=TWO),
    Scope(
        "joint, left when told, a crash",
        campaigns=1,
        changes=1,
        leaves=1,
        crashes=1,
        offered=JOINT_EXPLICIT,
        bootstrap=TWO,
    ),
    Scope("joint, left by itself, two elections", campaigns=2, changes=1, offered=JOINT_AUTO, bootstrap=TWO),
    Scope("a read", campaigns=1, reads=1),
    Scope("two elections of two, a read, a crash", campaigns=2, reads=1, crashes=1, bootstrap=TWO),
    Scope("two messages arrive twice", campaigns=1, doubles=2),
    Scope("two elections, a message arrives twice", campaigns=2, doubles=1, bound=500_000),
    Scope("a log is compacted, a crash", campaigns=1, compactions=1, crashes=1),
    Scope(
        "a log is compacted, a non-member joins", campaigns=1, compactions=1, changes=1, offered=JOINS, bootstrap=TWO
    ),
    Scope("three ticks with pre-vote and check-quorum", ticks=3, pre_vote=True, check_quorum=True),
    Scope("six ticks of two with pre-vote and check-quorum", ticks=6, pre_vote=True, check_quorum=True, bootstrap=TWO),
    Scope("six ticks of two with check-quorum", ticks=6, check_quorum=True, bootstrap=TWO),
)
"""What is gone through: ten minutes altogether, all of it but the two scopes that have a bound."""


def _row(report: Report) -> str:
    complete = "yes" if report.complete else "no"
    return (
        f"{report.scope:<48} {report.states:>9} {report.steps:>10} {report.depth:>5} {complete:>8} "
        f"{report.seconds:>7.1f}  {report.violation or 'no property broken'}"
    )


def _summary(reports: list[Report]) -> dict[str, object]:
    return {
        "states": sum(report.states for report in reports),
        "steps": sum(report.steps for report in reports),
        "depth": max(report.depth for report in reports),
        "complete": sum(report.complete for report in reports),
        "wall_s": round(sum(report.seconds for report in reports), 2),
        "violations": sum(bool(report.violation) for report in reports),
        "scopes": [asdict(report) for report in reports],
    }


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Exit code 0: no property was broken; 1: one was."""
    parser = argparse.ArgumentParser(prog="make exhaust", description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--max-states", type=int, help="per scope, instead of its own bound")
    parser.add_argument("--seconds", type=float, default=300.0, help="per scope")
    parser.add_argument("--only", default="", help="only scopes with this in their name")
    chosen = parser.parse_args(arguments)
    reports = []
    print(f"{'scope':<48} {'states':>9} {'steps':>10} {'depth':>5} {'complete':>8} {'seconds':>7}")
    for scope in SCOPES:
        if chosen.only not in scope.name:
            continue
        report, _ = explore(scope, max_states=chosen.max_states, max_seconds=chosen.seconds)
        reports.append(report)
        print(_row(report), flush=True)
        for line in report.trace:
            print("   ", line)
    if not reports:
        parser.error(f"no scope has {chosen.only!r} in its name")
    summary = _summary(reports)
    target = root / "build" / "exhaust.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print(f"{summary['states']} states in {summary['wall_s']} s; details in {target.relative_to(root)}")
    return 1 if summary["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
