"""When something is due: the ticks of the core, and one campaign after the connection to the leader broke.

After a pause of the whole process only a few ticks are made up for: what the others said meanwhile waits in the
sockets and must be heard before an election is due.
"""

from __future__ import annotations

import random
from collections.abc import Collection

from parleyd.group.campaign_delay import campaign_delay_ms
from parleyd.raft.types import NodeId

MAX_CATCH_UP_TICKS = 3


class Clock:
    """Deadlines on the monotonic clock, in milliseconds; it reads no clock itself."""

    def __init__(self, tick_ms: float, started_ms: float, rng: random.Random) -> None:
        self._rng = rng
        self._tick_ms = tick_ms
        self._tick_due_ms = started_ms + tick_ms
        self._campaign_due_ms: float | None = None

    @property
    def next_deadline_ms(self) -> float:
        """When it is worth looking at the clock again."""
        campaign = self._campaign_due_ms
        return self._tick_due_ms if campaign is None else min(self._tick_due_ms, campaign)

    def take_ticks(self, now_ms: float) -> int:
        """How many ticks the core is given now."""
        if now_ms < self._tick_due_ms:
            return 0
        missed = int((now_ms - self._tick_due_ms) / self._tick_ms) + 1
        if missed > MAX_CATCH_UP_TICKS:
            self._tick_due_ms = now_ms + self._tick_ms
            return MAX_CATCH_UP_TICKS
        self._tick_due_ms += missed * self._tick_ms
        return missed

    def plan_campaign(self, voters: Collection[NodeId], me: NodeId, lost_leader: NodeId, now_ms: float) -> None:
        """Campaign when it is this node's turn after the loss of a leader, in the place of an earlier plan."""
        self._campaign_due_ms = now_ms + campaign_delay_ms(voters, me, lost_leader, self._rng)

    def take_campaign(self, now_ms: float) -> bool:
        """Whether the planned campaign is due now."""
        if self._campaign_due_ms is None or now_ms < self._campaign_due_ms:
            return False
        self._campaign_due_ms = None
        return True
