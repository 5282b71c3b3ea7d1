"""The RPC of backups: for administrators only, one at a time, and never longer than its reader reads."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from parley_proto.v1 import admin_pb2 as pb
from parley_proto.v1.admin_pb2_grpc import AdminStub
from parleyd.api import admission
from parleyd.api.patience import Patience
from parleyd.backup.verify import verify
from parleyd.storage.disk_space import DiskSpace
from tests.support.node import InProcessCluster, InProcessNode
from tests.support.raw import PASSWORD, Person, Raw, until_so

# A client that accepts little: what it does not read stays with the node.
READS_LITTLE = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1024))


@pytest.fixture
async def admin(cluster: InProcessCluster, raw: Raw) -> Person:
    """The first account here is an administrator."""
    boss = cluster.add_account("boss", PASSWORD)
    for _ in range(40):
        cluster.store(boss, boss, base64.b64encode(os.urandom(45_000)).decode())  # hardly compressed
    return await raw.log_in("boss")


def copies(cluster: InProcessCluster) -> set[str]:
    return {path.name for path in cluster.data.snapshots.iterdir()}


@asynccontextmanager
async def begun(node: InProcessNode, person: Person) -> AsyncIterator[Any]:
    """A backup of which nothing is read."""
    async with grpc.aio.insecure_channel(node.address, options=READS_LITTLE) as channel:
        call = AdminStub(channel).Backup(pb.BackupRequest(), metadata=person.metadata)
        await call.wait_for_connection()
        yield call


async def refused_with(raw: Raw, person: Person) -> tuple[grpc.StatusCode, str]:
    try:
        async for _ in raw.admin.Backup(pb.BackupRequest(), metadata=person.metadata):
            pass
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


async def test_a_backup_has_everything_that_was_acknowledged_before(
    cluster: InProcessCluster, raw: Raw, admin: Person, tmp_path: Path
) -> None:
    index = cluster.index
    chunks = [chunk async for chunk in raw.admin.Backup(pb.BackupRequest(), metadata=admin.metadata)]
    assert max(len(chunk.data) for chunk in chunks) < 1 << 19
    path = tmp_path / "one.backup"
    path.write_bytes(b"".join(chunk.data for chunk in chunks))
    header = verify(path, tmp_path)
    assert header.index == index + 1, "the last entry says who asked for it"
    assert header.is_current
    assert chunks[-1].content_bytes == header.content_bytes
    assert copies(cluster) == set()


async def test_without_a_majority_a_backup_is_made_and_says_so(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw, admin: Person, tmp_path: Path
) -> None:
    node.faults.no_majority = True
    path = tmp_path / "one.backup"
    chunks = [chunk.data async for chunk in raw.admin.Backup(pb.BackupRequest(), metadata=admin.metadata)]
    path.write_bytes(b"".join(chunks))
    assert not verify(path, tmp_path).is_current


async def test_a_reader_that_reads_nothing_loses_the_backup_and_the_copy_goes(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw, admin: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "ANSWER_PATIENCE", Patience(0.2, 0.5))
    async with begun(node, admin):
        await until_so(lambda: bool(copies(cluster)))
        assert (await refused_with(raw, admin))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        await until_so(lambda: not copies(cluster))
    assert (await refused_with(raw, admin))[0] is grpc.StatusCode.OK


async def test_a_reader_that_leaves_makes_room_for_the_next(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw, admin: Person
) -> None:
    async with begun(node, admin) as call:
        await until_so(lambda: bool(copies(cluster)))
        call.cancel()
        await until_so(lambda: not copies(cluster))
    assert (await refused_with(raw, admin))[0] is grpc.StatusCode.OK


async def test_a_disk_without_room_is_named_and_nothing_is_made(
    cluster: InProcessCluster, raw: Raw, admin: Person
) -> None:
    cluster.data.space = DiskSpace(cluster.data.path, 1 << 60)
    code, text = await refused_with(raw, admin)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "kept in reserve" in text
    assert copies(cluster) == set()


async def test_the_status_tells_the_generation_to_accounts_only(
    cluster: InProcessCluster, raw: Raw, admin: Person
) -> None:
    cluster.rewrite(
        ("UPDATE meta SET generation = 2", ()),
        ("INSERT INTO generations VALUES(2, 1, 1234, 77)", ()),
    )
    status = await raw.admin.GetStatus(pb.GetStatusRequest(), metadata=admin.metadata)
    assert status.generation == 2
    assert list(status.generations) == [
        pb.ClusterGeneration(generation=2, kind=pb.GENERATION_KIND_RESTORED, began_at_ms=1234, after_index=77)
    ]
    assert not (await raw.admin.GetStatus(pb.GetStatusRequest())).generations
