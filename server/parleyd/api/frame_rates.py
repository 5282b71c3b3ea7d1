"""How many frames of marks and pings an account may send in a second, in sum over its devices.

Such a frame has no answer that the client waits for, or a cheap one. So nothing else bounds how many a client sends.
At the bound the node reads the account's next frames later, and flow control stops the client. No frame is refused.
"""

from __future__ import annotations

from weakref import WeakValueDictionary

FRAMES_PER_S = 1_000
BURST = 4_096
RECENT = 1_024
"""Accounts whose rates are kept although no stream has them: a client that fetches has a new stream each time."""


class FrameRate:
    """The frames of one account. Reads no clock."""

    def __init__(self) -> None:
        self._due_s = 0.0  # when all frames until now were due, at the rate

    def delay_s(self, now_s: float) -> float:
        """Count a frame; return how long to wait before the next one of the same stream is read."""
        self._due_s = max(self._due_s, now_s) + 1 / FRAMES_PER_S
        return max(0.0, self._due_s - now_s - BURST / FRAMES_PER_S)


class FrameRates:
    """The rates of the accounts that have streams, or had one lately."""

    def __init__(self) -> None:
        self._rates: WeakValueDictionary[int, FrameRate] = WeakValueDictionary()
        self._recent: dict[int, FrameRate] = {}  # the latest account comes last

    def of(self, account_id: int) -> FrameRate:
        """Return the rate that all streams of the account have in common. Each of them keeps it."""
        rate = self._rates.get(account_id)
        if rate is None:
            rate = self._rates[account_id] = FrameRate()
        self._recent.pop(account_id, None)
        self._recent[account_id] = rate
        if len(self._recent) > RECENT:
            del self._recent[next(iter(self._recent))]
        return rate
