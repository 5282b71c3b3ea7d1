"""When accounts that are connected nowhere were last connected, as this node knows it.

It is in memory only. A node that starts is told by the others (reports.py). So it is lost when all nodes stop.
"""

from __future__ import annotations

from collections.abc import Iterable


class LastSeen:
    """The times at which connections of accounts ended, by the clock of the caller."""

    def __init__(self, max_remembered: int) -> None:
        """Beyond `max_remembered` accounts, the one whose end was noted longest ago is forgotten."""
        self._max_remembered = max_remembered
        self._at_s: dict[int, float] = {}

    @property
    def accounts(self) -> Iterable[int]:
        """Return the accounts that are remembered."""
        return self._at_s.keys()

    def note(self, account_id: int, at_s: float) -> None:
        """Note that a connection ended. An earlier end than the known one changes nothing."""
        known = self._at_s.pop(account_id, at_s)
        self._at_s[account_id] = max(known, at_s)
        if len(self._at_s) > self._max_remembered:
            del self._at_s[next(iter(self._at_s))]

    def at_s(self, account_id: int) -> float | None:
        """Return when the last connection ended; None if it is not known."""
        return self._at_s.get(account_id)
