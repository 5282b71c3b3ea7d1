"""When accounts that are connected nowhere were last connected, as this node knows it.

It is in memory only. A node that starts is told by the others (reports.py). So it is lost when all nodes stop.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable


class LastSeen:
    """The times at which connections of accounts ended, by the clock of the caller."""

    def __init__(self, max_remembered: int) -> None:
        """Beyond `max_remembered` accounts, those are forgotten that were seen longest ago."""
        self._max_remembered = max_remembered
        self._at_s: dict[int, float] = {}

    def note(self, account_id: int, at_s: float) -> None:
        """Note that a connection ended. An earlier end than the known one changes nothing."""
        if at_s > self._at_s.get(account_id, float("-inf")):
            self._at_s[account_id] = at_s
            if len(self._at_s) > self._max_remembered + self._max_remembered // 8:
                self._at_s = dict(heapq.nlargest(self._max_remembered, self._at_s.items(), key=lambda one: one[1]))

    def connected(self, account_ids: Iterable[int]) -> None:
        """Forget accounts that are connected again: they take no room from the others."""
        for account_id in account_ids:
            self._at_s.pop(account_id, None)

    def at_s(self, account_id: int) -> float | None:
        """Return when the last connection ended; None if it is not known."""
        return self._at_s.get(account_id)

    def newest(self, count: int) -> list[int]:
        """Return the accounts that were seen last."""
        if len(self._at_s) <= count:
            return [*self._at_s]
        return heapq.nlargest(count, self._at_s, key=self._at_s.__getitem__)
