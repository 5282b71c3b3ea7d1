"""A device of the SDK that sends at an even pace, and notes how long each message took until it was accepted."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from parley import ParleyClient

PACE_S = 0.05
ACCEPTED_WITHIN_S = 60


@dataclass
class PacedSender:
    """Sends `message 1`, `message 2` ... to one account, one every 50 ms, whether or not the others were accepted."""

    client: ParleyClient
    to: str
    took_ms: list[float] = field(default_factory=list)
    sent: int = 0
    _progress: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, ends: asyncio.Event) -> None:
        """Send until `ends` is set, then wait until all messages are accepted."""
        async with asyncio.TaskGroup() as tasks:
            while not ends.is_set():
                self.sent += 1
                tasks.create_task(self._send(f"message {self.sent}"))
                await asyncio.sleep(PACE_S)

    async def until(self, accepted: int) -> None:
        """Wait until so many messages have been accepted."""
        while len(self.took_ms) < accepted:
            self._progress.clear()
            await self._progress.wait()

    async def _send(self, body: str) -> None:
        began = time.perf_counter()
        await (await self.client.send(self.to, body)).accepted(timeout=ACCEPTED_WITHIN_S)
        self.took_ms.append((time.perf_counter() - began) * 1000)
        self._progress.set()
