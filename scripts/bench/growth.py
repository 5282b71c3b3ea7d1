"""Rows about size: many accounts, many connections, and a copy of the state to a node that was away."""

from __future__ import annotations

import time
from dataclasses import dataclass

from scripts.bench.figures import Figures
from scripts.bench.footprint import measure_speed, memory_mib
from scripts.bench.rig import Rig
from scripts.bench.scale import Scale
from scripts.bench.workloads import Throughput, drain, send_flat_out
from scripts.cluster_layout import Settings

SNAPSHOT_SETTINGS: Settings = {"log_retain_entries": 100}
"""The least: a node that was away for a moment gets a copy of the state, and not the log."""
_ENTRIES = 200
_SENDS_PER_CONNECTION = 2
_SNAPSHOT_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Accounts:
    """The import of so many accounts, and memory and speed with them."""

    accounts: int

    async def measure(self, rig: Rig, scale: Scale) -> Figures:
        """Import the accounts once and measure the cluster."""
        await rig.create_accounts(["first"])  # logs the administrator in
        meter, began_s = await rig.meter(), time.monotonic()
        await rig.create_accounts([f"u{number}x" for number in range(self.accounts)])
        imported = {"imported_per_s": self.accounts / (time.monotonic() - began_s)}
        imported |= {"import_cpu_s_per_1000": (await meter.figures(self.accounts))["server_cpu_s_per_1000"]}
        return imported | memory_mib(rig) | await measure_speed(rig, scale)


@dataclass(frozen=True, slots=True)
class Connections:
    """So many connections to all nodes in turn, each waits for its result before the next send."""

    connections: int

    async def measure(self, rig: Rig, scale: Scale) -> Figures:
        """Connect all, then measure one run. The receiver audits all messages."""
        await rig.crowd(self.connections)
        memory = memory_mib(rig)
        work = Throughput(self.connections, 1, max(1.0, _SENDS_PER_CONNECTION * self.connections / scale.sends))
        return memory | await work.measure(rig, scale)


async def measure_snapshot(rig: Rig, scale: Scale) -> Figures:
    """Store messages while a follower is away. Start it, and measure until its state is equal again."""
    cluster = rig.cluster
    leader = await cluster.wait_for_leader()
    away = cluster.others(leader)[-1]
    await cluster.stop(away)
    sender, receiver = await rig.raw_sender(), await rig.raw_receiver()
    await send_flat_out(rig, [sender], scale.queued, 256)
    await send_flat_out(rig, [sender], _ENTRIES, 1)  # however few entries the others shared
    await drain(rig, receiver)
    mark = len(cluster.log_text(away))
    began_s = time.monotonic()
    cluster.start(away)
    await cluster.wait_until_equal(timeout_s=_SNAPSHOT_TIMEOUT_S)
    took_s = time.monotonic() - began_s
    if "snapshot_installed" not in cluster.log_text(away)[mark:]:
        raise RuntimeError(f"{away} caught up from the log, so no snapshot was measured")
    state = cluster.layout.data_dir(leader) / "state.sqlite"
    return {"snapshot_s": took_s, "state_mib": state.stat().st_size / 2**20}
