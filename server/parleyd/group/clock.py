"""Times at which something is due: the core's ticks, and one campaign after the connection to the leader broke or
the leader fell silent.

After a pause of the whole process only a few ticks are made up for. Messages that arrived meanwhile are still in the
sockets, and the node must read them before an election is due.
"""

from __future__ import annotations

import random
from collections.abc import Collection

from parleyd.group.campaign_delay import campaign_delay_ms
from parleyd.group.effects import ElectionReason
from parleyd.raft.types import NodeId

MAX_CATCH_UP_TICKS = 3


class Clock:
    """Deadlines on the monotonic clock, in milliseconds; it reads no clock itself."""

    def __init__(self, tick_ms: float, started_ms: float, rng: random.Random) -> None:
        self._rng = rng
        self._tick_ms = tick_ms
        self._tick_due_ms = started_ms + tick_ms
        self._campaign_due_ms: float | None = None
        self._reason = ElectionReason.NO_LEADER_HEARD

    @property
    def next_deadline_ms(self) -> float:
        """Return the time of the next tick or campaign."""
        campaign = self._campaign_due_ms
        return self._tick_due_ms if campaign is None else min(self._tick_due_ms, campaign)

    def late_ms(self, now_ms: float) -> float:
        """Return how late the next tick is; negative before it is due."""
        return now_ms - self._tick_due_ms

    def take_ticks(self, now_ms: float) -> int:
        """Return how many ticks the core gets now."""
        if now_ms < self._tick_due_ms:
            return 0
        missed = int((now_ms - self._tick_due_ms) / self._tick_ms) + 1
        if missed > MAX_CATCH_UP_TICKS:
            self._tick_due_ms = now_ms + self._tick_ms
            return MAX_CATCH_UP_TICKS
        self._tick_due_ms += missed * self._tick_ms
        return missed

    def plan_campaign(
        self,
        voters: Collection[NodeId],
        me: NodeId,
        lost_leader: NodeId,
        now_ms: float,
        step_ms: float,
        reason: ElectionReason,
    ) -> None:
        """Plan a campaign for the time that is this node's turn; it replaces an earlier plan."""
        self._reason = reason
        self._campaign_due_ms = now_ms + campaign_delay_ms(voters, me, lost_leader, self._rng, step_ms)

    def take_campaign(self, now_ms: float) -> ElectionReason | None:
        """Return why the planned campaign is due now; None if it is not, or if none is planned."""
        if self._campaign_due_ms is None or now_ms < self._campaign_due_ms:
            return None
        self._campaign_due_ms = None
        return self._reason
