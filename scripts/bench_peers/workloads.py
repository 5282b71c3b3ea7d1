"""The rows, by their names in `make bench`. Each run has a queue of its own, and a receiver counts all messages."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from scripts.bench.faults import AFTER_S, BEFORE_S, RATE_PER_S
from scripts.bench.figures import Figures, percentiles
from scripts.bench.process import ClientProcess, Reply, span_s
from scripts.bench.rig import CROWD_PROCESSES, Meter
from scripts.bench.rows import RAW
from scripts.bench.scale import Scale
from scripts.bench.workloads import PACE_PER_S
from scripts.bench_peers.servers import Servers
from scripts.demo_ledger import longest_pauses_ms

CLIENT = "scripts.bench_peers.client"
FILL_IN_FLIGHT = 256


class PeerRig:
    """The servers of a peer and its client processes."""

    def __init__(self, servers: Servers, clients: Sequence[ClientProcess]) -> None:
        self.servers = servers
        self.senders = clients[:-1]
        self.receiver = clients[-1]
        self._queues = itertools.count(1)

    @classmethod
    async def of(cls, servers: Servers, stack: AsyncExitStack) -> PeerRig:
        """Start the client processes, which end with the stack."""
        clients = []
        for _ in range(CROWD_PROCESSES + 1):
            clients.append(await ClientProcess.start(CLIENT, servers.peer.name))
            stack.push_async_callback(clients[-1].end)
        return cls(servers, clients)

    async def queue(self) -> tuple[str, int]:
        """Make a queue. Return its name and the place of its leader."""
        queue = f"q{next(self._queues)}"
        await self.servers.create_queue(queue)
        return queue, await self.servers.peer.leader(self.servers.addresses, queue)

    def address(self, place: int) -> str:
        """Return the address of a server, counted round."""
        return self.servers.addresses[place % len(self.servers.addresses)]

    async def connect(self, queue: str, places: Sequence[tuple[str, str]], *, repeats: bool = False) -> None:
        """Connect senders at (address, name), split over the processes."""
        for part, process in enumerate(self.senders):
            some = places[part :: len(self.senders)]
            await process.call("connect_senders", queue=queue, places=some, repeats=repeats)

    async def open(self, queue: str, leader: int, *, drain: bool) -> Reply:
        """Begin to receive, at a server that does not lead."""
        return await self.receiver.call("open", address=self.address(leader + 1), queue=queue, drain=drain)

    async def arrived(self) -> Reply:
        """Wait until all that was accepted has arrived."""
        sent: dict[str, int] = {}
        for process in self.senders:
            sent |= (await process.call("accepted")).value
        return await self.receiver.call("wait_for", sent=sent)

    async def meter(self) -> Meter:
        """Begin to measure CPU time."""
        return await Meter.begin(self.servers.processes(), [*self.senders, self.receiver])


@dataclass(frozen=True, slots=True)
class Raw:
    """Sends to an absent receiver, who takes them afterwards."""

    devices: int
    in_flight: int
    share: float

    async def measure(self, rig: PeerRig, scale: Scale) -> Figures:
        """Measure one run."""
        queue, leader = await rig.queue()
        await rig.connect(queue, [(rig.address(leader + number), f"c{number}") for number in range(self.devices)])
        figures = await send_flat_out(rig, self.devices, max(1, int(scale.sends * self.share)), self.in_flight)
        await rig.open(queue, leader, drain=True)
        await rig.arrived()
        return figures


async def send_flat_out(rig: PeerRig, devices: int, count: int, in_flight: int) -> Figures:
    """Send as many messages from each device."""
    meter = await rig.meter()
    busy = rig.senders[: min(devices, len(rig.senders))]
    replies = await asyncio.gather(
        *(process.call("send", count=-(-count // devices), in_flight=in_flight) for process in busy)
    )
    took_ms = list(itertools.chain.from_iterable(reply.value for reply in replies))
    return {"per_s": len(took_ms) / span_s(replies)} | percentiles(took_ms) | await meter.figures(len(took_ms))


async def measure_end_to_end(rig: PeerRig, scale: Scale) -> Figures:
    """Send at an even pace to a receiver that listens."""
    queue, leader = await rig.queue()
    await rig.connect(queue, [(rig.address(leader), "paced")])
    await rig.open(queue, leader, drain=False)
    await asyncio.sleep(0.5)  # a consumer of a new queue is there a moment later
    count, meter = int(scale.paced_s * PACE_PER_S), await rig.meter()
    sent = await rig.senders[0].call("pace", count=count, rate_per_s=PACE_PER_S)
    arrived = (await rig.arrived()).value
    figures = await meter.figures(count)
    return {"per_s": count / (arrived["last_s"] - sent.began_s)} | percentiles(arrived["took_ms"]) | figures


async def measure_queue(rig: PeerRig, scale: Scale) -> Figures:
    """Fill a queue, then let it be drained."""
    queue, leader = await rig.queue()
    await rig.connect(queue, [(rig.address(leader), "filler")])
    filled = await send_flat_out(rig, 1, scale.queued, FILL_IN_FLIGHT)
    opened = await rig.open(queue, leader, drain=True)
    arrived = (await rig.arrived()).value
    drained_per_s = len(arrived["took_ms"]) / (arrived["last_s"] - opened.began_s)
    return {"filled_per_s": filled["per_s"], "drained_per_s": drained_per_s}


async def measure_kill(rig: PeerRig, scale: Scale) -> Figures:
    """Kill the leader under a sender that is connected to another server."""
    queue, leader = await rig.queue()
    await rig.connect(queue, [(rig.address(leader + 1), "paced")], repeats=True)
    async with asyncio.TaskGroup() as tasks:
        count = int(RATE_PER_S * (BEFORE_S + AFTER_S))
        pacing = tasks.create_task(rig.senders[0].call("pace", count=count, rate_per_s=RATE_PER_S))
        await asyncio.sleep(BEFORE_S)
        fault_s = time.monotonic()
        rig.servers.kill(leader)
        accepted_at_s = (await pacing).value
    rig.servers.start(leader)
    await rig.servers.create_queue(f"{queue}-after")
    await rig.open(queue, leader, drain=True)
    arrived = (await rig.arrived()).value
    pause_ms = longest_pauses_ms([fault_s], accepted_at_s, max(accepted_at_s))[0]
    return {"pause_ms": pause_ms, "arrived_twice": arrived["repeated"]}


Measure = Callable[[PeerRig, Scale], Awaitable[Figures]]

ROWS: dict[str, Measure] = {
    **{
        name: Raw(work.devices, work.in_flight, work.share).measure
        for name, (_, work) in RAW.items()
        if work.processes == 1
    },
    "end-to-end": measure_end_to_end,
    "queue": measure_queue,
    "leader-killed": measure_kill,
}
"""The rows that every system has, by the names of Parley's."""


def runs_of(name: str, scale: Scale) -> int:
    """Return how often a row is measured."""
    return scale.kills if name == "leader-killed" else scale.runs
