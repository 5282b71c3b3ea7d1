"""A state is replaced by a copy as a whole or not at all, and the fence goes last.

What can go wrong: a copy that is older than what is committed here, altered, or not what it says; a log that has moved
on; a crash at any step; a rebuild begun twice, or where nothing is to be rebuilt.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from parley_proto.v1 import peer_pb2 as pb
from parleyd.group import rebuild as rebuild_module
from parleyd.group.rebuild import StateRebuild, replace_state
from parleyd.group.state_copies import StateCopies, receive_copy
from parleyd.machine.machine import StateMachine
from parleyd.machine.records import CommittedEntry, MemberRow, StateHash
from parleyd.raft.types import NO_NODE, ConfState, Entry, HardState, Index, NodeId, Role, SnapshotMeta, Term
from parleyd.raft.update import Persist, RoleChange
from parleyd.storage import fence as fences
from parleyd.storage import snapshots
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.errors import SnapshotTransferError
from parleyd.storage.fence import Fence
from parleyd.storage.raft_storage import RaftStorage
from parleyd.transport.codec import encode_membership
from parleyd.transport.peer_calls import ForwardFailedError

ME, LEADER = NodeId(1), NodeId(2)
VOTERS = ConfState(voters=(ME, LEADER))
COMMITTED = Index(30)
ROWS = [MemberRow(node, f"n{node}", f"h{node}:1", f"h{node}:2") for node in (ME, LEADER)]


def committed(first: int, last: int) -> list[CommittedEntry]:
    return [CommittedEntry(index, 1) for index in range(first, last + 1)]


def make_node(path: Path, *, applied: int, log: int, commit: int) -> DataDirectory:
    """A node's closed files: its state up to `applied`, its log up to `log`."""
    data = DataDirectory.open(path)
    storage = RaftStorage.open(data.raft_db)
    storage.initialize(VOTERS)
    entries = tuple(Entry(Term(1), Index(index)) for index in range(1, log + 1))
    storage.append([Persist(hard_state=HardState(Term(1), LEADER, Index(commit)), entries=entries)])
    storage.close()
    with closing(StateMachine.create(data.state_db, ROWS, encode_membership(VOTERS))) as machine:
        machine.apply(committed(1, applied))
    return data


def position(data: DataDirectory) -> StateHash:
    with closing(StateMachine.open(data.state_db)) as machine:
        return StateHash(machine.applied_index, machine.state_hash)


def copies_of(data: DataDirectory, told: list[StateHash] | None = None) -> StateCopies:
    noted: list[StateHash] = [] if told is None else told
    return StateCopies(LEADER, data, chunk_bytes=1 << 14, on_copied=noted.append)


async def fetch(leader: DataDirectory, data: DataDirectory, min_index: int = 0) -> Path:
    return await receive_copy(data.snapshots, copies_of(leader).stream(ME), min_index)


@pytest.fixture
def leader(tmp_path: Path) -> DataDirectory:
    return make_node(tmp_path / "leader", applied=30, log=30, commit=30)


@pytest.fixture
def fenced(tmp_path: Path) -> DataDirectory:
    """A node with another state, whose log has what the leader's copy covers."""
    data = make_node(tmp_path / "fenced", applied=20, log=40, commit=30)
    with closing(StateMachine.open(data.state_db)) as machine:
        machine._connection.execute("UPDATE meta SET state_hash = zeroblob(16)")
    fences.save(data.fence, Fence("outvoted", 16))
    return data


# ---- the copy


async def test_a_copy_is_the_leaders_state_and_leaves_nothing_behind(
    leader: DataDirectory, fenced: DataDirectory
) -> None:
    told: list[StateHash] = []
    path = await receive_copy(fenced.snapshots, copies_of(leader, told).stream(ME), 30)
    assert told == [position(leader)]
    assert list(leader.snapshots.iterdir()) == []
    assert [file.name for file in fenced.snapshots.iterdir()] == [path.name]


async def altered(chunks: AsyncIterator[pb.SnapshotChunk], how: str) -> AsyncIterator[pb.SnapshotChunk]:
    async for chunk in chunks:
        if chunk.HasField("header"):
            if how == "no header":
                continue
            if how == "another index":
                chunk.header.message.snapshot.index += 1
            if how == "no snapshot":
                chunk.header.message.ClearField("snapshot")
            if how == "another digest":
                chunk.header.sha256 = hashlib.sha256(b"other").digest()
        elif how == "cut short":
            return
        yield chunk


@pytest.mark.parametrize("how", ["no header", "another index", "no snapshot", "another digest", "cut short"])
async def test_a_copy_that_is_not_what_it_says_is_not_kept(
    leader: DataDirectory, fenced: DataDirectory, how: str
) -> None:
    with pytest.raises(SnapshotTransferError):
        await receive_copy(fenced.snapshots, altered(copies_of(leader).stream(ME), how), 30)
    assert list(fenced.snapshots.iterdir()) == []


async def test_a_copy_that_does_not_cover_what_is_committed_here_is_not_taken(
    leader: DataDirectory, fenced: DataDirectory
) -> None:
    with pytest.raises(SnapshotTransferError, match="does not cover entry 31"):
        await fetch(leader, fenced, min_index=31)


# ---- replacing


async def test_the_state_is_replaced_the_log_kept_and_the_fence_removed(
    leader: DataDirectory, fenced: DataDirectory
) -> None:
    assert replace_state(fenced, await fetch(leader, fenced))
    assert position(fenced) == position(leader)
    assert not fenced.fence.exists()
    log = RaftStorage.open(fenced.raft_db)
    contents = log.load()
    log.close()
    assert contents.entries[-1].index == 40
    assert contents.hard_state == HardState(Term(1), LEADER, Index(30))


