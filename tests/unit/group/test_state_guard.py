"""A node that is outvoted fences itself at once, durably, and reports what it is asked to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from parley_proto.v1 import peer_pb2 as pb
from parleyd.group.state_guard import StateGuard
from parleyd.machine.records import StateHash
from parleyd.raft.types import ConfState, NodeId
from parleyd.storage import fence as fences
from parleyd.storage.errors import StorageError

A, B, C = (NodeId(number) for number in (1, 2, 3))
NAMES = {A: "n1", B: "n2", C: "n3"}


@dataclass
class Surroundings:
    """Replica, links and listener in one."""

    fenced: int = 0
    sent: list[tuple[list[int], NodeId | None]] = field(default_factory=list)
    changes: int = 0

    def fence(self) -> None:
        self.fenced += 1

    def send_hashes(self, hashes: Iterable[pb.StateHash], to: NodeId | None = None) -> None:
        self.sent.append(([one.index for one in hashes], to))

    def divergence_changed(self) -> None:
        self.changes += 1


def guard_of(path: Path, around: Surroundings, voters: tuple[NodeId, ...] = (A, B, C)) -> StateGuard:
    made = StateGuard(A, path, around, around, around)
    made.set_members(ConfState(voters=voters), {node: NAMES[node] for node in voters})
    return made


def divergent(guard: StateGuard) -> bool:
    return guard.has_divergence


def said(index: int, value: bytes) -> list[pb.StateHash]:
    return [pb.StateHash(index=index, hash=value)]


@contextlib.asynccontextmanager
async def running(guard: StateGuard) -> AsyncIterator[None]:
    task = asyncio.create_task(guard.run())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_an_outvoted_node_is_fenced_at_once_and_after_a_restart(tmp_path: Path) -> None:
    path, around = tmp_path / "fenced.json", Surroundings()
    guard = guard_of(path, around)
    async with running(guard):
        guard.applied([StateHash(256, b"y")])
        guard.reported(B, said(256, b"x"))
        assert around.fenced == 0
        guard.reported(C, said(256, b"x"))
        assert around.fenced == 1
        assert "n2, n3" in guard.text
        assert "parley cluster rebuild n1" in guard.text
        await guard.fence_for_rebuild()  # returns when the fence is durable
    again = Surroundings()
    restarted = guard_of(path, again)
    assert again.fenced == 1
    assert restarted.fence == guard.fence
    assert restarted.fence is not None
    assert (restarted.fence.index, restarted.fence.own_hash) == (256, b"y".hex())


async def test_another_members_divergence_is_an_alarm_that_names_it_and_ends(tmp_path: Path) -> None:
    around = Surroundings()
    guard = guard_of(tmp_path / "fenced.json", around)
    guard.applied([StateHash(256, b"x")])
    guard.reported(B, said(256, b"x"))
    guard.reported(C, said(256, b"y"))
    assert around.fenced == 0
    assert divergent(guard)
    assert guard.untrusted == {C}
    assert "parley cluster rebuild n3" in guard.text
    guard.applied([StateHash(512, b"xx")])
    guard.reported(B, said(512, b"xx"))
    guard.reported(C, said(512, b"xx"))
    assert not divergent(guard)
    assert guard.text == ""
    assert around.changes > 1


async def test_without_a_majority_there_is_an_alarm_and_no_fence(tmp_path: Path) -> None:
    around = Surroundings()
    guard = guard_of(tmp_path / "fenced.json", around, (A, B))
    guard.applied([StateHash(256, b"x")])
    guard.reported(B, said(256, b"y"))
    assert around.fenced == 0
    assert divergent(guard)
    assert "n1, n2 differ at entry 256" in guard.text


async def test_hashes_go_to_all_members_and_the_history_to_one_that_connects(tmp_path: Path) -> None:
    around = Surroundings()
    guard = guard_of(tmp_path / "fenced.json", around)
    guard.peer_connected(B)
    guard.applied([])
    assert around.sent == []
    guard.applied([StateHash(256, b"x"), StateHash(512, b"y")])
    guard.peer_connected(B)
    assert around.sent == [([256, 512], None), ([256, 512], B)]


async def test_an_administrators_fence_is_durable_when_it_returns(tmp_path: Path) -> None:
    path, around = tmp_path / "fenced.json", Surroundings()
    guard = guard_of(path, around)
    async with running(guard):
        await guard.fence_for_rebuild()
    assert around.fenced == 1
    assert fences.load(path) is not None


async def test_a_fence_that_cannot_be_written_stops_the_node(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "fenced.json"
    guard = guard_of(path, Surroundings())
    fencing = asyncio.create_task(guard.fence_for_rebuild())
    with pytest.raises(StorageError):
        await guard.run()
    fencing.cancel()


async def test_hashes_of_another_group_are_not_compared(tmp_path: Path) -> None:
    around = Surroundings()
    guard = guard_of(tmp_path / "fenced.json", around)
    guard.applied([StateHash(256, b"y")])
    for node in (B, C):
        guard.reported(node, [pb.StateHash(group=1, index=256, hash=b"x")])
    assert around.fenced == 0
    assert not divergent(guard)


async def test_a_replaced_state_is_reported_and_the_fence_stays(tmp_path: Path) -> None:
    path, around = tmp_path / "fenced.json", Surroundings()
    guard = guard_of(path, around)
    guard.applied([StateHash(256, b"y")])
    guard.reported(B, said(256, b"x"))
    guard.reported(C, said(256, b"x"))
    guard.state_replaced(StateHash(300, b"z"))
    assert around.sent[-1] == ([300], None)
    assert guard.fence is not None
