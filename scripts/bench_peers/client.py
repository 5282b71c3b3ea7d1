"""The client process for peers: `python -m scripts.bench_peers.client`, driven as `scripts.bench.client` is."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from scripts.bench.process import serve_calls
from scripts.bench_peers.arrivals import Arrivals
from scripts.bench_peers.peer import Peer, Receiver
from scripts.bench_peers.peers import PEERS
from scripts.bench_peers.sending import PeerSender

CONNECTS_AT_ONCE = 16


class Client:
    """The methods that the workloads call by name."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._senders: dict[str, PeerSender] = {}
        self._arrivals = Arrivals()
        self._receiver: Receiver | None = None
        self._reading: asyncio.Task[None] | None = None

    async def connect_senders(self, queue: str, places: Sequence[tuple[str, str]], repeats: bool = False) -> None:
        """Connect senders at (address, name) in place of those before."""
        for sender in self._senders.values():
            await sender.close()
        self._senders = {}

        async def connect(address: str, name: str) -> None:
            sender = await self._peer.sender(address, queue, name, repeats=repeats)
            self._senders[name] = PeerSender(name, sender)

        for first in range(0, len(places), CONNECTS_AT_ONCE):
            await asyncio.gather(*(connect(*place) for place in places[first : first + CONNECTS_AT_ONCE]))

    async def send(self, count: int, in_flight: int) -> list[float]:
        """Send `count` messages from each sender. Return the milliseconds until each was accepted."""
        took_ms = await asyncio.gather(*(sender.send(count, in_flight) for sender in self._senders.values()))
        return list(itertools.chain.from_iterable(took_ms))

    async def pace(self, count: int, rate_per_s: float) -> list[float]:
        """Send from the only sender at an even pace. Return the times of acceptance."""
        [sender] = self._senders.values()
        return await sender.pace(count, rate_per_s)

    async def accepted(self) -> dict[str, int]:
        """Return the number of accepted messages of each sender."""
        return dict(Counter({name: sender.accepted for name, sender in self._senders.items()}))

    async def open(self, address: str, queue: str, drain: bool) -> None:
        """Begin to receive from a queue, in place of the one before."""
        await self.close()
        self._arrivals = Arrivals()
        self._receiver = await self._peer.receiver(address, queue)
        self._reading = asyncio.create_task(self._receiver.run(self._arrivals.note, drain=drain))

    async def wait_for(self, sent: dict[str, int]) -> dict[str, Any]:
        """Wait for accepted messages. Return when they came, how long each took, and how many came twice."""
        assert self._reading is not None
        arrivals = self._arrivals
        await arrivals.wait_for(sent, self._reading)
        return {
            "took_ms": arrivals.took_ms,
            "last_s": arrivals.last_ns / 1e9,
            "repeated": arrivals.repeated,
        }

    async def close(self) -> None:
        """Receive no more."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        if self._receiver is not None:
            await self._receiver.close()

    async def cpu_s(self) -> float:
        """Return the CPU time that this process has used."""
        return time.process_time()


if __name__ == "__main__":
    asyncio.run(serve_calls(Client(next(peer for peer in PEERS if peer.name == sys.argv[1])())))