async def test_a_copy_ahead_of_the_log_is_taken(leader: DataDirectory, tmp_path: Path) -> None:
    behind = make_node(tmp_path / "behind", applied=5, log=10, commit=10)
    fences.save(behind.fence, Fence("outvoted", 5))
    assert replace_state(behind, await fetch(leader, behind))
    assert position(behind) == position(leader)


async def test_nothing_is_replaced_where_the_log_has_moved_on(leader: DataDirectory, fenced: DataDirectory) -> None:
    received = await fetch(leader, fenced)
    log = RaftStorage.open(fenced.raft_db)
    log.compact(SnapshotMeta(Index(35), Term(1), VOTERS))
    log.close()
    before = position(fenced)
    assert not replace_state(fenced, received)
    assert position(fenced) == before
    assert fenced.fence.exists()
    assert list(fenced.snapshots.iterdir()) == []


@pytest.mark.parametrize("step", ["install", "rename", "clear"])
async def test_a_crash_at_any_step_leaves_a_fenced_node_with_one_whole_state(
    leader: DataDirectory, fenced: DataDirectory, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = await fetch(leader, fenced)
    before, after = position(fenced), position(leader)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if step == "install":
            patch.setattr(rebuild_module, "install", crash)
        elif step == "rename":
            patch.setattr(snapshots, "finish_install", crash)
        else:
            patch.setattr(fences, "clear", crash)
        with pytest.raises(KeyboardInterrupt):
            replace_state(fenced, received)
    fenced.close()
    again = DataDirectory.open(fenced.path)
    assert again.fence.exists()
    assert position(again) == (before if step == "install" else after)
    assert replace_state(again, await fetch(leader, again))
    assert not again.fence.exists()
    assert position(again) == after


# ---- asking for it


@dataclass
class Surroundings:
    """Replica, core, guard and the way to the leader in one."""

    leader_files: DataDirectory
    needs_rebuild: bool = True
    fenced: int = 0
    failures: list[Exception] = field(default_factory=list)
    asked: list[tuple[NodeId, int]] = field(default_factory=list)
    role: RoleChange = field(default_factory=lambda: RoleChange(Role.FOLLOWER, Term(1), LEADER))
    node_id: NodeId = ME
    commit_index: Index = COMMITTED
    conf_state: ConfState = VOTERS
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def raft(self) -> Surroundings:
        return self

    async def role_change(self) -> None:
        await self.changed.wait()
        self.changed.clear()

    async def fence_for_rebuild(self) -> None:
        self.fenced += 1

    async def fetch_state(self, node: NodeId, request: pb.FetchStateRequest) -> AsyncGenerator[pb.SnapshotChunk]:
        self.asked.append((node, request.min_index))
        if self.failures:
            raise self.failures.pop(0)
        async for chunk in copies_of(self.leader_files).stream(ME):
            yield chunk


def rebuild_of(around: Surroundings, data: DataDirectory) -> StateRebuild:
    return StateRebuild(around, around, around, data.snapshots)


async def test_a_rebuild_fences_first_and_fetches_from_the_leader_until_it_has_a_copy(
    leader: DataDirectory, fenced: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild_module, "RETRY_INTERVAL_S", 0)
    around = Surroundings(leader, failures=[ForwardFailedError("no link", sent=False), SnapshotTransferError("cut")])
    made = rebuild_of(around, fenced)
    assert made.request().status == pb.REBUILD_STATUS_RUNNING
    assert made.request().status == pb.REBUILD_STATUS_RUNNING
    async with asyncio.timeout(10):
        await made.run()
        path = await made.fetched
    assert path.exists()
    assert around.fenced == 1
    assert around.asked == [(LEADER, 30)] * 3


async def test_a_rebuild_waits_for_another_leader_where_this_node_leads(
    leader: DataDirectory, fenced: DataDirectory
) -> None:
    around = Surroundings(leader)
    around.role = replace(around.role, leader=ME, role=Role.LEADER)
    made = rebuild_of(around, fenced)
    made.request()
    running = asyncio.create_task(made.run())
    for _ in range(10):
        await asyncio.sleep(0)
    assert around.asked == []
    around.role = replace(around.role, leader=NO_NODE, role=Role.FOLLOWER)
    around.changed.set()
    await asyncio.sleep(0)
    around.role = replace(around.role, leader=LEADER)
    around.changed.set()
    async with asyncio.timeout(10):
        await running
    assert around.asked == [(LEADER, 30)]


async def test_there_is_nothing_to_rebuild_where_the_state_agrees(leader: DataDirectory, fenced: DataDirectory) -> None:
    made = rebuild_of(Surroundings(leader, needs_rebuild=False), fenced)
    assert made.request().status == pb.REBUILD_STATUS_DONE


async def test_a_node_that_lost_entries_of_its_log_is_not_said_to_agree(
    leader: DataDirectory, fenced: DataDirectory
) -> None:
    """It serves nobody, and a new state brings no lost entry back."""
    around = Surroundings(leader, needs_rebuild=False)
    made = StateRebuild(around, around, around, fenced.snapshots, lambda: "entries 7 to 9 are lost")
    reply = made.request()
    assert reply.status == pb.REBUILD_STATUS_REFUSED
    assert "entries 7 to 9 are lost" in reply.detail
    assert "Nothing was changed" in reply.detail


async def test_the_only_voter_is_not_rebuilt(leader: DataDirectory, fenced: DataDirectory) -> None:
    made = rebuild_of(Surroundings(leader, conf_state=ConfState(voters=(ME,))), fenced)
    reply = made.request()
    assert reply.status == pb.REBUILD_STATUS_REFUSED
    assert "only voter" in reply.detail
