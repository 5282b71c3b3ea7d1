"""The ledger of the demo: which messages were sent, acknowledged, shown and stored, and the resulting figures.

Every message carries its number in its body. The numbers are counted from bodies alone, so the account does not depend
on how the SDK or the cluster detect duplicates or order.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill of the leader. Times are seconds since the demo began."""

    node: str
    at_s: float
    new_leader: str


@dataclass(slots=True)
class Ledger:
    """The record of a run, written in the order of its events."""

    run: str
    sent: int = 0
    acknowledged_at_s: dict[int, float] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    stored: dict[str, list[str]] = field(default_factory=dict)

    def body(self, number: int) -> str:
        """Return the body of message `number`."""
        return f"{self.run} {number} " + "." * (256 - len(self.run) - len(str(number)) - 2)

    def acknowledge(self, number: int, at_s: float, latency_ms: float) -> None:
        """Record that message `number` was reported to be on a majority's disks."""
        self.acknowledged_at_s[number] = at_s
        self.latencies_ms.append(latency_ms)


@dataclass(frozen=True, slots=True)
class Account:
    """The comparison of one list of bodies with the acknowledged messages."""

    lost: int
    duplicated: int
    out_of_order: int
    strange: int


def account_of(run: str, bodies: Sequence[str], acknowledged: Sequence[int]) -> Account:
    """Compare one list of bodies with the acknowledged messages.

    A body that this run did not send counts as strange.
    """
    numbers, strange = [], 0
    for body in bodies:
        parts = body.split(" ")
        if len(parts) == 3 and parts[0] == run and parts[1].isdigit():
            numbers.append(int(parts[1]))
        else:
            strange += 1
    counts = Counter(numbers)
    return Account(
        lost=sum(1 for number in acknowledged if number not in counts),
        duplicated=sum(count - 1 for count in counts.values()),
        # A second copy is a duplicate, not disorder; so order is judged where each number came first.
        out_of_order=_descents(list(counts)),
        strange=strange,
    )


def longest_pauses_ms(kills: Sequence[float], acknowledged_at_s: Sequence[float], end_s: float) -> list[float]:
    """Return for each kill the longest time without an acknowledgement between it and the next (or the end of sending).

    A pause is counted whole, from the last acknowledgement before it. One that never ended lasts to the end. A pause
    that includes the next kill counts there, and here only if it began with this kill.
    """
    marks = [*sorted(acknowledged_at_s), end_s]
    gaps = list(pairwise(marks))
    pauses = []
    for kill, next_kill in zip(kills, [*kills[1:], end_s][: len(kills)], strict=True):
        mine = [
            later - earlier
            for earlier, later in gaps
            if later > kill and earlier < next_kill and (earlier <= kill or later <= next_kill)
        ]
        pauses.append(round(1000 * max(mine, default=max(0.0, end_s - kill)), 1))
    return pauses


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value below which `percent` of 100 are."""
    if len(values) < 2:
        return round(values[0], 3) if values else 0.0
    return round(statistics.quantiles(values, n=100, method="inclusive")[percent - 1], 3)


def results(ledger: Ledger, sending_ended_s: float, *, planned_kills: int) -> dict[str, object]:
    """Return the figures of one run.

    `ok` decides the exit code: complete, and nothing lost, duplicated or out of order.
    """
    acknowledged = sorted(ledger.acknowledged_at_s)
    shown = account_of(ledger.run, ledger.shown, acknowledged)
    stored = {node: account_of(ledger.run, bodies, acknowledged) for node, bodies in ledger.stored.items()}
    accounts = [shown, *stored.values()]
    pauses_ms = longest_pauses_ms(
        [kill.at_s for kill in ledger.kills], list(ledger.acknowledged_at_s.values()), sending_ended_s
    )
    lost, duplicated, out_of_order, strange = (
        max(getattr(account, name) for account in accounts)
        for name in ("lost", "duplicated", "out_of_order", "strange")
    )
    received = len(set(ledger.shown))
    complete = (
        ledger.sent == len(acknowledged) == received > 0
        and len(stored) > 0
        and len(ledger.kills) == planned_kills
        and all(kill.at_s < sending_ended_s for kill in ledger.kills)  # a later one measures nothing
    )
    return {
        "sent": ledger.sent,
        "acknowledged": len(acknowledged),
        "received": received,
        "lost": lost,
        "duplicated": duplicated,
        "out_of_order": out_of_order,
        "strange": strange,
        "pauses_ms": pauses_ms,
        "pause_median_ms": round(statistics.median(pauses_ms), 1) if pauses_ms else None,
        "pause_worst_ms": max(pauses_ms, default=None),
        "ack_p50_ms": percentile(ledger.latencies_ms, 50),
        "ack_p99_ms": percentile(ledger.latencies_ms, 99),
        "kills": [
            {"node": kill.node, "at_s": round(kill.at_s, 3), "pause_ms": pause_ms, "new_leader": kill.new_leader}
            for kill, pause_ms in zip(ledger.kills, pauses_ms, strict=True)
        ],
        "stored_per_node": _stored_counts(ledger.stored),
        "ok": complete and not (lost or duplicated or out_of_order or strange),
    }


def _stored_counts(stored: Mapping[str, Sequence[str]]) -> dict[str, int]:
    return {node: len(bodies) for node, bodies in stored.items()}


def _descents(numbers: Sequence[int]) -> int:
    return sum(1 for earlier, later in pairwise(numbers) if later < earlier)
