"""The row about presence: how long the nodes show somebody wrongly. One run is each fault once.

A watcher asks every node for the connected accounts, without a pause. A figure is the time from the fault until the
last of the nodes that can know it shows what is right.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence

from scripts.bench.figures import Figures
from scripts.bench.raw_client import RawSession
from scripts.bench.rig import Rig
from scripts.bench.scale import Scale

LIMIT_S = 30.0


class Watcher:
    """A session on each node."""

    def __init__(self, sessions: Mapping[str, RawSession]) -> None:
        self._sessions = sessions

    async def until(self, account: str, nodes: Sequence[str], *, is_shown: bool) -> float:
        """Return how many milliseconds it takes until all of these nodes show an account, or no longer do."""
        began_s = time.monotonic()

        async def until(node: str) -> None:
            while (account in await self._sessions[node].connected()) is not is_shown:
                pass  # each look is a call, which gives way

        async with asyncio.timeout(LIMIT_S):
            await asyncio.gather(*map(until, nodes))
        return (time.monotonic() - began_s) * 1000

    async def close(self) -> None:
        """End the sessions' connections."""
        await asyncio.gather(*(session.close() for session in self._sessions.values()))


async def measure_presence(rig: Rig, scale: Scale) -> Figures:
    """Measure a client that comes, one that is killed, and clients whose node is killed, hangs, or hears no other."""
    cluster, node = rig.cluster, rig.follower
    others = cluster.others(node)
    killed, other = (f"seen{number}.{secrets.token_hex(4)}" for number in (1, 2))
    watcher = Watcher(await rig.raw_sessions(f"watcher.{secrets.token_hex(4)}"))
    try:
        receiver = await rig.raw_receiver(killed)
        await receiver.open()
        figures = {"client_came_ms": await watcher.until(killed, cluster.names, is_shown=True)}
        await receiver.process.kill()
        figures["client_killed_ms"] = await watcher.until(killed, cluster.names, is_shown=False)

        await (await rig.raw_receiver(other)).open()
        await watcher.until(other, cluster.names, is_shown=True)
        cluster.pause(node)
        figures["node_silent_ms"] = await watcher.until(other, others, is_shown=False)
        cluster.resume(node)
        await watcher.until(other, others, is_shown=True)

        # The smaller part of a partition: a node that hears no other one shows its own clients only.
        alone = others[0]
        paused = cluster.others(alone)
        for each in paused:
            cluster.pause(each)
        figures["others_silent_ms"] = await watcher.until(other, [alone], is_shown=False)
        for each in paused:
            cluster.resume(each)
        await watcher.until(other, others, is_shown=True)

        cluster.kill(node)
        figures["node_killed_ms"] = await watcher.until(other, others, is_shown=False)
        cluster.start(node)
        await cluster.wait_until_answering(*cluster.names)
    finally:
        await watcher.close()
    return figures
