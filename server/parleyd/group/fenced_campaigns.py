"""Decides when a fenced node may stand for an election.

Its state is wrong, but its log is right, and may be the longest of those that are left. Then no other node can be
elected, because the others lack an entry that is committed. So a fenced node campaigns when the others had time for it.
It leads only until another node has its log. Meanwhile it takes no proposals and answers no reads (docs/adr/0011).
"""

from __future__ import annotations


class FencedCampaigns:
    """How long there has been no leader, on the monotonic clock in milliseconds."""

    def __init__(self, patience_ms: float) -> None:
        self._patience_ms = patience_ms
        self._leaderless_since_ms: float | None = None

    def are_due(self, now_ms: float, *, has_leader: bool) -> bool:
        """Return whether there has been no leader for so long that no other node can be elected."""
        if has_leader:
            self._leaderless_since_ms = None
            return False
        if self._leaderless_since_ms is None:
            self._leaderless_since_ms = now_ms
        return now_ms - self._leaderless_since_ms >= self._patience_ms
