"""Detects a stalled disk: a leader whose write takes too long tries to transfer leadership, once for each write."""

from __future__ import annotations


class DiskWatch:
    """The write in progress, on the monotonic clock in milliseconds; `transfers` counts those that it caused."""

    def __init__(self, stall_ms: float) -> None:
        self._stall_ms = stall_ms
        self._started_ms: float | None = None
        self._gave_up = False
        self.transfers = 0

    def write_started(self, now_ms: float) -> None:
        """Record the start of a write; without effect if one is in progress."""
        if self._started_ms is None:
            self._started_ms = now_ms

    def write_ended(self) -> None:
        """Record that the write in progress is durable."""
        self._started_ms, self._gave_up = None, False

    def is_stalled(self, now_ms: float) -> bool:
        """Return whether the write in progress takes too long."""
        return self._started_ms is not None and now_ms - self._started_ms > self._stall_ms

    def should_give_up(self, now_ms: float) -> bool:
        """Return whether a leader should transfer leadership because of this write; False after the first attempt."""
        return self.is_stalled(now_ms) and not self._gave_up

    def gave_up(self) -> None:
        """Record that the leader tried to transfer leadership because of the write in progress."""
        self._gave_up = True
        self.transfers += 1
