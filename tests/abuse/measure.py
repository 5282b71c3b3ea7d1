"""What is measured in an attack: memory and processors of the nodes, elections, and an innocent client's waits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio
import psutil

from parley_proto.v1 import conversations_pb2
from parley_proto.v1.messaging_pb2 import SEND_STATUS_ACCEPTED, SEND_STATUS_NO_ROOM
from scripts.cluster_local import LocalCluster
from tests.cluster.raw import Person, Raw, raw_client

SAMPLE_S = 0.1
STALL_MS = 1_500
"""Less than the 2 s of a leader, whose write may have begun before the sync."""
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
    accepted: int = 0
    refused: int = 0  # for want of room, with a text that says so
    _answered: asyncio.Event = field(default_factory=asyncio.Event)

    async def next_answer(self) -> None:
        """Wait for the answer to a send."""
        self._answered.clear()
        await self._answered.wait()

    async def run(self) -> None:
        """Go on until cancelled; what fails is noted, and tried again on a new connection."""
        number = 0
        while True:
            with contextlib.suppress(*TROUBLE):
                async with raw_client(self.cluster, self.node) as raw, raw.session(self.person) as stream:
                    number = stream.welcome.last_send_number
                    while True:
                        async with self._timed():
                            result = await stream.send_surely(number + 1, self.person.name, f"innocent {number + 1}")
                            if result.status == SEND_STATUS_NO_ROOM:
                                assert "no room" in result.detail, result
                                self.refused += 1
                            else:
                                assert result.status == SEND_STATUS_ACCEPTED, result
                                number += 1
                                self.accepted += 1
                        self._answered.set()
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
        for name in filter(self.cluster.is_up, self.cluster.names):
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


@dataclass(slots=True)
class Load:
    """The time of processors that each node used, between `begin` and the first `end` after it."""

    cluster: LocalCluster
    _began: float = 0.0
    _used_s: dict[str, float] = field(default_factory=dict)
    _percent: dict[str, int] = field(default_factory=dict)

    def begin(self) -> None:
        """Count from now on."""
        self._began = time.monotonic()
        self._used_s = {name: self._used(name) for name in self.cluster.names}
        self._percent = {}

    def end(self) -> None:
        """Count no further."""
        if not self._percent:
            elapsed = time.monotonic() - self._began
            for name, before in self._used_s.items():
                used = self._used(name) - before if self.cluster.is_up(name) else 0.0
                self._percent[name] = round(100 * used / elapsed)

    @property
    def percent(self) -> dict[str, int]:
        """What was used, in percent of one core."""
        return self._percent

    def _used(self, name: str) -> float:
        times = psutil.Process(self.cluster.pid(name)).cpu_times()
        return float(times.user + times.system)


@dataclass(slots=True)
class Disk:
    """How long the machine's disk takes for a sync that no node asks for. An attack may keep the machine busy."""

    file: Path
    longest_ms: float = 0.0
    stalls: int = 0
    """How often a sync took STALL_MS. A leader hands leadership on when a write takes 2 s (`disk_stall_ms`)."""
    _began_s: float | None = None

    async def run(self) -> None:
        """Write and sync until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self._sync)
            finally:  # also of a sync that has not ended when the attack has
                self._note()
            await asyncio.sleep(SAMPLE_S)

    def _sync(self) -> None:
        with self.file.open("wb") as file:
            file.write(bytes(4096))
            file.flush()
            self._began_s = time.monotonic()  # here: the thread may have waited for a processor before
            os.fsync(file.fileno())
            self._note()

    def _note(self) -> None:
        """Count the sync that has ended, or that has not ended with the attack."""
        began_s, self._began_s = self._began_s, None
        if began_s is not None:
            took_ms = (time.monotonic() - began_s) * 1000
            self.longest_ms = max(self.longest_ms, round(took_ms, 1))
            self.stalls += took_ms >= STALL_MS


@dataclass(frozen=True, slots=True)
class Measures:
    """All that is measured."""

    innocent: Innocent
    memory: Memory
    load: Load
    disk: Disk


async def term_of(cluster: LocalCluster) -> int:
    """The newest term: each election makes a new one."""
    return max(view.term for view in await cluster.views())
