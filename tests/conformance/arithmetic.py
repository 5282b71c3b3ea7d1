"""The reference's input and output cases for quorums and for membership arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from parleyd.raft.membership import Fault, MembershipError, NextMembership, enter_joint, leave_joint, simple
from parleyd.raft.quorum import (
    EVERYTHING,
    VoteResult,
    joint_committed_index,
    joint_vote_result,
    majority_committed_index,
    majority_vote_result,
)
from parleyd.raft.types import ConfState, Index, NodeId
from tests.conformance.describe import config_text
from tests.conformance.script import Directive, read_script
from tests.conformance.world import parse_changes

VOTE_NAMES = {VoteResult.WON: "VoteWon", VoteResult.LOST: "VoteLost", VoteResult.PENDING: "VotePending"}
FAULT_NAMES = {
    Fault.ALREADY_JOINT: "config is already joint",
    Fault.NO_VOTERS_TO_JOIN: "can't make a zero-voter config joint",
    Fault.NOT_JOINT: "can't leave a non-joint config",
    Fault.SIMPLE_IN_JOINT: "can't apply simple config change in joint config",
    Fault.TOO_MANY_VOTERS: "more than one voter changed without entering joint config",
    Fault.NO_VOTERS_LEFT: "removed all voters",
}


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case: what came out and what was expected."""

    name: str
    case: str
    actual: str
    expected: str

    @property
    def ok(self) -> bool:
        """Whether they are equal."""
        return self.actual == self.expected


def quorum_cases(folder: Path) -> Iterator[CaseResult]:
    """Commit index and vote result of majority and joint quorums; only the last line, the result, is compared."""
    for path in sorted((folder / "quorum").glob("*.txt")):
        for directive in read_script(path):
            actual = _commit_case(directive) if directive.name == "committed" else _vote_case(directive)
            # Without voters the reference prints its (empty) picture and the result on one line.
            expected = directive.output[-1].removeprefix("<empty majority quorum>")
            yield CaseResult(path.name, directive.text, actual, expected)


def _assign(directive: Directive, values: tuple[str, ...]) -> dict[NodeId, str]:
    """Values belong to the voters in the order they are first named; `_` stands for none."""
    order = dict.fromkeys(NodeId(node) for node in (*_half(directive, "cfg"), *_half(directive, "cfgj")))
    return {node: value for node, value in zip(order, values, strict=False) if value != "_"}


def _half(directive: Directive, key: str) -> tuple[NodeId, ...]:
    if directive.options.get(key) == ("zero",):
        return ()
    return tuple(dict.fromkeys(NodeId(node) for node in directive.ids(key)))


def _commit_case(directive: Directive) -> str:
    acked = {node: Index(int(value)) for node, value in _assign(directive, directive.options.get("idx", ())).items()}
    voters = _half(directive, "cfg")
    if "cfgj" in directive.options:
        index = joint_committed_index(voters, _half(directive, "cfgj"), acked)
    else:
        index = majority_committed_index(voters, acked)
    return "∞" if index == EVERYTHING else str(index)


def _vote_case(directive: Directive) -> str:
    votes = {node: value == "y" for node, value in _assign(directive, directive.options.get("votes", ())).items()}
    voters = _half(directive, "cfg")
    if "cfgj" in directive.options:
        return VOTE_NAMES[joint_vote_result(voters, _half(directive, "cfgj"), votes)]
    return VOTE_NAMES[majority_vote_result(voters, votes)]


@dataclass
class _Electorate:
    """A membership and the next index of each member, as a leader would keep it."""

    conf: ConfState = field(default_factory=ConfState)
    next_index: dict[NodeId, int] = field(default_factory=dict)

    def take(self, changed: NextMembership, next_index: int) -> None:
        self.conf = changed.conf_state
        members = sorted({*self.conf.voters, *self.conf.voters_outgoing, *self.conf.learners})
        self.next_index = {
            node: max(next_index, 1) if node in changed.fresh else self.next_index[node] for node in members
        }

    def text(self) -> str:
        lines = [config_text(self.conf)]
        for node, next_index in self.next_index.items():
            learner = " learner" if node in self.conf.learners else ""
            lines.append(f"{node}: StateProbe match=0 next={next_index}{learner}")
        return "\n".join(lines)


def confchange_cases(folder: Path) -> Iterator[CaseResult]:
    """Chains of changes; each file starts from nothing, and its step number serves as the last log index."""
    for path in sorted((folder / "confchange").glob("*.txt")):
        electorate = _Electorate()
        for step, directive in enumerate(read_script(path)):
            actual = _change(electorate, directive, step)
            yield CaseResult(path.name, directive.text, actual, "\n".join(directive.output))


def _change(electorate: _Electorate, directive: Directive, step: int) -> str:
    changes = parse_changes(" ".join(directive.lines).split())
    try:
        if directive.name == "simple":
            changed = simple(electorate.conf, changes)
        elif directive.name == "enter-joint":
            changed = enter_joint(electorate.conf, changes, auto_leave=directive.flag("autoleave"))
        else:
            changed = leave_joint(electorate.conf)
    except MembershipError as error:
        return FAULT_NAMES[error.fault]
    electorate.take(changed, step)
    return electorate.text()
