"""Decides when a leader's event loop is so late that another member should lead, and which member.

A loop that is late delays every caller and every heartbeat, and looks healthy otherwise. So each node measures how late
its ticks are, and tells it with its heartbeats and their answers. The lag of a node is what half of its time exceeds:
one pause, however long, is one tick of limited weight and does not make a lag.

Leadership moves only if this helps. Every rule is there because a transfer costs the callers a moment:

- The leader lags above the bound for `HOLD_MS`. It lags until the lag is below half of the bound.
- The target told a lag of at most half of the bound all the time in memory, at least for `KNOWN_MS`, and lately. So
  nobody moves while all nodes lag, and none goes back to the leader before, which told its lag itself.
- A leader that has transferred, or tried to, waits. The wait doubles each time, and a quiet hour ends that.

It reads no clock. Times are those of the monotonic clock in milliseconds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from parleyd.raft.types import NodeId

WINDOW_MS = 2_000.0
"""The time whose ticks are counted. The time between two ticks counts for `MAX_WEIGHT_MS` at most."""
MAX_WEIGHT_MS = WINDOW_MS / 8
HOLD_MS = 3_000.0
KNOWN_MS = 3_000.0
FRESH_MS = 2_000.0
MEMORY_MS = 30_000.0
"""A told lag is remembered for this long at least, and for twice as long at most."""
FIRST_WAIT_MS = 60_000.0
LONGEST_WAIT_MS = 960_000.0
QUIET_MS = 3_600_000.0


@dataclass(slots=True)
class _Told:
    """What one member told: since when, last when, and the worst of this part of the memory and of the one before."""

    since_ms: float
    at_ms: float
    part_ms: float
    worst: float = 0.0
    worst_before: float = 0.0


class LoopWatch:
    """The lag of this node's event loop, and what the others told of theirs. A bound of 0 moves no leadership.

    `lag_ms`: for half of the window's time, ticks were at least this late. `is_lagging`: this node has lagged above the
    bound for so long that it should not lead. `transfers` counts those that the lag caused. They may be read in any
    thread.
    """

    def __init__(self, bound_ms: float, started_ms: float) -> None:
        self._bound_ms = bound_ms
        self._ticks: deque[tuple[float, float]] = deque()  # (late, weight), at most WINDOW_MS of weight in sum
        self._weight_ms = 0.0
        self._ticked_ms = started_ms
        self._lagging_since_ms: float | None = None
        self._told: dict[NodeId, _Told] = {}
        self._transferred_ms = float("-inf")
        self._wait_ms = FIRST_WAIT_MS
        self.lag_ms = 0.0
        self.is_lagging = False
        self.transfers = 0

    # ---- this node

    def ticked(self, late_ms: float, now_ms: float) -> None:
        """Record that a tick came `late_ms` after it was due."""
        weight = min(max(now_ms - self._ticked_ms, 0.0), MAX_WEIGHT_MS)
        self._ticked_ms = now_ms
        self._ticks.append((late_ms, weight))
        self._weight_ms += weight
        while self._weight_ms - self._ticks[0][1] >= WINDOW_MS:
            self._weight_ms -= self._ticks.popleft()[1]
        self.lag_ms = self._lag_ms()
        if self._bound_ms and self.lag_ms > self._bound_ms:
            self._lagging_since_ms = now_ms if self._lagging_since_ms is None else self._lagging_since_ms
        elif self.lag_ms <= self._bound_ms / 2:
            self._lagging_since_ms = None
        since_ms = self._lagging_since_ms
        self.is_lagging = since_ms is not None and now_ms - since_ms >= HOLD_MS

    def _lag_ms(self) -> float:
        passed = 0.0
        for late_ms, weight in sorted(self._ticks, reverse=True):
            passed += weight
            if passed > WINDOW_MS / 2:
                return max(late_ms, 0.0)
        return 0.0

    # ---- the others

    def report(self, node: NodeId, lag_ms: float, now_ms: float) -> None:
        """Record what a member tells of its event loop."""
        told = self._told.get(node)
        if told is None or now_ms - told.at_ms > FRESH_MS:
            # A member that was silent may have lagged. What it told before stays in memory.
            before = 0.0 if told is None else max(told.worst, told.worst_before)
            told = self._told[node] = _Told(now_ms, now_ms, now_ms, worst_before=before)
        elif now_ms - told.part_ms >= MEMORY_MS:
            told.part_ms, told.worst_before, told.worst = now_ms, told.worst, 0.0
        told.at_ms = now_ms
        told.worst = max(told.worst, lag_ms)

    def is_punctual(self, node: NodeId, now_ms: float) -> bool:
        """Return whether a member's event loop is known to be punctual."""
        told = self._told.get(node)
        if told is None or now_ms - told.at_ms > FRESH_MS or told.at_ms - told.since_ms < KNOWN_MS:
            return False
        return max(told.worst, told.worst_before) <= self._bound_ms / 2

    # ---- transfers

    def should_transfer(self, now_ms: float) -> bool:
        """Return whether a leader should look for a member to lead in its place because of its event loop."""
        is_late = self.is_lagging and self.lag_ms > self._bound_ms
        return is_late and now_ms - self._transferred_ms >= self._wait_ms

    def transferred(self, now_ms: float) -> None:
        """Record that leadership was transferred because of the event loop, or that this was tried."""
        is_quiet = now_ms - self._transferred_ms >= QUIET_MS
        self._wait_ms = FIRST_WAIT_MS if is_quiet else min(2 * self._wait_ms, LONGEST_WAIT_MS)
        self._transferred_ms = now_ms
        self.transfers += 1
