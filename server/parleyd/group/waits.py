"""Callers that wait for something the group sees by itself: an index to be applied, leadership to go elsewhere."""

from __future__ import annotations

from parleyd.raft.status import RaftStatus
from parleyd.raft.types import Index, NodeId, Role


class AppliedWaits:
    """Who waits until this node has applied an index."""

    def __init__(self) -> None:
        self._waits: dict[int, Index] = {}

    def add(self, token: int, index: Index) -> None:
        """Somebody waits for `index`."""
        self._waits[token] = index

    def withdraw(self, token: int) -> None:
        """Somebody does not wait any more."""
        self._waits.pop(token, None)

    def take_reached(self, applied_index: Index) -> list[int]:
        """Those whose index is applied; they do not wait any more."""
        reached = [token for token, index in self._waits.items() if index <= applied_index]
        for token in reached:
            del self._waits[token]
        return reached


class TransferWaits:
    """Who waits until this node does not lead any more, and until when."""

    def __init__(self, patience_ms: float) -> None:
        self._patience_ms = patience_ms
        self._deadlines: dict[int, float] = {}

    def add(self, token: int, now_ms: float) -> None:
        """Somebody has asked for a transfer."""
        self._deadlines[token] = now_ms + self._patience_ms

    def withdraw(self, token: int) -> None:
        """Somebody does not wait any more; the transfer goes on."""
        self._deadlines.pop(token, None)

    def take_ended(self, now_ms: float, *, is_leader: bool) -> list[int]:
        """Those who are to be told now."""
        if not self._deadlines:
            return []
        ended = [token for token, deadline in self._deadlines.items() if not is_leader or now_ms > deadline]
        for token in ended:
            del self._deadlines[token]
        return ended


def best_follower(status: RaftStatus, untrusted: frozenset[NodeId] = frozenset()) -> NodeId | None:
    """The voter to transfer leadership to: heard of lately, furthest, and trusted; None where there is none."""
    if status.role is not Role.LEADER:
        return None
    voters = set(status.conf_state.voters)
    candidates = [
        (progress.match_index, node)
        for node, progress in status.progress.items()
        if node != status.id and node in voters and node not in untrusted and progress.recent_active
    ]
    return max(candidates)[1] if candidates else None
