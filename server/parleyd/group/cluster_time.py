"""The time of the cluster: what a leader stamps on entries, and whose clock is wrong. Pure decisions.

One wrong clock must not move the time of the cluster, because sessions that expire are gone for good. Members report
their wall clocks with heartbeats and votes. A leader stamps the smaller of its own time and the highest time that a
majority of the voters, itself included, has reached. Until a majority has reported in the leader's term, it stamps 0.
Apply takes the higher of stamp and replicated time, so then the replicated time stands still. It never goes back.

There is no bound per entry: after an idle weekend the time rises by days at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from parleyd.raft.quorum import halves
from parleyd.raft.types import ConfState, NodeId, Term

TOLERANCE_MS = 60_000
"""A clock that differs by more from the majority's time is wrong. Its node should not lead."""
MAX_WALL_MS = 1 << 62
MAX_REPORTS = 64
JUDGEMENT_INTERVAL_MS = 250.0
CLOCK_LEVEL = 3
"""Members of an older level may run a release that reports no clock."""


@dataclass(frozen=True, slots=True)
class Moment:
    """This node's clocks at one time: monotonic and wall, and the membership and term in force."""

    now_ms: float
    wall_ms: int
    term: Term
    conf_state: ConfState


@dataclass(frozen=True, slots=True)
class _Report:
    wall_ms: int
    at_ms: float
    term: Term


class ClusterTime:
    """The wall clocks that members reported, each with the monotonic time at which it came."""

    def __init__(self, own: NodeId) -> None:
        self._own = own
        self._reports: dict[NodeId, _Report] = {}
        self._judgement_due_ms = 0.0

    def report(self, node: NodeId, wall_ms: int, now_ms: float, term: Term) -> None:
        """Take a member's clock. The latest report counts, because a wrong clock can be set right."""
        if 0 < wall_ms <= MAX_WALL_MS:
            self._reports.pop(node, None)
            self._reports[node] = _Report(wall_ms, now_ms, term)
            if len(self._reports) > MAX_REPORTS:
                del self._reports[next(iter(self._reports))]

    def stamp(self, moment: Moment) -> int:
        """Return the time of an entry that this node proposes as the leader; 0 for the replicated time."""
        reached = self._reached(moment)
        return 0 if reached is None else min(moment.wall_ms, reached)

    def take_judgement(self, now_ms: float) -> bool:
        """Return whether it is time to ask for the wrong clocks again."""
        if now_ms < self._judgement_due_ms:
            return False
        self._judgement_due_ms = now_ms + JUDGEMENT_INTERVAL_MS
        return True

    def wrong_clocks(self, moment: Moment) -> Mapping[NodeId, int]:
        """Return how far the clocks of voters are ahead (or, negative, behind) that are out of tolerance, in ms."""
        reached = self._reached(moment)
        if reached is None:
            return {}
        clocks = self._clocks(moment)
        voters = {*moment.conf_state.voters, *moment.conf_state.voters_outgoing}
        offsets = {node: clocks[node] - reached for node in sorted(voters) if node in clocks}
        return {node: offset for node, offset in offsets.items() if abs(offset) > TOLERANCE_MS}

    def _clocks(self, moment: Moment) -> dict[NodeId, int]:
        """Return what the clocks show now that were reported in this term."""
        clocks = {
            node: report.wall_ms + int(moment.now_ms - report.at_ms)
            for node, report in self._reports.items()
            if report.term == moment.term
        }
        return {**clocks, self._own: moment.wall_ms}

    def _reached(self, moment: Moment) -> int | None:
        """Return the highest time that a majority has reached, of both sets in a joint membership; None if unknown."""
        clocks = self._clocks(moment)
        reached = [_majority_time(voters, clocks) for voters in halves(moment.conf_state)]
        known = [time for time in reached if time is not None]
        return min(known) if len(known) == len(reached) else None


def _majority_time(voters: Sequence[NodeId], clocks: Mapping[NodeId, int]) -> int | None:
    times = sorted((clocks[node] for node in voters if node in clocks), reverse=True)
    place = len(voters) // 2
    return times[place] if len(times) > place else None


class ReplicatedClock:
    """The replicated time as applied here, going on with the monotonic clock; this node's wall clock has no part in it.

    While nothing is applied, nodes that started at different times may differ. Apply decides.
    """

    def __init__(self, time_ms: int, now_ms: float) -> None:
        self._time_ms = time_ms
        self._since_ms = now_ms

    def applied(self, time_ms: int, now_ms: float) -> None:
        """Take the replicated time after an apply. An entry that did not move it changes nothing."""
        if time_ms != self._time_ms:
            self._time_ms, self._since_ms = time_ms, now_ms

    def time_ms(self, now_ms: float) -> int:
        """Return the time of the cluster now, Unix time in milliseconds."""
        return self._time_ms + int(now_ms - self._since_ms)
