"""Delays guesses of passwords: counts failed log-ins and says how long the next one has to wait.

Rules (NIST SP 800-63B, 5.2.2):

- A device that has logged in to the account before has a count of its own. Nobody else knows its id, so nobody else can
  delay it.
- All other devices share a count for the account, and one for the address that they call from.
- An attempt counts as failed when it begins, so attempts at the same time do not pass together. A success ends the
  count of the account or device. An attempt whose password was not checked is taken back.
- The count of an address sinks with time instead, because whoever has an account could reset it.
- Memory is bounded. At the bound, the count that was used longest ago is forgotten.

The object has no clock and no I/O. The leader has the one that counts; a node without a leader asks its own.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Literal

# Failures in a row, and the seconds until the next attempt from there on.
STEPS: Final = ((100, 3600.0), (30, 300.0), (10, 30.0))
KEPT_COUNTS: Final = tuple(sorted(at for at, _ in STEPS))  # those that become entries of the log
ADDRESS_BURST: Final = 100
ADDRESS_SECONDS_PER_FAILURE: Final = 6.0
MAX_COUNTS: Final = 65_536

Why = Literal["", "account", "device", "address"]  # whose count makes an attempt wait
WHYS: Final[tuple[Why, ...]] = ("account", "device", "address")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One log-in. `device` is empty unless it has logged in to the account before. `kept` is from the state."""

    account: str
    address: str
    device: str = ""
    kept: int = 0
    lifted: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the password may be checked now (`wait_s` 0), and the failures in a row with this attempt."""

    wait_s: float
    failures: int
    why: Why = ""


@dataclass(slots=True)
class _Count:
    failures: int
    lifted: int
    last_at_s: float


@dataclass(slots=True)
class _Level:
    """A vessel that leaks: `full` failures at `at_s`."""

    full: float
    at_s: float


class LogInThrottle:
    """The counts of failed log-ins, by account, device and address."""

    def __init__(self, max_counts: int = MAX_COUNTS) -> None:
        self._max_counts = max_counts
        self._counts: OrderedDict[tuple[str, str], _Count] = OrderedDict()
        self._addresses: OrderedDict[str, _Level] = OrderedDict()

    def begin(self, attempt: Attempt, now_s: float) -> Verdict:
        """Count the attempt as failed, unless it has to wait."""
        count = self._count(attempt, now_s)
        wait_s = count.last_at_s + _delay_s(count.failures) - now_s
        if wait_s > 0:
            return Verdict(wait_s, count.failures, "device" if attempt.device else "account")
        if not attempt.device:
            level = self._level(attempt.address, now_s)
            if level.full + 1 > ADDRESS_BURST:
                return Verdict(
                    (level.full + 1 - ADDRESS_BURST) * ADDRESS_SECONDS_PER_FAILURE, count.failures, "address"
                )
            level.full += 1
        count.failures += 1
        count.last_at_s = now_s
        return Verdict(0.0, count.failures)

    def succeeded(self, attempt: Attempt, now_s: float) -> None:
        """End the count of the account or device; the attempt was no failure of its address."""
        self._counts.pop(_key(attempt), None)
        self._return_to_address(attempt, now_s)

    def not_checked(self, attempt: Attempt, now_s: float) -> None:
        """Take an attempt back whose password was not checked."""
        count = self._counts.get(_key(attempt))
        if count is not None and count.failures > 0:
            count.failures -= 1
            count.last_at_s = now_s - _delay_s(count.failures)
        self._return_to_address(attempt, now_s)

    def _return_to_address(self, attempt: Attempt, now_s: float) -> None:
        if not attempt.device:
            level = self._level(attempt.address, now_s)
            level.full = max(0.0, level.full - 1)

    def _count(self, attempt: Attempt, now_s: float) -> _Count:
        key = _key(attempt)
        count = self._counts.get(key)
        kept = 0 if attempt.device else attempt.kept
        if count is None or count.lifted < attempt.lifted:
            # A new leader begins with what the state has. The wait begins then, too.
            count = _Count(kept, attempt.lifted, now_s if kept else now_s - _delay_s(kept))
            self._counts[key] = count
        self._counts.move_to_end(key)
        while len(self._counts) > self._max_counts:
            self._counts.popitem(last=False)
        return count

    def _level(self, address: str, now_s: float) -> _Level:
        level = self._addresses.setdefault(address, _Level(0.0, now_s))
        level.full = max(0.0, level.full - (now_s - level.at_s) / ADDRESS_SECONDS_PER_FAILURE)
        level.at_s = now_s
        self._addresses.move_to_end(address)
        while len(self._addresses) > self._max_counts:
            self._addresses.popitem(last=False)
        return level


def _key(attempt: Attempt) -> tuple[str, str]:
    return attempt.account, attempt.device


def _delay_s(failures: int) -> float:
    return next((delay_s for at, delay_s in STEPS if failures >= at), 0.0)
