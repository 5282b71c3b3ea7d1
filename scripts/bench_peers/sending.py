"""A sender of a peer: what it keeps in flight, its pace, and repeats while a leader is missing."""

from __future__ import annotations

import asyncio
import time

from scripts.bench.audit import Stamp, make_body
from scripts.bench.inbox import Pacer
from scripts.bench_peers.peer import Sender

RETRY_S = 0.02
GIVE_UP_S = 60.0


class PeerSender:
    """One connection that keeps a number of sends in flight."""

    def __init__(self, name: str, sender: Sender) -> None:
        self.name = name
        self.accepted = 0
        self._sender = sender
        self._written = 0

    async def send(self, count: int, in_flight: int) -> list[float]:
        """Send `count` messages, `in_flight` at a time. Return the milliseconds until each was accepted."""
        numbers = iter(range(count))
        took_ms: list[float] = []

        async def send_in_turn() -> None:
            for _ in numbers:
                asked_s = time.perf_counter()
                await self._send(time.monotonic_ns())
                took_ms.append((time.perf_counter() - asked_s) * 1000)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(in_flight, count)):
                tasks.create_task(send_in_turn())
        return took_ms

    async def pace(self, count: int, rate_per_s: float) -> list[float]:
        """Send at an even pace, each until it is accepted. Return the times of acceptance, on the monotonic clock."""
        accepted_at_s: list[float] = []

        async def send(sent_ns: int) -> None:
            await self._send(sent_ns, repeats_until_s=time.monotonic() + GIVE_UP_S)
            accepted_at_s.append(time.monotonic())

        pacer = Pacer(count, rate_per_s)
        async with asyncio.TaskGroup() as tasks:
            while due := await pacer.next_due():
                for sent_ns in due:
                    tasks.create_task(send(sent_ns))
        return sorted(accepted_at_s)

    async def close(self) -> None:
        """End the connection."""
        await self._sender.close()

    async def _send(self, sent_ns: int, repeats_until_s: float = 0.0) -> None:
        self._written += 1
        ident = f"{self.name}/{self._written:012}"
        body = make_body(Stamp(self.name, self._written, sent_ns))
        while True:
            try:
                await self._sender.send(body, ident)
                break
            except Exception:  # whatever a client library raises when the leader is gone
                if time.monotonic() > repeats_until_s:
                    raise
            await asyncio.sleep(RETRY_S)
        self.accepted += 1
