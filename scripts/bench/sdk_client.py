"""Devices of the SDK. A sender's messages are durable in its outbox before they go to the cluster."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from parley import ConnectionState, ParleyClient
from scripts.bench.audit import Stamp, make_body
from scripts.bench.inbox import Inbox, Pacer
from scripts.bench.raw_client import PASSWORD

SETTLE_S = 60.0


class SdkDevice:
    """A client of one account that sends and receives."""

    def __init__(self, account: str, client: ParleyClient, life: AsyncExitStack) -> None:
        self.accepted: Counter[str] = Counter()
        self.inbox = Inbox()
        self._account = account
        self._client = client
        self._life = life
        self._written: Counter[str] = Counter()
        self._accepted_at_s: list[float] = []
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def connect(cls, hosts: list[str], ca_file: Path, folder: Path, account: str, code: str) -> Self:
        """Create an account, an administrator's if there is a code, and sign in."""
        life = AsyncExitStack()
        client = await life.enter_async_context(ParleyClient(hosts, ca=ca_file, state_dir=folder))
        await client.register(account, PASSWORD, code)
        await client.login(account, PASSWORD)
        await client.wait_until(ConnectionState.CONNECTED, timeout=SETTLE_S)
        return cls(account, client, life)

    async def open(self) -> None:
        """Begin to read what arrives."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(self.inbox.ended)

    async def close(self) -> None:
        """End the client."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        await self._life.aclose()

    async def send(self, count: int, in_flight: int, to: Sequence[str]) -> list[float]:
        """Send `count` messages, `in_flight` at a time, to the accounts in turn.

        Return the milliseconds until each was accepted.
        """
        numbers = iter(range(count))
        took_ms: list[float] = []

        async def send_in_turn() -> None:
            for number in numbers:
                asked_s = time.perf_counter()
                await self._send(to[number % len(to)], time.monotonic_ns())
                took_ms.append((time.perf_counter() - asked_s) * 1000)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(in_flight, count)):
                tasks.create_task(send_in_turn())
        return took_ms

    async def pace(self, count: int, rate_per_s: float, to: str) -> list[float]:
        """Send at an even pace. Return the times at which messages were accepted, on the monotonic clock."""
        self._accepted_at_s = []
        pacer = Pacer(count, rate_per_s)
        async with asyncio.TaskGroup() as tasks:
            while due := await pacer.next_due():
                for sent_ns in due:
                    tasks.create_task(self._send(to, sent_ns))
        return self._accepted_at_s

    async def transfer_leadership(self) -> str:
        """Let any other node lead. Return which one does."""
        return await (await self._client.administration()).transfer_leadership("")

    async def _send(self, to: str, sent_ns: int) -> None:
        series = f"{self._account}>{to}"
        self._written[series] += 1
        message = await self._client.send(to, make_body(Stamp(series, self._written[series], sent_ns)))
        await message.accepted(timeout=SETTLE_S)
        self.accepted[series] += 1
        self._accepted_at_s.append(time.monotonic())

    async def _read(self) -> None:
        async for message in await self._client.messages():
            self.inbox.note([message.body])
