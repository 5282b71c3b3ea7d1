"""A device that sends all the time and goes on at another node when its own ends: one number, one message."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc

from parley_proto.v1.messaging_pb2 import SEND_STATUS_ACCEPTED
from scripts.cluster_local import LocalCluster
from tests.cluster.raw import Person, raw_client

TROUBLE = (grpc.aio.AioRpcError, AssertionError, TimeoutError)


@dataclass
class Load:
    """Sends `message 1`, `message 2` ... to one account."""

    cluster: LocalCluster
    person: Person
    to: str
    acknowledged: int = 0
    progress: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Send until cancelled. A send is repeated under its number until it is acknowledged."""
        while True:
            for name in self.cluster.names:
                with contextlib.suppress(*TROUBLE):
                    async with raw_client(self.cluster, name) as raw, raw.session(self.person) as stream:
                        while True:
                            number = self.acknowledged + 1
                            result = await stream.send_surely(number, self.to, f"message {number}")
                            assert result.status == SEND_STATUS_ACCEPTED, result
                            self.acknowledged = number
                            self.progress.set()
            await asyncio.sleep(0.05)

    async def until(self, more: int, timeout_s: float = 60.0) -> None:
        """Wait until `more` sends have been acknowledged from now on."""
        goal = self.acknowledged + more
        async with asyncio.timeout(timeout_s):
            while self.acknowledged < goal:
                self.progress.clear()
                await self.progress.wait()


@asynccontextmanager
async def load(cluster: LocalCluster, person: Person, to: str) -> AsyncIterator[Load]:
    """Sends while inside."""
    made = Load(cluster, person, to)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
