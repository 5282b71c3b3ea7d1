"""Nodes that are slow and not dead: one whose process is stopped most of the time, and one whose disk hangs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from scripts.cluster_local import LocalCluster

STOPPED_S, RUNS_S = 0.4, 0.04
SLOW_DISK = """
import sys, time
from pathlib import Path
from parleyd.storage.raft_storage import RaftStorage
append, hangs = RaftStorage.append, Path(sys.argv.pop(1))
def slow(self, writes):
    while hangs.exists():
        time.sleep(0.02)
    append(self, writes)
RaftStorage.append = slow
from parleyd.__main__ import main
main()
"""


@contextlib.asynccontextmanager
async def stopping_and_going(cluster: LocalCluster, name: str) -> AsyncIterator[None]:
    """Let a process run only a tenth of the time while inside."""

    async def pulse() -> None:
        while True:
            cluster.pause(name)
            await asyncio.sleep(STOPPED_S)
            cluster.resume(name)
            await asyncio.sleep(RUNS_S)

    pulses = asyncio.ensure_future(pulse())
    try:
        yield
    finally:
        pulses.cancel()
        await asyncio.gather(pulses, return_exceptions=True)
        cluster.resume(name)
