"""Rows about what a cluster needs: time to start, memory, stored messages, nodes, and CPU when idle."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass

import psutil

from scripts.bench.figures import Figures
from scripts.bench.rig import Rig
from scripts.bench.scale import Scale
from scripts.bench.workloads import Throughput, drain, send_flat_out

FILL_STEP = 50_000
_LONE, _MANY = Throughput(1, 1, 0.03), Throughput(1, 256)


async def measure_start(_: Rig, scale: Scale) -> Figures:
    """Start a new cluster until a majority follows a leader that serves. Restart a node until it serves."""
    async with Rig.started() as rig:
        cluster, name = rig.cluster, rig.cluster.names[0]
        await cluster.stop(name)
        began_s = time.monotonic()
        cluster.start(name)
        await cluster.wait_until_answering(name)
        return {"cluster_start_s": rig.start_s, "node_start_s": time.monotonic() - began_s}


@dataclass(frozen=True, slots=True)
class Stored:
    """Memory, and speed of sends, after a number of stored messages."""

    messages: int

    async def measure(self, rig: Rig, scale: Scale) -> Figures:
        """Fill the cluster once and measure it. The receiver drains its queue as it fills."""
        if self.messages:
            sender, receiver = await rig.raw_sender(), await rig.raw_receiver()
            for first in range(0, self.messages, FILL_STEP):
                await send_flat_out(rig, [sender], min(FILL_STEP, self.messages - first), 256)
                await drain(rig, receiver)
        memory = memory_mib(rig)
        return memory | await measure_speed(rig, scale)


async def measure_speed(rig: Rig, scale: Scale) -> Figures:
    """Measure a lone message, and throughput with 256 in flight."""
    lone = await _LONE.measure(rig, scale)
    many = await _MANY.measure(rig, scale)
    return {"lone_p50_ms": lone["p50_ms"], "per_s": many["per_s"]}


@dataclass(frozen=True, slots=True)
class Idle:
    """CPU of all nodes while nobody sends."""

    with_clients: bool

    async def measure(self, rig: Rig, scale: Scale) -> Figures:
        """Measure one run."""
        clients = scale.idle_clients if self.with_clients else 0
        if clients:
            await rig.crowd(clients)
        meter = await rig.meter()
        await asyncio.sleep(scale.idle_s)
        used = await meter.used()
        return {"clients": clients, "node_cores": used.nodes_s / used.at_s}


def memory_mib(rig: Rig) -> Figures:
    """Return the mean over the nodes of resident and, where the system knows it, proportional memory."""
    infos = [psutil.Process(rig.cluster.pid(name)).memory_full_info() for name in rig.cluster.names]
    figures = {"rss_mib": statistics.mean(info.rss for info in infos) / 2**20}
    if all(hasattr(info, "pss") for info in infos):
        figures["pss_mib"] = statistics.mean(info.pss for info in infos) / 2**20
    return figures
