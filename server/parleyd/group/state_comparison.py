"""Compares the members' states by the state hashes that they report at equal indices: pure decisions.

The hash is a chain: nodes that differ once differ at every later index, until one of them gets the other's state. So
the latest index at which a member can be judged decides. At one index:

- The hash that a majority of the voters reports is right (of both majorities, in a joint membership). Members with that
  hash agree. Members with another are outvoted.
- If the reports differ and no hash has a majority, the right one is unknown: those members are undecided. A member that
  was outvoted before stays outvoted. The others are undecided only if they differ without it, too.
- If all reports are equal but are not a majority yet, nothing follows.

Bounds: the latest `MAX_REPORTS` indices of each member, and members only.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from parleyd.machine.records import StateHash
from parleyd.raft.quorum import halves
from parleyd.raft.types import ConfState, NodeId

MAX_REPORTS = 256


class Verdict(enum.Enum):
    """The result of the comparison for one member."""

    AGREES = "agrees"
    OUTVOTED = "outvoted"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Judgement:
    """The result for one member, and the index from which it is valid."""

    verdict: Verdict
    index: int
    value: bytes  # the member's own hash there
    majority: bytes = b""  # that of a majority of voters there; empty if there is none


class StateComparison:
    """All members' state hashes that one node has received, and its own."""

    def __init__(self, own: NodeId) -> None:
        self._own = own
        self._voters: tuple[frozenset[NodeId], ...] = ()
        self._members: frozenset[NodeId] = frozenset()
        self._reports: dict[NodeId, dict[int, bytes]] = {}
        self._judged: dict[NodeId, Judgement] = {}

    # ---- what happens

    def set_members(self, conf_state: ConfState, members: Collection[NodeId]) -> None:
        """Take over a membership: forget the reports of former members and judge the others again."""
        self._voters = tuple(map(frozenset, halves(conf_state)))
        self._members = frozenset(members)
        for node in [known for known in self._reports if known not in self._members]:
            del self._reports[node]
            self._judged.pop(node, None)
        for index in sorted({index for reports in self._reports.values() for index in reports}):
            self._judge(index)

    def report(self, node: NodeId, hashes: Iterable[StateHash]) -> None:
        """Take a member's hashes at some indices; this node is a member, too. Repeated reports change nothing."""
        if node not in self._members:
            return
        reports = self._reports.setdefault(node, {})
        for one in hashes:
            reports[one.index] = one.value
            if len(reports) > MAX_REPORTS:
                del reports[min(reports)]
            self._judge(one.index)

    def state_replaced(self, current: StateHash) -> None:
        """Forget this node's reports: its state was replaced, as of `current`."""
        self._reports.pop(self._own, None)
        self._judged.pop(self._own, None)
        self.report(self._own, (current,))

    # ---- what follows

    @property
    def own_history(self) -> tuple[StateHash, ...]:
        """Return this node's reports for a member that has just connected, in order."""
        return tuple(StateHash(index, value) for index, value in sorted(self._reports.get(self._own, {}).items()))

    @property
    def is_outvoted(self) -> bool:
        """Return whether a majority of the voters has another state than this node."""
        own = self._judged.get(self._own)
        return own is not None and own.verdict is Verdict.OUTVOTED

    @property
    def judgements(self) -> Mapping[NodeId, Judgement]:
        """Return the judgement of each member that has one."""
        return self._judged

    def divergent(self, verdict: Verdict) -> dict[NodeId, Judgement]:
        """Return the members with that verdict, in the order of their ids."""
        return {node: found for node, found in sorted(self._judged.items()) if found.verdict is verdict}

    @property
    def is_clean(self) -> bool:
        """Return whether no divergence is known."""
        return all(found.verdict is Verdict.AGREES for found in self._judged.values())

    # ---- one index

    def _judge(self, index: int) -> None:
        values = {node: reports[index] for node, reports in self._reports.items() if index in reports}
        majority = self._majority(values)
        if majority:
            for node, value in values.items():
                self._conclude(node, Verdict.AGREES if value == majority else Verdict.OUTVOTED, index, value, majority)
            return
        trusted = {node: value for node, value in values.items() if not self._was_outvoted(node)}
        if len({*trusted.values()}) > 1:
            for node, value in trusted.items():
                self._conclude(node, Verdict.UNDECIDED, index, value, b"")

    def _majority(self, values: Mapping[NodeId, bytes]) -> bytes:
        """Return the hash that a majority of every set of voters has, or nothing."""
        for value in {*values.values()}:
            holders = {node for node, held in values.items() if held == value}
            if self._voters and all(2 * len(voters & holders) > len(voters) for voters in self._voters):
                return value
        return b""

    def _was_outvoted(self, node: NodeId) -> bool:
        judged = self._judged.get(node)
        return judged is not None and judged.verdict is Verdict.OUTVOTED

    def _conclude(self, node: NodeId, verdict: Verdict, index: int, value: bytes, majority: bytes) -> None:
        known = self._judged.get(node)
        if known is None or known.index <= index:
            self._judged[node] = Judgement(verdict, index, value, majority)
