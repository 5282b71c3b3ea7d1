"""Callers that wait for an event inside the group: an applied index, or the end of leadership."""

from __future__ import annotations

import heapq

from parleyd.raft.status import RaftStatus
from parleyd.raft.types import Index, NodeId, Role


class AppliedWaits:
    """Callers that wait until this node has applied an index, at most `most` of them.

    The heap keeps callers that have left until their index is applied, so it counts them too.
    """

    def __init__(self, most: int = 65_536) -> None:
        self._most = most
        self._heap: list[tuple[Index, int]] = []
        self._live: set[int] = set()

    def add(self, token: int, index: Index) -> bool:
        """Add a caller that waits for `index`; return False if too many wait."""
        if len(self._heap) >= self._most:
            self._heap = [wait for wait in self._heap if wait[1] in self._live]
            heapq.heapify(self._heap)
        if len(self._heap) >= self._most:
            return False
        heapq.heappush(self._heap, (index, token))
        self._live.add(token)
        return True

    def withdraw(self, token: int) -> None:
        """Remove a caller."""
        self._live.discard(token)

    def take_reached(self, applied_index: Index) -> list[int]:
        """Return and forget the callers whose index is applied."""
        reached = []
        while self._heap and self._heap[0][0] <= applied_index:
            _, token = heapq.heappop(self._heap)
            if token in self._live:
                self._live.remove(token)
                reached.append(token)
        return reached


class TransferWaits:
    """Callers that wait until this node does not lead any more, each with a deadline."""

    def __init__(self, patience_ms: float) -> None:
        self._patience_ms = patience_ms
        self._deadlines: dict[int, float] = {}

    def add(self, token: int, now_ms: float) -> None:
        """Add a caller that asked for a transfer."""
        self._deadlines[token] = now_ms + self._patience_ms

    def withdraw(self, token: int) -> None:
        """Remove a caller; the transfer continues."""
        self._deadlines.pop(token, None)

    def take_ended(self, now_ms: float, *, is_leader: bool) -> list[int]:
        """Return and forget the callers whose wait has ended."""
        if not self._deadlines:
            return []
        ended = [token for token, deadline in self._deadlines.items() if not is_leader or now_ms > deadline]
        for token in ended:
            del self._deadlines[token]
        return ended


def best_follower(status: RaftStatus, untrusted: frozenset[NodeId] = frozenset()) -> NodeId | None:
    """Return the best voter to lead next: heard from recently, most advanced, and trusted; None if there is none."""
    if status.role is not Role.LEADER:
        return None
    voters = set(status.conf_state.voters)
    candidates = [
        (progress.match_index, node)
        for node, progress in status.progress.items()
        if node != status.id and node in voters and node not in untrusted and progress.recent_active
    ]
    return max(candidates)[1] if candidates else None
