"""Whether this node's disk hangs: a write that takes too long costs the leader its office, once for each write."""

from __future__ import annotations


class DiskWatch:
    """The write under way, on the monotonic clock in milliseconds."""

    def __init__(self, stall_ms: float) -> None:
        self._stall_ms = stall_ms
        self._started_ms: float | None = None
        self._gave_up = False

    def write_started(self, now_ms: float) -> None:
        """A write is under way from now on; nothing changes if it was already."""
        if self._started_ms is None:
            self._started_ms = now_ms

    def write_ended(self) -> None:
        """The write under way is durable."""
        self._started_ms, self._gave_up = None, False

    def is_stalled(self, now_ms: float) -> bool:
        """Whether the write under way takes too long."""
        return self._started_ms is not None and now_ms - self._started_ms > self._stall_ms

    def should_give_up(self, now_ms: float) -> bool:
        """Whether a leader should give up its office because of this write; it has not tried yet."""
        return self.is_stalled(now_ms) and not self._gave_up

    def gave_up(self) -> None:
        """The leader has tried to give up its office because of the write under way."""
        self._gave_up = True
