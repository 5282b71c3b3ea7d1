"""Disks that run full: nobody dies, growth is refused with a text, the rest goes on, and it clears by itself.

The nodes believe a file about how much is free. Where a test may mount small disks, one fills them for real.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from parley_proto.v1.messaging_pb2 import SEND_STATUS_ACCEPTED
from scripts.cluster_local import LocalCluster
from scripts.cluster_process import ROOT
from tests.cluster import small_disks
from tests.cluster.conftest import FAST
from tests.cluster.raw import Raw, raw_client

MIB = 1 << 20
PLENTY, LOW, FULL = 100 * MIB, 7 * MIB, 3 * MIB
SETTINGS = {**FAST, "disk_reserve_bytes": 8 * MIB}

PROGRAM = """
import collections, shutil, sys
from pathlib import Path
usage = collections.namedtuple("usage", "total used free")
free = Path(sys.argv.pop(1))
shutil.disk_usage = lambda _: usage(0, 0, int(free.read_text()))
from parleyd.__main__ import main
main()
"""


class Disks:
    """What the nodes believe about their disks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def file(self, name: str) -> Path:
        return self._folder / f"{name}.free"

    def set(self, free: int, *names: str) -> None:
        for name in names:
            temporary = self.file(name).with_suffix(".new")
            temporary.write_text(str(free))
            temporary.replace(self.file(name))


@pytest_asyncio.fixture
async def disks(tmp_path: Path) -> Disks:
    return Disks(tmp_path)


@pytest_asyncio.fixture
async def small(tmp_path: Path, disks: Disks) -> AsyncIterator[LocalCluster]:
    cluster = LocalCluster(tmp_path, settings=SETTINGS, start=False)
    async with cluster:
        for name in cluster.names:
            disks.set(PLENTY, name)
            cluster.run_with(("-c", PROGRAM, str(disks.file(name))), name)
        cluster.start(*cluster.names)
        await cluster.wait_for_leader()
        yield cluster


def logged(cluster: LocalCluster, name: str, event: str) -> bool:
    return event in cluster.log_text(name)


async def refusal_of_registering(raw: Raw, name: str) -> grpc.aio.AioRpcError | None:
    try:
        await raw.register(name)
    except grpc.aio.AioRpcError as error:
        return error
    return None


async def test_growth_is_refused_while_no_majority_has_room_and_all_else_goes_on(
    small: LocalCluster, disks: Disks, fresh: Callable[[str], str]
) -> None:
    leader = await small.wait_for_leader()
    async with raw_client(small, small.others(leader)[0]) as raw:
        ann, ben = fresh("ann"), fresh("ben")
        for name in (ann, ben):
            await raw.register(name)
        token = await raw.log_in(ann)
        disks.set(LOW, *small.names)
        for name in small.names:
            await small.wait_until(partial(logged, small, name, "disk_space_ran_low"), f"{name} to say so")
        async with asyncio.timeout(20):
            while (refused := await refusal_of_registering(raw, fresh("new"))) is None:
                pass
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "no room" in (refused.details() or "")
        other = await raw.log_in(ben)
        async with raw.session(other) as session:
            await session.until_caught_up()
        disks.set(PLENTY, *small.names)
        async with asyncio.timeout(20):
            while await refusal_of_registering(raw, fresh("new")) is not None:
                pass
        async with raw.session(token) as session:
            assert (await session.send_surely(1, ben, "after")).status == SEND_STATUS_ACCEPTED
    assert all(small.is_up(name) for name in small.names)


async def test_a_full_leader_hands_over_appends_nothing_and_catches_up_when_there_is_room(
    small: LocalCluster, disks: Disks, fresh: Callable[[str], str]
) -> None:
    full = await small.wait_for_leader()
    disks.set(FULL, full)
    await small.wait_until(partial(logged, small, full, "disk_space_ran_out"), "the node to say so")
    leader = await small.wait_for_leader(other_than=full)
    async with raw_client(small, leader) as raw:
        for _ in range(3):
            await raw.register(fresh("ann"))
    status = await small.status(full)
    other = await small.status(leader)
    assert status is not None
    assert other is not None
    assert status.last_index < other.last_index
    assert not status.serving
    assert "disk_reserve_bytes" in status.disk
    disks.set(PLENTY, full)
    await small.wait_until_equal()
    assert all(small.is_up(name) for name in small.names)


@pytest.mark.skipif(small_disks.namespace() is None, reason="needs the right to mount")
def test_one_member_who_fills_the_disks_of_all_ends_no_node(tmp_path: Path) -> None:
    """All nodes exited within 2.4 s."""
    ended = subprocess.run(
        [*(small_disks.namespace() or ()), sys.executable, "-m", "tests.cluster.small_disks", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
