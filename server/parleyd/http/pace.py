"""A rate for all callers together. Whoever comes above it waits for a turn. Pure."""

from __future__ import annotations


class Pace:
    """At most `burst` at once, and `per_s` in a second after that."""

    def __init__(self, per_s: float, burst: int) -> None:
        self._interval_s = 1 / per_s
        self._burst_s = burst / per_s
        self._due_s = 0.0  # when all that came until now were due, at the rate

    def delay_s(self, now_s: float) -> float:
        """Count one that comes now; return how long it has to wait."""
        self._due_s = max(self._due_s, now_s) + self._interval_s
        return max(0.0, self._due_s - now_s - self._burst_s)
