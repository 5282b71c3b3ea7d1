"""A node whose clock is wrong: sessions stay valid, the node hands leadership over, and people learn of it.

The nodes are real processes. They believe a file about whether their clocks are ten years ahead.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest_asyncio
from grpc_health.v1 import health_pb2

from parley_proto.v1 import accounts_pb2
from parley_proto.v1.messaging_pb2 import SEND_STATUS_ACCEPTED, SEND_STATUS_RETRY
from parleyd.group.cluster_time import CLOCK_LEVEL
from scripts.cluster_local import LocalCluster
from scripts.cluster_status import secure_channel
from tests.cluster.conftest import FAST
from tests.cluster.raw import health_stub, raw_client, until_true

TEN_YEARS_S = 315_576_000
TEN_MINUTES_MS = 600_000

PROGRAM = f"""
import sys, time
from pathlib import Path
jumped = Path(sys.argv.pop(1))
time_ns = time.time_ns
time.time_ns = lambda: time_ns() + ({TEN_YEARS_S} * 10**9 if jumped.exists() else 0)
time.time = lambda: time.time_ns() / 1e9
from parleyd.__main__ import main
main()
"""


class Clocks:
    """What the nodes believe about the time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def file(self, name: str) -> Path:
        return self._folder / f"{name}.jumped"

    def jump_ahead(self, name: str) -> None:
        self.file(name).touch()

    def set_right(self, name: str) -> None:
        self.file(name).unlink()


@pytest_asyncio.fixture
async def clocks(tmp_path: Path) -> Clocks:
    return Clocks(tmp_path)


@pytest_asyncio.fixture
async def skewed(tmp_path: Path, clocks: Clocks) -> AsyncIterator[LocalCluster]:
    async with LocalCluster(tmp_path, settings=FAST, start=False) as cluster:
        for name in cluster.names:
            cluster.run_with(("-c", PROGRAM, str(clocks.file(name))), name)
        cluster.start(*cluster.names)
        await cluster.wait_for_leader()
        await until_true(partial(clocks_count, cluster))
        yield cluster


async def clocks_count(cluster: LocalCluster) -> None:
    for name in cluster.names:
        status = await cluster.status(name)
        assert status is not None
        assert status.level >= CLOCK_LEVEL


async def last_index_of(cluster: LocalCluster, name: str) -> int:
    status = await cluster.status(name)
    return 0 if status is None else status.last_index


async def has_proposed(cluster: LocalCluster, name: str, last_index: int) -> None:
    """It has proposed, or leads no more, because the machine was too slow for what this test wants."""
    status = await cluster.status(name)
    assert status is not None
    assert status.last_index > last_index or status.role != "leader"


async def health_says(cluster: LocalCluster, name: str, *, is_right: bool) -> None:
    """The health service of a node says this of the clocks."""
    async with secure_channel(cluster.address(name), cluster.ca_file.read_bytes()) as channel:
        answer = await health_stub(channel).Check(health_pb2.HealthCheckRequest(service="parley.clock"))
        assert (answer.status == health_pb2.HealthCheckResponse.SERVING) is is_right


async def test_a_leader_whose_clock_jumps_ahead_hands_over_and_no_session_expires(
    skewed: LocalCluster, clocks: Clocks
) -> None:
    leader = await skewed.wait_for_leader()
    async with raw_client(skewed, leader) as raw:
        await raw.register("ann")
        ann = await raw.log_in("ann")
        async with raw.session(ann) as stream:
            # The leader must propose before the others' next reports make it hand over.
            followers = skewed.others(leader)
            for name in followers:
                skewed.pause(name)
            last_index = await last_index_of(skewed, leader)
            clocks.jump_ahead(leader)
            await stream.send((1, "ann", "stamped by the wrong clock"))
            await until_true(partial(has_proposed, skewed, leader, last_index))
            for name in followers:
                skewed.resume(name)
            [result] = await stream.results(1)
            if result.status == SEND_STATUS_RETRY:  # what became of it was not known in time
                result = await stream.send_surely(1, "ann", "stamped by the wrong clock")
            assert result.status == SEND_STATUS_ACCEPTED
        heir = await skewed.wait_for_leader(other_than=leader)
        later = await raw.log_in("ann")
    for name in skewed.names:
        async with raw_client(skewed, name) as raw:
            for session in (ann, later):
                assert await raw.accounts.ListAccounts(accounts_pb2.ListAccountsRequest(), metadata=session.metadata)
        status = await skewed.status(name)
        assert status is not None
        assert abs(status.cluster_time_ms - time.time() * 1000) < TEN_MINUTES_MS, "the time of the cluster is right"

    await skewed.wait_until(lambda: "clocks_differed" in skewed.log_text(heir), "the leader to report the clock")
    status = await skewed.status(heir)
    assert status is not None
    assert f"the clock of {leader} is 31557" in status.clock, "ten years, as exactly as a report travels"
    await until_true(partial(health_says, skewed, heir, is_right=False))
    clocks.set_right(leader)
    await skewed.wait_until(lambda: "clocks_agreed" in skewed.log_text(heir), "the leader to see it set right")
    await until_true(partial(health_says, skewed, heir, is_right=True))
