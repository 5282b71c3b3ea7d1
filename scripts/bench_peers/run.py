"""Measures Parley and then each peer. A peer that cannot be started is left out, with the reason."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from scripts.bench.figures import Figures
from scripts.bench.process import ClientError, first_line
from scripts.bench.rows import choose
from scripts.bench.runner import Runner
from scripts.bench.scale import Scale
from scripts.bench_peers.peer import Peer, PeerFailedError
from scripts.bench_peers.servers import Servers
from scripts.bench_peers.workloads import ROWS, PeerRig, runs_of

PARLEY = "parley"
PARLEY_DURABILITY = "fsync on a majority before the acknowledgement"
Say = Callable[[str], None]


@dataclass(slots=True)
class System:
    """The figures of one system: the runs of each row. `failed`: rows without them. `missing`: why it has none."""

    name: str
    durability: str
    version: str = ""
    remarks: Sequence[str] = ()
    runs: dict[str, list[Figures]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    missing: str = ""


async def measure_parley(rows: Sequence[str], scale: Scale, say: Say, version: str) -> System:
    """Measure the rows of `make bench`."""
    found = System(PARLEY, PARLEY_DURABILITY, version, ("TLS", "every message arrived once and in order"))
    for measured in await Runner(scale, say).measure(choose(rows, full=False)):
        if measured.failed:
            found.failed[measured.row.name] = measured.failed
        else:
            found.runs[measured.row.name] = measured.runs
    return found


async def measure_peer(kind: type[Peer], rows: Sequence[str], scale: Scale, say: Say) -> System:
    """Measure a peer, with servers that live as long as this takes."""
    peer = kind()
    found = System(peer.name, peer.durability, remarks=peer.remarks)
    try:
        with tempfile.TemporaryDirectory(prefix=f"bench-{peer.name}-") as folder:
            async with Servers.started(peer, Path(folder)) as servers, AsyncExitStack() as stack:
                found.version = await peer.version()
                rig = await PeerRig.of(servers, stack)
                for name in rows:
                    await _measure_row(rig, name, scale, found)
                    say(f"{peer.name} {name}: {found.failed.get(name) or 'done'}")
    except PeerFailedError as error:
        found.missing = str(error)
        say(f"{peer.name}: left out. {error}")
    return found


async def _measure_row(rig: PeerRig, name: str, scale: Scale, found: System) -> None:
    try:
        runs = [await ROWS[name](rig, scale) for _ in range(runs_of(name, scale))]
    except (ClientError, OSError, RuntimeError, ExceptionGroup) as error:
        found.failed[name] = first_line(error)
    else:
        found.runs[name] = runs
