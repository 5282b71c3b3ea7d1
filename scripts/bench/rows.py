"""All that the bench measures, a row each, and the choice of rows for a run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from scripts.bench import faults, footprint, growth, workloads
from scripts.bench.fan_out import FanOut
from scripts.bench.figures import Figures
from scripts.bench.footprint import Idle, Stored
from scripts.bench.growth import Accounts, Connections
from scripts.bench.presence import measure_presence
from scripts.bench.rig import Rig
from scripts.bench.scale import Scale
from scripts.bench.workloads import EndToEnd, SdkThroughput, Throughput
from scripts.cluster_layout import Settings


class UnknownRowError(Exception):
    """No row has such a name. The text lists those that exist."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. `runs` returns how often it is repeated, each time with the same rig.

    Rows with `own_rig` disturb others or depend on what is stored: they get a cluster of `nodes` for themselves,
    with `settings` in the file of each node.
    """

    name: str
    text: str
    measure: Callable[[Rig, Scale], Awaitable[Figures]]
    runs: Callable[[Scale], int] = lambda scale: scale.runs
    own_rig: bool = False
    nodes: int = 3
    settings: Settings = field(default_factory=dict)
    only_full: bool = False


def once(_: Scale) -> int:
    """Return the number of runs of a row that takes long and differs little."""
    return 1


def some(scale: Scale) -> int:
    """Return the number of runs of a row that takes seconds."""
    return min(3, scale.runs)


RAW: dict[str, tuple[str, Throughput]] = {
    "raw-1": ("raw, 1 in flight", Throughput(1, 1, 0.1)),
    "raw-64": ("raw, 64 in flight", Throughput(1, 64)),
    "raw-256": ("raw, 256 in flight", Throughput(1, 256)),
    "raw-1024": ("raw, 1,024 in flight", Throughput(1, 1024)),
    "raw-2-processes": ("raw, 128 in flight from each of 2 processes", Throughput(1, 128, processes=2)),
    "raw-crowd": ("raw, 256 connections with 1 in flight", Throughput(256, 1, 0.5)),
}

ROWS: tuple[Row, ...] = (
    *(Row(name, text, work.measure) for name, (text, work) in RAW.items()),
    Row("raw-recipients", "raw, 256 in flight, to 10,000 accounts in turn", workloads.measure_recipients, once,
        own_rig=True, only_full=True),
    Row("sdk-1", "SDK, 1 in flight", SdkThroughput(1, 0.05).measure),
    Row("sdk-64", "SDK, 64 in flight", SdkThroughput(64, 0.5).measure),
    Row("sdk-256", "SDK, 256 in flight", SdkThroughput(256, 0.5).measure),
    Row("sdk-1024", "SDK, 1,024 in flight", SdkThroughput(1024).measure),
    Row("end-to-end", "raw, send to arrival at 1,000 per s", EndToEnd().measure, some),
    Row("end-to-end-sdk", "SDK, send to arrival at 1,000 per s", EndToEnd(sdk=True).measure, some),
    Row("end-to-end-flat", "raw, send to arrival, 256 in flight", EndToEnd(rate_per_s=None).measure),
    Row("queue", "raw, queue of an absent receiver", workloads.measure_queue, some),
    Row("leader-killed", "pause when the leader is killed", faults.measure_kill, lambda scale: scale.kills,
        own_rig=True),
    Row("leader-silent", "pause when the leader falls silent", faults.measure_silence, lambda scale: scale.silences,
        own_rig=True),
    Row("leader-transfer", "pause of a planned transfer", faults.measure_transfer, own_rig=True),
    Row("presence", "until all nodes show who came, went or died", measure_presence, some, own_rig=True),
    Row("start", "start of a cluster and of a node", footprint.measure_start, some, own_rig=True),
    Row("idle", "CPU without clients", Idle(with_clients=False).measure, once, own_rig=True),
    Row("idle-clients", "CPU with idle clients", Idle(with_clients=True).measure, once, own_rig=True),
    Row("stored-0", "nothing stored", Stored(0).measure, once, own_rig=True),
    Row("stored-10000", "10,000 messages stored", Stored(10_000).measure, once, own_rig=True),
    Row("stored-100000", "100,000 messages stored", Stored(100_000).measure, once, own_rig=True),
    Row("stored-1000000", "1,000,000 messages stored", Stored(1_000_000).measure, once, own_rig=True, only_full=True),
    Row("snapshot", "copy of the state to a node that was away", growth.measure_snapshot, once, own_rig=True,
        settings=growth.SNAPSHOT_SETTINGS),
    *(Row(f"accounts-{accounts}", f"{accounts:,} accounts", Accounts(accounts).measure, once, own_rig=True,
          only_full=accounts > 10_000) for accounts in (10, 1000, 100_000)),
    *(Row(f"connections-{connections}", f"{connections:,} connections with 1 in flight",
          Connections(connections).measure, once, own_rig=True, only_full=connections > 100)
      for connections in (1, 100, 1000, 5000)),
    *(Row(f"fan-out-{members}", f"5 messages per s to a channel of {members:,}, 200 of them connected",
          FanOut(members).measure, once, own_rig=True) for members in (201, 1000)),
    Row("fan-out-everyone", "5 messages per s to 10,000 accounts, 200 of them connected",
        FanOut(10_000, is_everyone=True).measure, once, own_rig=True),
    *(Row(f"nodes-{nodes}", f"a cluster of {nodes}", footprint.measure_speed, some, own_rig=True, nodes=nodes)
      for nodes in (1, 3, 5)),
)  # fmt: skip


def choose(only: Sequence[str], *, full: bool) -> list[Row]:
    """Return the rows of a run. A name takes that row, or all rows that begin with it, those of `--full`, too."""
    if not only:
        return [row for row in ROWS if full or not row.only_full]
    chosen: list[Row] = []
    for name in only:
        exact = [row for row in ROWS if row.name == name]
        found = exact or [row for row in ROWS if row.name.startswith(name)]
        if not found:
            raise UnknownRowError(f"There is no row {name!r}. The rows are: {', '.join(row.name for row in ROWS)}.")
        chosen += [row for row in found if row not in chosen]
    return chosen


def comparable() -> list[Row]:
    """Return the rows that run on a standing cluster, which pairs with another checkout need."""
    return [row for row in ROWS if not row.own_rig]
