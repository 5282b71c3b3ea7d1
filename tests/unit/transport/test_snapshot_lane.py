"""Snapshots for one peer: one at a time, with growing waits after failures, and a reason for people.

What can go wrong: a follower without room is sent the state with every heartbeat; the reason stands nowhere, or in the
log for each try; a request of a broken connection holds the lane of the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from structlog.testing import capture_logs

from parley_proto.v1 import peer_pb2 as pb
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.types import Index, NodeId, SnapshotMeta, Term
from parleyd.transport.peer_calls import CallMetadata
from parleyd.transport.peers import LinkSetup
from parleyd.transport.snapshot_lane import NOT_INSTALLED, SnapshotLane

PEER = NodeId(2)
MESSAGE = Message(MessageType.SNAPSHOT, sender=NodeId(1), to=PEER, snapshot=SnapshotMeta(Index(1), Term(1)))
NO_ROOM = grpc.aio.AioRpcError(
    grpc.StatusCode.DATA_LOSS, grpc.aio.Metadata(), grpc.aio.Metadata(), "a snapshot does not fit"
)


class Call:
    """One transfer, which ends as the test says."""

    def __init__(self, end: bool | Exception) -> None:
        self._end = end

    def add_done_callback(self, _: object) -> None:
        """No status is told: grpc keeps that of a call whose peer ended it between two messages."""

    async def write(self, _: pb.SnapshotChunk) -> None:
        if isinstance(self._end, Exception):
            raise asyncio.InvalidStateError("RPC already finished.")  # what grpc raises when the peer ended it

    async def done_writing(self) -> None:
        """Nothing more comes."""

    def __await__(self) -> Any:
        async def answer() -> pb.SnapshotReceipt:
            if isinstance(self._end, Exception):
                raise self._end
            return pb.SnapshotReceipt(installed=self._end)

        return answer().__await__()

    def cancel(self) -> None:
        """Ended."""


class World:
    """The peer, the core and the store of a lane."""

    def __init__(self, *ends: bool | Exception) -> None:
        self._ends = list(ends)
        self.reports: asyncio.Queue[bool] = asyncio.Queue()
        self.is_gone = False
        self.changed = asyncio.Event()
        setup = LinkSetup(CallMetadata("c", NodeId(1), pb.HandshakeInfo()), None, self, self, self.changed.set)  # type: ignore[arg-type]
        self.lane = SnapshotLane(PEER, "n2", setup)

    def InstallSnapshot(self, metadata: object) -> Call:
        return Call(self._ends.pop(0))

    async def chunks(self, message: Message, group: int) -> AsyncIterator[pb.SnapshotChunk]:
        if self.is_gone:
            raise FileNotFoundError("the snapshot was replaced before it was sent")
        yield pb.SnapshotChunk(data=b"state")

    def snapshot_sent(self, node: NodeId, group: int, *, ok: bool) -> None:
        self.reports.put_nowait(ok)

    async def send(self) -> bool:
        """What the core hears of one transfer."""
        self.lane.request(MESSAGE, 0)
        async with asyncio.timeout(5):
            return await self.reports.get()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits of the lane, none of which takes any time."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return waited


async def test_failures_wait_ever_longer_and_are_logged_once_with_the_peers_reason(waits: list[float]) -> None:
    world = World(*[NO_ROOM] * 9, True, NO_ROOM)
    running = asyncio.ensure_future(world.lane.run(cast(Any, world)))
    with capture_logs() as logs:
        assert [await world.send() for _ in range(9)] == [False] * 9
        assert world.lane.problem == "DATA_LOSS: a snapshot does not fit"
        assert await world.send()
        assert world.lane.problem == ""
        assert not await world.send()
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 0.5]
    told = [line["event"] for line in logs]
    assert told == ["snapshot_transfer_failed", "snapshot_transfer_succeeded", "snapshot_transfer_failed"]
    running.cancel()


async def test_a_snapshot_that_the_peer_does_not_install_is_a_failure(waits: list[float]) -> None:
    world = World(False)
    running = asyncio.ensure_future(world.lane.run(cast(Any, world)))
    assert not await world.send()
    assert (world.lane.problem, waits) == (NOT_INSTALLED, [0.5])
    running.cancel()


async def test_a_replaced_snapshot_is_asked_for_again_at_once(waits: list[float]) -> None:
    world = World(True)
    world.is_gone = True
    running = asyncio.ensure_future(world.lane.run(cast(Any, world)))
    assert not await world.send()
    assert (world.lane.problem, waits) == ("", [])
    running.cancel()


async def test_a_request_of_a_broken_connection_does_not_hold_the_lane() -> None:
    world = World(True)
    world.lane.request(MESSAGE, 0)
    world.lane.request(MESSAGE, 0)
    assert not world.reports.get_nowait(), "only one waits"
    world.lane.clear()
    assert not world.reports.get_nowait()
    running = asyncio.ensure_future(world.lane.run(cast(Any, world)))
    assert await world.send()
    running.cancel()


async def test_a_transfer_that_is_cut_short_is_reported() -> None:
    world = World(NO_ROOM)
    running = asyncio.ensure_future(world.lane.run(cast(Any, world)))
    world.lane.request(MESSAGE, 0)
    async with asyncio.timeout(5):
        await world.changed.wait()
    running.cancel()
    async with asyncio.timeout(5):
        assert not await world.reports.get()
