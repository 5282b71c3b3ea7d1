"""What a receiver got from a peer: loss is a failure, repeats and order are counted.

Parley delivers each message once and in order, so its own audit is stricter. A peer that repeats a message after a
fault keeps its promise of at-least-once delivery.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from scripts.bench.audit import MessagesWrongError, read_body

IDLE_S = 20.0
LINGER_S = 0.2


class Arrivals:
    """The numbers that arrived of each series."""

    def __init__(self) -> None:
        self.first_ns = 0
        self.last_ns = 0
        self.took_ms: list[float] = []
        self.repeated = 0
        self._numbers: dict[str, set[int]] = {}
        self._arrived = asyncio.Event()

    def note(self, body: str) -> None:
        """Record a message that arrived now."""
        stamp = read_body(body)
        if stamp is None:
            return
        self.last_ns = time.monotonic_ns()
        self.first_ns = self.first_ns or self.last_ns
        numbers = self._numbers.setdefault(stamp.series, set())
        if stamp.number in numbers:
            self.repeated += 1
        else:
            numbers.add(stamp.number)
            self.took_ms.append((self.last_ns - stamp.sent_ns) / 1e6)
        self._arrived.set()

    def missing(self, sent: Mapping[str, int]) -> int:
        """Return how many of the accepted messages, numbered from 1 in each series, have not arrived."""
        return sum(count - len(self._numbers.get(series, ())) for series, count in sent.items())

    async def wait_for(self, sent: Mapping[str, int], reading: asyncio.Task[None]) -> None:
        """Wait until all accepted messages arrived. Raise if some do not, or if the receiver ended."""
        while self.missing(sent) > 0 and not reading.done():
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), IDLE_S)
            except TimeoutError:
                break
        if reading.done():
            reading.result()
        await asyncio.sleep(LINGER_S)
        if (missing := self.missing(sent)) > 0:
            raise MessagesWrongError(f"{missing} accepted messages did not arrive")
