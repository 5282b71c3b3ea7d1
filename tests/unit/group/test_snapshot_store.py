"""Snapshots that were received stay until they are installed or not needed, and no longer."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from parley_proto.v1 import peer_pb2 as pb
from parleyd.group import snapshot_store
from parleyd.group.snapshot_plan import MAX_RECEIVED
from parleyd.group.snapshot_store import SnapshotStore
from parleyd.machine.machine import StateMachine
from parleyd.machine.records import CommittedEntry, MembershipChange
from parleyd.raft.errors import PeerProtocolError
from parleyd.raft.types import ConfState, Index, NodeId, SnapshotMeta, Term
from parleyd.storage.data_directory import DataDirectory
from parleyd.transport.codec import encode_membership

VOTERS = ConfState(voters=(NodeId(1),))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataDirectory:
    monkeypatch.setattr(snapshot_store, "_check_received", lambda path, meta: None)
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
    with pytest.raises(PeerProtocolError, match="wait to be installed"):
        await receive(store, tmp_path, 99)
    assert received_files(data) == MAX_RECEIVED
    store.close()
    data.close()


# ---- with real states


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
    assert after.conf_state.learners == (NodeId(4),)
    assert len(list(folder.snapshots.glob("state-*.sqlite"))) == 1
    machine.close()
    store.close()
    folder.close()
