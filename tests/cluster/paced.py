"""A device of the SDK that sends at an even pace, and notes how long each message took until it was accepted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from parley import ParleyClient

PACE_S = 0.05
ACCEPTED_WITHIN_S = 60


@dataclass(frozen=True, slots=True)
class TimedSend:
    """One message that was accepted. Times are those of `time.perf_counter`."""

    number: int
    began_s: float
    accepted_s: float

    @property
    def took_ms(self) -> float:
        return (self.accepted_s - self.began_s) * 1000


def numbered(number: int) -> str:
    return f"message {number}"


@dataclass
class PacedSender:
    """Sends `message 1`, `message 2` ... to one account, one every 50 ms, whether or not the others were accepted."""

    client: ParleyClient
    to: str
    body: Callable[[int], str] = numbered
    sends: list[TimedSend] = field(default_factory=list)
    sent: int = 0
    _progress: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def took_ms(self) -> list[float]:
        """Return how long each accepted message took, in the order in which they were accepted."""
        return [send.took_ms for send in self.sends]

    async def run(self, ends: asyncio.Event) -> None:
        """Send until `ends` is set, then wait until all messages are accepted."""
        async with asyncio.TaskGroup() as tasks:
            while not ends.is_set():
                self.sent += 1
                tasks.create_task(self._send(self.sent))
                await asyncio.sleep(PACE_S)

    async def until(self, accepted: int) -> None:
        """Wait until so many messages have been accepted."""
        while len(self.sends) < accepted:
            self._progress.clear()
            await self._progress.wait()

    async def _send(self, number: int) -> None:
        began_s = time.perf_counter()
        await (await self.client.send(self.to, self.body(number))).accepted(timeout=ACCEPTED_WITHIN_S)
        self.sends.append(TimedSend(number, began_s, time.perf_counter()))
        self._progress.set()
