"""Runs one attack against a fresh cluster, and says which of its bounds were exceeded."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from scripts.cluster_local import LocalCluster
from scripts.cluster_process import ROOT
from tests.abuse.attack import Attack
from tests.abuse.measure import Disk, Innocent, Load, Measures, Memory, term_of
from tests.abuse.scenes import Scene
from tests.cluster.raw import Person, raw_client

SESSIONS = 12
READY_S = 60.0
SYNCS_OF_A_SEND = 2
"""A send waits for the sync that runs when it comes, and for its own. What the disk takes is not the nodes' doing."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attack cost."""

    attack: str
    item: int
    seconds: float
    rss_start_mib: dict[str, int]
    rss_most_mib: dict[str, int]
    cpu_percent: dict[str, int]
    innocent: dict[str, Any]
    elections: int
    attacker: dict[str, int]
    figures: dict[str, float]
    bounds: dict[str, int | bool | None]
    exceeded: list[str]


async def run_attack(
    attack: Attack, root: Path, seconds: float, settings: Mapping[str, int] = MappingProxyType({})
) -> Outcome:
    """Start a cluster, attack it for so long, and measure."""
    # The cheapest hash outside --insecure.
    cluster = LocalCluster(root, settings={"bcrypt_cost": 10, **attack.scene.settings, **settings}, start=False)
    scene = attack.scene(cluster)
    async with cluster, scene.laid_out():
        cluster.start(*cluster.names)
        node, attacked = await scene.place()
        async with raw_client(cluster, node) as raw:
            for name in ("innocent", "mallory", "leaver"):
                await raw.register(name)
            person = await raw.log_in("innocent")
            sessions = [await raw.log_in("mallory") for _ in range(SESSIONS)]
        measures = Measures(Innocent(cluster, node, person), Memory(cluster), Load(cluster), Disk(root / "disk-probe"))
        async with attacker(cluster, attack, attacked, sessions) as process:
            await scene.begin()
            term = await term_of(cluster)
            measures.memory.sample()
            async with going_on(measures.innocent.run(), measures.memory.run(), measures.disk.run()):
                measures.load.begin()
                start(process)
                await scene.go_on(seconds, measures)
                measures.load.end()
            counts = await end(process)
        elections = await term_of(cluster) - term
        await scene.end(counts)
    return judge(attack, seconds, measures, scene, attacked, elections=elections, counts=counts)


@contextlib.asynccontextmanager
async def going_on(*work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Have these run while inside; an error of one of them is raised at the end."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


@contextlib.asynccontextmanager
async def attacker(
    cluster: LocalCluster, attack: Attack, attacked: list[str], sessions: list[Person]
) -> AsyncIterator[Process]:
    """The attacker's process, prepared and waiting."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.abuse.attacker", attack.name, cwd=ROOT, stdin=PIPE, stdout=PIPE
    )
    stage = {
        "addresses": [cluster.address(name) for name in attacked],
        "ca_pem": base64.b64encode(cluster.ca_file.read_bytes()).decode(),
        "name": "mallory",
        "victim": "innocent",
        "tokens": [session.token for session in sessions],
    }
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(stage).encode() + b"\n")
        async with asyncio.timeout(READY_S):
            assert await process.stdout.readline() == b"ready\n", "the attacker is not ready"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def start(process: Process) -> None:
    """Have the attacker begin."""
    assert process.stdin is not None
    process.stdin.write(b"\n")


async def end(process: Process) -> dict[str, int]:
    """End the attack; what became of the attacker's calls."""
    assert process.stdout is not None
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(30):
        counts: dict[str, int] = json.loads(await process.stdout.readline())
    return counts


def judge(
    attack: Attack,
    seconds: float,
    measures: Measures,
    scene: Scene,
    attacked: list[str],
    *,
    elections: int,
    counts: dict[str, int],
) -> Outcome:
    """Compare what was measured with the attack's bounds."""
    bounds, innocent, memory = attack.bounds, measures.innocent, measures.memory
    cpu = measures.load.percent
    most_ms = bounds.p99_ms + SYNCS_OF_A_SEND * measures.disk.longest_ms
    measured = {
        "requests": len(innocent.waits_ms),
        "p50_ms": innocent.wait_ms(0.5),
        "p99_ms": innocent.wait_ms(0.99),
        "longest_ms": innocent.wait_ms(1.0),
        "refused": innocent.refused,
        "errors": innocent.errors[:10],
        "disk_sync_longest_ms": measures.disk.longest_ms,
        "disk_stalls": measures.disk.stalls,
    }

    def exceeded() -> Iterator[str]:
        if memory.growth_mib > bounds.rss_mib:
            yield f"a node grew by {memory.growth_mib} MiB, above {bounds.rss_mib}"
        if not innocent.waits_ms:
            yield "the innocent client had no answer at all"
        if innocent.wait_ms(0.99) > most_ms:
            yield f"the innocent client's p99 was {innocent.wait_ms(0.99)} ms, above {most_ms:.0f}"
        if len(innocent.errors) > bounds.errors:
            yield f"the innocent client had {len(innocent.errors)} errors, above {bounds.errors}"
        # By design, a leader hands leadership on when the disk stands still.
        if elections > (most := bounds.elections + measures.disk.stalls):
            slow = f" (a sync of the disk took up to {measures.disk.longest_ms} ms)"
            yield f"there were {elections} elections, above {most}{slow}"
        if innocent.refused and not bounds.may_refuse:
            yield f"the innocent client was refused {innocent.refused} times"
        for name in attacked:
            if bounds.cpu_percent is not None and cpu.get(name, 0) > bounds.cpu_percent:
                yield f"{name} used {cpu[name]} % of a core, above {bounds.cpu_percent}"
        yield from scene.findings

    return Outcome(
        attack=attack.name,
        item=attack.item,
        seconds=seconds,
        rss_start_mib=memory.start_mib,
        rss_most_mib=memory.most_mib,
        cpu_percent=cpu,
        innocent=measured,
        elections=elections,
        attacker=counts,
        figures=scene.figures,
        bounds=asdict(bounds),
        exceeded=list(exceeded()),
    )
