"""Small disks of their own for the nodes of a real cluster: memory file systems, which a few messages fill.

It needs the right to mount, which `namespace()` gives a process of its own where the system allows it.

`python -m tests.cluster.small_disks FOLDER`: one member fills the small disks of three real nodes. It ends with 0 if no
node died, growth was refused, and the cluster went on by itself after the disks had grown.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shutil
import subprocess
import sys
from pathlib import Path

import grpc

from parley_proto.v1.messaging_pb2 import SEND_STATUS_ACCEPTED, SEND_STATUS_NO_ROOM, SendResult
from scripts.cluster_local import LocalCluster
from tests.cluster.conftest import FAST
from tests.cluster.raw import Person, raw_client

DISK_MIB = 64
SMALL = {"disk_reserve_bytes": 32 << 20, "log_retain_bytes": 1 << 20, "log_retain_entries": 100}
"""Settings of nodes on such disks."""
BODY = "x" * 60_000
PER_FRAME = 10


@functools.cache
def namespace() -> list[str] | None:
    """Return the beginning of a command that may mount, as root or as a user; None if the system allows neither."""
    if shutil.which("unshare") is None:
        return None
    for command in (["unshare", "-m"], ["unshare", "-Urm"]):
        tried = subprocess.run(
            [*command, "sh", "-c", "mount -t tmpfs tmpfs /mnt"], capture_output=True, check=False, timeout=10
        )
        if tried.returncode == 0:
            return command
    return None


def mount(cluster: LocalCluster, size_mib: int = DISK_MIB) -> None:
    """Give each node a disk of its own, before it starts."""
    for name in cluster.names:
        folder = cluster.layout.data_dir(name)
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(folder)], check=True)


def grow(cluster: LocalCluster, size_mib: int = 2 * DISK_MIB) -> None:
    """Make the disks larger."""
    for name in cluster.names:
        options = f"remount,size={size_mib}m"
        subprocess.run(["mount", "-o", options, str(cluster.layout.data_dir(name))], check=True)


def unmount(cluster: LocalCluster) -> None:
    """Take the disks away, after the nodes have ended."""
    for name in cluster.names:
        subprocess.run(["umount", "--lazy", str(cluster.layout.data_dir(name))], check=True)


async def send_frame(cluster: LocalCluster, person: Person) -> list[SendResult]:
    """Send some large messages through any node; nothing if its stream ended meanwhile."""
    with contextlib.suppress(grpc.aio.AioRpcError, AssertionError, TimeoutError):
        leader = await cluster.wait_for_leader()
        async with raw_client(cluster, leader) as raw, raw.session(person) as stream:
            first = stream.welcome.last_send_number + 1
            await stream.send(*((number, "ann", BODY) for number in range(first, first + PER_FRAME)))
            return await stream.results(PER_FRAME)
    return []


async def until(cluster: LocalCluster, person: Person, status: int) -> None:
    """Send until a message gets this status."""
    async with asyncio.timeout(60):
        while not any(result.status == status for result in await send_frame(cluster, person)):
            assert all(cluster.is_up(name) for name in cluster.names), "a node died"


async def main(root: Path) -> None:
    """Fill the disks, make room, and go on."""
    async with LocalCluster(root, settings={**FAST, **SMALL}, start=False) as cluster:
        mount(cluster)
        cluster.start(*cluster.names)
        leader = await cluster.wait_for_leader()
        async with raw_client(cluster, leader) as raw:
            await raw.register("ann")
            person = await raw.log_in("ann")
        await until(cluster, person, SEND_STATUS_NO_ROOM)
        # What does not grow goes on from the reserve. A node without room appends nothing and falls behind, so that it
        # lets nobody log in: a client asks another one.
        async with raw_client(cluster, await cluster.wait_for_leader()) as raw:
            await raw.log_in("ann")
        grow(cluster)
        await until(cluster, person, SEND_STATUS_ACCEPTED)
        await cluster.wait_until_equal()
        for name in cluster.names:
            assert await cluster.stop(name) == 0, name


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
