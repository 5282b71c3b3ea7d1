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
from tests.abuse.measure import Innocent, Memory, term_of
from tests.cluster.raw import Person, raw_client

SESSIONS = 12
READY_S = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attack cost."""

    attack: str
    item: int
    seconds: float
    rss_start_mib: dict[str, int]
    rss_most_mib: dict[str, int]
    innocent: dict[str, Any]
    elections: int
    attacker: dict[str, int]
    bounds: dict[str, int]
    exceeded: list[str]


async def run_attack(
    attack: Attack, root: Path, seconds: float, settings: Mapping[str, int] = MappingProxyType({})
) -> Outcome:
    """Start a cluster, attack it for so long, and measure."""
    # The cheapest hash outside --insecure; the innocent client speaks to a follower, so that all nodes are in its way.
    async with LocalCluster(root, settings={"bcrypt_cost": 10, **settings}) as cluster:
        leader = await cluster.wait_for_leader()
        node = cluster.others(leader)[0]
        async with raw_client(cluster, node) as raw:
            for name in ("innocent", "mallory"):
                await raw.register(name)
            person = await raw.log_in("innocent")
            sessions = [await raw.log_in("mallory") for _ in range(SESSIONS)]
        innocent, memory = Innocent(cluster, node, person), Memory(cluster)
        async with attacker(cluster, attack, sessions) as process:
            term = await term_of(cluster)
            memory.sample()
            async with going_on(innocent.run(), memory.run()):
                start(process)
                await asyncio.sleep(seconds)
            counts = await end(process)
        elections = await term_of(cluster) - term
    return judge(attack, seconds, innocent, memory, elections=elections, counts=counts)


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
async def attacker(cluster: LocalCluster, attack: Attack, sessions: list[Person]) -> AsyncIterator[Process]:
    """The attacker's process, prepared and waiting."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.abuse.attacker", attack.name, cwd=ROOT, stdin=PIPE, stdout=PIPE
    )
    stage = {
        "addresses": cluster.hosts,
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
    attack: Attack, seconds: float, innocent: Innocent, memory: Memory, *, elections: int, counts: dict[str, int]
) -> Outcome:
    """Compare what was measured with the attack's bounds."""
    bounds = attack.bounds
    measured = {
        "requests": len(innocent.waits_ms),
        "p50_ms": innocent.wait_ms(0.5),
        "p99_ms": innocent.wait_ms(0.99),
        "longest_ms": innocent.wait_ms(1.0),
        "errors": innocent.errors[:10],
    }

    def exceeded() -> Iterator[str]:
        if memory.growth_mib > bounds.rss_mib:
            yield f"a node grew by {memory.growth_mib} MiB, above {bounds.rss_mib}"
        if not innocent.waits_ms:
            yield "the innocent client had no answer at all"
        if innocent.wait_ms(0.99) > bounds.p99_ms:
            yield f"the innocent client's p99 was {innocent.wait_ms(0.99)} ms, above {bounds.p99_ms}"
        if len(innocent.errors) > bounds.errors:
            yield f"the innocent client had {len(innocent.errors)} errors, above {bounds.errors}"
        if elections > bounds.elections:
            yield f"there were {elections} elections, above {bounds.elections}"

    return Outcome(
        attack=attack.name,
        item=attack.item,
        seconds=seconds,
        rss_start_mib=memory.start_mib,
        rss_most_mib=memory.most_mib,
        innocent=measured,
        elections=elections,
        attacker=counts,
        bounds=asdict(bounds),
        exceeded=list(exceeded()),
    )
