"""What is measured while an attack goes on: memory of the nodes, elections, and what an innocent client waits for."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field

import grpc.aio
import psutil

from parley_proto.v1 import conversations_pb2
from parley_proto.v1.messaging_pb2 import SEND_STATUS_ACCEPTED
from scripts.cluster_local import LocalCluster
from tests.cluster.raw import Person, Raw, raw_client

SAMPLE_S = 0.1
PAUSE_S = 0.05
TROUBLE = (grpc.aio.AioRpcError, AssertionError, TimeoutError, asyncio.InvalidStateError)


@dataclass(slots=True)
class Innocent:
    """A client that sends, and reads its history, at one node."""

    cluster: LocalCluster
    node: str
    person: Person
    waits_ms: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    async def run(self) -> None:
        """Go on until cancelled; what fails is noted, and tried again on a new connection."""
        number = 0
        while True:
            with contextlib.suppress(*TROUBLE):
                async with raw_client(self.cluster, self.node) as raw, raw.session(self.person) as stream:
                    number = stream.welcome.last_send_number
                    while True:
                        number += 1
                        async with self._timed():
                            result = await stream.send_surely(number, self.person.name, f"innocent {number}")
                            assert result.status == SEND_STATUS_ACCEPTED, result
                        async with self._timed():
                            await self._read(raw)
                        await asyncio.sleep(PAUSE_S)

    async def _read(self, raw: Raw) -> None:
        request = conversations_pb2.GetHistoryRequest(account_name=self.person.name, limit=10, seen=raw.seen)
        await raw.conversations.GetHistory(request, metadata=self.person.metadata, timeout=10)

    @contextlib.asynccontextmanager
    async def _timed(self):  # type: ignore[no-untyped-def]
        began = time.monotonic()
        try:
            yield
        except TROUBLE as error:
            self.errors.append(f"{type(error).__name__}: {str(error)[:200]}")
            raise
        finally:
            self.waits_ms.append((time.monotonic() - began) * 1000)

    def wait_ms(self, share: float) -> float:
        """The wait that this share of the waits does not exceed."""
        ordered = sorted(self.waits_ms)
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 1) if ordered else 0.0


@dataclass(slots=True)
class Memory:
    """Resident memory of each node, at the start and at most."""

    cluster: LocalCluster
    start_mib: dict[str, int] = field(default_factory=dict)
    most_mib: dict[str, int] = field(default_factory=dict)

    def sample(self) -> None:
        """Look at every node once."""
        for name in self.cluster.names:
            used = psutil.Process(self.cluster.pid(name)).memory_info().rss >> 20
            self.start_mib.setdefault(name, used)
            self.most_mib[name] = max(used, self.most_mib.get(name, 0))

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.sample()
            await asyncio.sleep(SAMPLE_S)

    @property
    def growth_mib(self) -> int:
        """How much the node that grew most has grown."""
        return max(self.most_mib[name] - start for name, start in self.start_mib.items())


async def term_of(cluster: LocalCluster) -> int:
    """The newest term: each election makes a new one."""
    return max(view.term for view in await cluster.views())
