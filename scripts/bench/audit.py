"""Message bodies that carry their number, and the audit of what a receiver got: each message once, in order.

A series is the messages of one sender to one receiver, numbered from 1. The audit reads bodies alone, so it does not
depend on how the cluster or the SDK detect duplicates and order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

BODY_BYTES = 256


class MessagesWrongError(Exception):
    """Messages were lost, doubled or reordered. The text says how many of which series."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a body says: its series, its number, and when it was sent, in nanoseconds of the monotonic clock."""

    series: str
    number: int
    sent_ns: int


def make_body(stamp: Stamp) -> str:
    """Return a body of `BODY_BYTES`."""
    return f"{stamp.series} {stamp.number} {stamp.sent_ns} ".ljust(BODY_BYTES, ".")


def read_body(body: str) -> Stamp | None:
    """Return what a body says, or None for a body that the bench did not send."""
    parts = body.split(" ")
    if len(body) != BODY_BYTES or len(parts) != 4 or not (parts[1].isdigit() and parts[2].isdigit()):
        return None
    return Stamp(parts[0], int(parts[1]), int(parts[2]))


class Audit:
    """Counts the messages of every series as they arrive. It stores one number per series and no bodies."""

    def __init__(self) -> None:
        self.received = 0
        self._last: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()
        self._repeated: Counter[str] = Counter()
        self._unknown = 0

    def note(self, body: str) -> Stamp | None:
        """Count one message that arrived."""
        self.received += 1
        stamp = read_body(body)
        if stamp is None:
            self._unknown += 1
            return None
        expected = self._last[stamp.series] + 1
        if stamp.number < expected:
            self._repeated[stamp.series] += 1
        else:
            self._skipped[stamp.series] += stamp.number - expected
            self._last[stamp.series] = stamp.number
        return stamp

    def has_all(self, sent: Mapping[str, int]) -> bool:
        """Return true once the last message of each series arrived."""
        return all(self._last[series] >= count for series, count in sent.items())

    def problems(self, sent: Mapping[str, int]) -> list[str]:
        """Return what is wrong, given the number of accepted messages of each series. Empty if nothing is."""
        found = [f"{self._unknown} messages arrived that the bench did not send"] if self._unknown else []
        for series in sorted({*sent, *self._last}):
            count, last = sent.get(series, 0), self._last[series]
            if last < count:
                found.append(f"{series}: {count - last} accepted messages did not arrive, from number {last + 1} on")
            if last > count:
                found.append(f"{series}: {last - count} messages arrived that were not accepted")
            if self._skipped[series]:
                found.append(f"{series}: {self._skipped[series]} messages were lost or late")
            if self._repeated[series]:
                found.append(f"{series}: {self._repeated[series]} messages arrived twice or late")
        return found
