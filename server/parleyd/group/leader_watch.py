"""Decides when a leader is silent for so long that this node asks for votes before its election timeout (record 13).

The election timeout has to fit the worst hour of a cluster. Most hours are better. So this object remembers the longest
gap between two messages of the leader, and how late this node's own timers were. A leader is suspected after twice
that, but never before it missed some heartbeats. Where twice the longest gap reaches the shortest election timeout,
nobody is suspected, and only the election timeout counts.

It reads no clock. Silence is counted in ticks. A pause of the whole process counts as two of them, because the messages
that came meanwhile are still in the sockets.
"""

from __future__ import annotations

from dataclasses import dataclass

from parleyd.raft.types import NO_INDEX, NO_NODE, Index, NodeId

GAP_FACTOR = 2.0
MEMORY_MS = 30_000.0
"""A gap is remembered for this long at least, and for twice as long at most."""
WARM_UP_HEARTBEATS = 10
MAX_COUNTED_TICKS = 2


@dataclass(frozen=True, slots=True)
class SilenceBounds:
    """Times of a `LeaderWatch`, in milliseconds.

    `least_ms` is the shortest silence that makes a leader suspect, 0 for none. The election timeouts are those of the
    core. A silence above the longest one is a fault. It says nothing about how punctual messages are otherwise.
    """

    tick_ms: float = 25
    heartbeat_ms: float = 50
    least_ms: float = 0
    election_timeout_min_ms: float = 250
    election_timeout_max_ms: float = 500

    @property
    def campaign_step_ms(self) -> float:
        """Return a time that lets one candidate ask twice: a heartbeat interval lasts longer than a round trip."""
        return 2 * self.heartbeat_ms


NO_SUSPICION = SilenceBounds()


class LeaderWatch:
    """What is known of the leader that this node follows."""

    def __init__(self, bounds: SilenceBounds, started_ms: float) -> None:
        self._bounds = bounds
        self._leader = NO_NODE
        self._followed_since_ms = started_ms
        self._heard_ms = started_ms
        self._ticked_ms = started_ms
        self._silence_ms = 0.0
        self._window_ms = started_ms
        self._worst_ms = self._worst_before_ms = 0.0
        self.commit = NO_INDEX  # the highest that a leader has told: what this node may lack

    @property
    def campaign_step_ms(self) -> float:
        """Return the time that one candidate has before the next one asks, after a leader was suspected."""
        return self._bounds.campaign_step_ms

    @property
    def patience_ms(self) -> float | None:
        """Return after which silence the leader is suspected; None if the election timeout decides."""
        worst_ms = max(self._worst_ms, self._worst_before_ms)
        patience_ms = max(self._bounds.least_ms, GAP_FACTOR * worst_ms)
        is_off = self._bounds.least_ms == 0 or patience_ms >= self._bounds.election_timeout_min_ms
        return None if is_off else patience_ms

    def heard(self, leader: NodeId, now_ms: float, commit: Index = NO_INDEX) -> None:
        """Record a message of the leader of the current term, and the commit index in it."""
        self.commit = max(self.commit, commit)
        if leader == self._leader:
            self._learn(now_ms - self._heard_ms, now_ms)
        else:
            self._leader, self._followed_since_ms = leader, now_ms
        self._heard_ms = now_ms
        self._silence_ms = 0.0

    def ticked(self, leader: NodeId, now_ms: float) -> bool:
        """Record a tick of this node; return whether `leader`, which it follows, is suspected."""
        if leader not in (NO_NODE, self._leader):
            self._leader = NO_NODE
        passed_ms, self._ticked_ms = now_ms - self._ticked_ms, now_ms
        late_ms = passed_ms - self._bounds.tick_ms
        self._learn(self._bounds.heartbeat_ms + late_ms, now_ms)
        self._silence_ms += min(passed_ms, MAX_COUNTED_TICKS * self._bounds.tick_ms)
        patience_ms = self.patience_ms
        is_followed = leader == self._leader != NO_NODE and self._is_known_well
        return is_followed and patience_ms is not None and self._silence_ms >= patience_ms

    @property
    def _is_known_well(self) -> bool:
        return self._heard_ms - self._followed_since_ms >= WARM_UP_HEARTBEATS * self._bounds.heartbeat_ms

    def _learn(self, gap_ms: float, now_ms: float) -> None:
        if now_ms - self._window_ms >= MEMORY_MS:
            is_next = now_ms - self._window_ms < 2 * MEMORY_MS
            self._worst_before_ms = self._worst_ms if is_next else 0.0
            self._window_ms, self._worst_ms = now_ms, 0.0
        if gap_ms <= self._bounds.election_timeout_max_ms:
            self._worst_ms = max(self._worst_ms, gap_ms)
