"""What raw and SDK devices share: the inbox of a receiver and the pace of a sender."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping

from scripts.bench.audit import Audit, MessagesWrongError

IDLE_S = 20.0
"""A receiver gives up after this time without a message."""
LINGER_S = 0.2
"""A message too many would arrive within this time after the last one."""
_TIMER_NS = 2_000_000


class Inbox:
    """Audits messages as they arrive, and records how long each was on its way."""

    def __init__(self) -> None:
        self.first_ns = 0
        self.last_ns = 0
        self.took_ms: list[float] = []
        self._audit = Audit()
        self._arrived = asyncio.Event()
        self._failure: BaseException | None = None

    def note(self, bodies: Iterable[str]) -> None:
        """Record messages that arrived now."""
        self.last_ns = time.monotonic_ns()
        self.first_ns = self.first_ns or self.last_ns
        for body in bodies:
            stamp = self._audit.note(body)
            if stamp is not None:
                self.took_ms.append((self.last_ns - stamp.sent_ns) / 1e6)
        self._arrived.set()

    def ended(self, reading: asyncio.Task[None]) -> None:
        """Record that the task that reads has ended."""
        if not reading.cancelled():
            self._failure = reading.exception()
            self._arrived.set()

    def begin(self) -> None:
        """Forget the times of earlier messages. The audit goes on."""
        self.first_ns = self.last_ns = 0
        self.took_ms = []

    async def wait_for(self, sent: Mapping[str, int]) -> None:
        """Wait until all accepted messages arrived. Raise MessagesWrongError unless each came once and in order."""
        try:
            while not self._audit.has_all(sent):
                self._arrived.clear()
                await asyncio.wait_for(self._arrived.wait(), IDLE_S)
                if self._failure is not None:
                    raise self._failure
        except TimeoutError:
            pass  # the audit says what is missing
        await asyncio.sleep(LINGER_S)
        if problems := self._audit.problems(sent):
            raise MessagesWrongError("; ".join(problems))


class Pacer:
    """The times at which a sender with an even pace has to send."""

    def __init__(self, count: int, rate_per_s: float, began_ns: int | None = None) -> None:
        self._count = count
        self._step_ns = int(1e9 / rate_per_s)
        self._began_ns = time.monotonic_ns() if began_ns is None else began_ns
        self._next = 0

    async def next_due(self) -> list[int]:
        """Wait until a message is due. Return the send time of each message that is due now. Empty at the end.

        A message counts as sent now. But if the sender is later than a timer is by nature, it counts as sent when it
        was due, so that a sender that is held up does not hide a pause.
        """
        if self._next == self._count:
            return []
        due_ns = self._began_ns + self._next * self._step_ns
        await asyncio.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
        now_ns = time.monotonic_ns()
        until = min(self._count, (now_ns - self._began_ns) // self._step_ns + 1)
        numbers = range(self._next, max(until, self._next + 1))
        self._next = numbers.stop
        due_times_ns = (self._began_ns + number * self._step_ns for number in numbers)
        return [now_ns if now_ns - due_ns < _TIMER_NS else due_ns for due_ns in due_times_ns]
