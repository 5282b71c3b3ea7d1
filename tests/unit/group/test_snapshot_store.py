"""Snapshots that were received stay until they are installed or not needed, and no longer."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from parley_proto.v1 import peer_pb2 as pb
from parleyd.group import snapshot_intake
from parleyd.group.snapshot_plan import MAX_RECEIVED
from parleyd.group.snapshot_store import SnapshotStore
from parleyd.machine.machine import StateMachine
from parleyd.machine.records import CommittedEntry, MembershipChange
from parleyd.machine.verify import verify_state_file
from parleyd.page_checksums import checksum_vfs
from parleyd.raft.errors import PeerProtocolError
from parleyd.raft.types import ConfState, Index, NodeId, SnapshotMeta, Term
from parleyd.storage.data_directory import DataDirectory
from parleyd.transport.codec import encode_membership
from tests.unit.machine.harness import Node

VOTERS = ConfState(voters=(NodeId(1),))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataDirectory:
    # The bodies stand for states of any entry.
    monkeypatch.setattr(snapshot_intake.StateIntake, "finish", lambda intake: intake._open().finish())
    return DataDirectory.open(tmp_path / "data")


def content(tmp_path: Path) -> bytes:
    path = tmp_path / "source.sqlite"
    if not path.exists():
        StateMachine.create(path, [], encode_membership(VOTERS)).close()
    return path.read_bytes()


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def receive(store: SnapshotStore, tmp_path: Path, index: int) -> SnapshotMeta:
    data = content(tmp_path)
    meta = SnapshotMeta(Index(index), Term(1), VOTERS)
    header = pb.SnapshotHeader(total_bytes=len(data), sha256=hashlib.sha256(data).digest())
    await store.receive(header, meta, chunks(data))
    return meta


def received_files(data: DataDirectory) -> int:
    return len(list(data.snapshots.glob("incoming-*")))


async def test_a_snapshot_that_comes_while_another_waits_to_be_installed_does_not_replace_it(
    data: DataDirectory, tmp_path: Path
) -> None:
    store = SnapshotStore(data, snapshot_chunk_bytes=1 << 16)
    first = await receive(store, tmp_path, 100)
    second = await receive(store, tmp_path, 200)
    store.install_received(first).close()
    store.discard_received(first.index)
    assert received_files(data) == 1, "the second is still to be installed"
    store.install_received(second).close()
    store.discard_received(second.index)
    assert received_files(data) == 0
    store.close()
    data.close()


async def test_the_state_of_a_snapshot_keeps_as_many_pages_in_memory_as_the_one_before(
    data: DataDirectory, tmp_path: Path
) -> None:
    store = SnapshotStore(data, snapshot_chunk_bytes=1 << 16, cache_bytes=3 << 20)
    with closing(store.install_received(await receive(store, tmp_path, 100))) as machine:
        assert machine._connection.pragma("cache_size") == -3072
    store.close()
    data.close()


async def test_snapshots_that_are_not_needed_any_more_are_removed(data: DataDirectory, tmp_path: Path) -> None:
    store = SnapshotStore(data, snapshot_chunk_bytes=1 << 16)
    await receive(store, tmp_path, 100)
    await receive(store, tmp_path, 200)
    store.discard_received(Index(150))
    assert received_files(data) == 1
    store.discard_received(Index(200))
    assert received_files(data) == 0
    store.close()
    data.close()


async def test_more_snapshots_than_may_wait_are_refused(data: DataDirectory, tmp_path: Path) -> None:
    store = SnapshotStore(data, snapshot_chunk_bytes=1 << 16)
    for index in range(1, MAX_RECEIVED + 1):
        await receive(store, tmp_path, index)
    with pytest.raises(PeerProtocolError, match="on their way already"):
        await receive(store, tmp_path, 99)
    assert received_files(data) == MAX_RECEIVED
    assert (store.events["received"], store.events["refused"]) == (MAX_RECEIVED, 1)
    store.close()
    data.close()


async def test_a_snapshot_that_is_not_installed_is_removed_and_makes_room(data: DataDirectory, tmp_path: Path) -> None:
    store = SnapshotStore(data, snapshot_chunk_bytes=1 << 16)
    for index in range(1, 3 * MAX_RECEIVED):
        store.discard(await receive(store, tmp_path, index))
    assert received_files(data) == 0
    store.close()
    data.close()


@pytest.mark.parametrize("end", ["cancelled", "silent", "broken", "cut short"])
async def test_a_transfer_that_ends_in_any_other_way_leaves_no_file(
    data: DataDirectory, tmp_path: Path, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_intake, "CHUNK_TIMEOUT_S", 0.1 if end == "silent" else 30)
    store = SnapshotStore(data, snapshot_chunk_bytes=1 << 16)
    whole = content(tmp_path)
    header = pb.SnapshotHeader(total_bytes=len(whole), sha256=hashlib.sha256(whole).digest())
    begun = asyncio.Event()

    async def part() -> AsyncIterator[bytes]:
        yield whole[:1000]
        begun.set()
        if end == "broken":
            raise ConnectionError("the link broke")
        if end in ("cancelled", "silent"):
            await asyncio.Event().wait()

    receiving = asyncio.ensure_future(store.receive(header, SnapshotMeta(Index(1), Term(1), VOTERS), part()))
    await begun.wait()
    if end == "cancelled":
        receiving.cancel()
    with pytest.raises((asyncio.CancelledError, PeerProtocolError, ConnectionError)):
        await receiving
    assert list(data.snapshots.iterdir()) == []
    assert (await receive(store, tmp_path, 2)).index == 2
    store.close()
    data.close()


# ---- with real states


FOREIGN = {
    "trigger": "CREATE TRIGGER evil AFTER UPDATE ON meta BEGIN UPDATE accounts SET role = 1; END",
    "view": "CREATE VIEW evil AS SELECT 1",
    "table": "CREATE TABLE evil(x)",
    "index": "CREATE INDEX evil ON accounts(name)",
    "column": "ALTER TABLE accounts ADD COLUMN evil INTEGER",
    "missing": "DROP TABLE raised_levels",
    "view in the place of a table": "DROP TABLE raised_levels; CREATE VIEW raised_levels AS "
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x AS level, '' AS release FROM n",
}


@pytest.mark.parametrize("kind", FOREIGN)
async def test_a_snapshot_whose_schema_is_not_exactly_that_of_its_level_is_refused(tmp_path: Path, kind: str) -> None:
    folder = DataDirectory.open(tmp_path / "data")
    store = SnapshotStore(folder, snapshot_chunk_bytes=1 << 16)
    content(tmp_path)
    with closing(apsw.Connection(str(tmp_path / "source.sqlite"), vfs=checksum_vfs())) as connection:
        connection.execute(FOREIGN[kind])
    with pytest.raises(PeerProtocolError, match="its schema is not exactly that of level"):
        await receive(store, tmp_path, 0)
    assert list(folder.snapshots.iterdir()) == []
    store.close()
    folder.close()


async def test_a_state_that_was_raised_level_by_level_is_taken(tmp_path: Path) -> None:
    node = Node(tmp_path / "raised.sqlite")
    node.rise()
    index = node.machine.applied_index
    node.close()
    assert verify_state_file(tmp_path / "raised.sqlite")[0] == index


async def test_a_snapshot_of_another_entry_than_announced_is_refused_and_removed(tmp_path: Path) -> None:
    folder = DataDirectory.open(tmp_path / "data")
    store = SnapshotStore(folder, snapshot_chunk_bytes=1 << 16)
    with pytest.raises(PeerProtocolError, match="not what was announced"):
        await receive(store, tmp_path, 100)  # the state it holds is as of entry 0
    assert received_files(folder) == 0
    store.close()
    folder.close()


async def test_a_snapshot_is_made_of_the_state_as_it_is_and_the_last_one_is_removed(tmp_path: Path) -> None:
    folder = DataDirectory.open(tmp_path / "data")
    store = SnapshotStore(folder, snapshot_chunk_bytes=1 << 16)
    machine = StateMachine.create(folder.state_db, [], encode_membership(VOTERS))
    machine.apply([CommittedEntry(1, 1, b"")])
    before = await store.make_snapshot()
    grown = encode_membership(ConfState(voters=(NodeId(1),), learners=(NodeId(4),)))
    machine.apply([CommittedEntry(2, 1, b"", MembershipChange(grown, (1, 4)))])
    after = await store.make_snapshot()
    assert (before.index, after.index) == (1, 2)
    assert (store.events["created"], store.events["failed"]) == (2, 0)
    assert after.conf_state.learners == (NodeId(4),)
    assert len(list(folder.snapshots.glob("state-*.sqlite"))) == 1
    machine.close()
    store.close()
    folder.close()
