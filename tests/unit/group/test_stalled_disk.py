"""A leader whose disk hangs is of no use, however well its heartbeats go out: it lets another one take over.

What can go wrong: it commits by its followers' disks and looks healthy while its own never answers; it says that it
serves; nobody is told to campaign.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from parley_proto.v1 import state_pb2
from parleyd.group import runner as runner_module
from parleyd.group.files import GroupFiles
from parleyd.group.group import Group
from parleyd.group.parts import GroupParts
from parleyd.group.readers import StateReaders
from parleyd.group.retention import LogBounds
from parleyd.group.runner import GroupRunner
from parleyd.group.settings import GroupSettings, GroupStart
from parleyd.group.snapshot_store import SnapshotStore
from parleyd.machine.machine import ApplyOutcome, StateMachine
from parleyd.membership.members import ClusterMembers
from parleyd.raft.config import InitialState, RaftConfig
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.raft import Raft
from parleyd.raft.types import ConfState, NodeId, Term
from parleyd.raft.update import Persist
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.raft_storage import RaftStorage
from parleyd.transport.codec import encode_membership

ME, OTHER, THIRD = NodeId(1), NodeId(2), NodeId(3)
THREE = ConfState(voters=(ME, OTHER, THIRD))
M = MessageType
ANSWERS = {
    M.PRE_VOTE: M.PRE_VOTE_RESPONSE,
    M.VOTE: M.VOTE_RESPONSE,
    M.APPEND: M.APPEND_RESPONSE,
    M.HEARTBEAT: M.HEARTBEAT_RESPONSE,
}


class StallingLog(RaftStorage):
    """A log whose disk hangs from `stall` until `go_on`."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._works = threading.Event()
        self._works.set()
        self.hangs = threading.Event()

    def stall(self) -> None:
        self._works.clear()

    def go_on(self) -> None:
        self._works.set()

    def append(self, writes: Sequence[Persist]) -> None:
        if not self._works.is_set():
            self.hangs.set()
        self._works.wait(30)
        super().append(writes)


@dataclass
class Followers:
    """Two followers with good disks, who agree to everything; told to campaign, they do nothing."""

    receive: Callable[[Message], None] = lambda _: None
    told_to_campaign: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if message.type is M.TIMEOUT_NOW:
                self.told_to_campaign.set()
            elif message.type in ANSWERS:
                has = message.entries[-1].index if message.entries else message.index
                answer = Message(
                    ANSWERS[message.type], message.to, ME, message.term, index=has, context=message.context
                )
                self.receive(answer)


class Observer:
    """Nobody looks."""

    def applied(self, outcome: ApplyOutcome) -> None:
        pass

    def members_changed(self, members: ClusterMembers) -> None:
        pass

    def state_replaced(self) -> None:
        pass

    def retired(self, told_by: str) -> None:
        pass

    def clocks_judged(self, offsets_ms: Mapping[NodeId, int]) -> None:
        """Nothing to do."""

    def entries_lost(self, detail: str) -> None:
        pass


async def test_a_leader_whose_disk_hangs_hands_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0  # by a clock of the test's own, or a slow disk of the test machine would count
    clock = SimpleNamespace(monotonic=lambda: now_s, time_ns=time.time_ns)
    monkeypatch.setattr(runner_module, "time", clock)
    data = DataDirectory.open(tmp_path / "data")
    log = StallingLog.open(data.raft_db)
    assert isinstance(log, StallingLog)
    log.initialize(THREE)
    machine = StateMachine.create(data.state_db, [], encode_membership(THREE))
    snapshot_store = SnapshotStore(data, snapshot_chunk_bytes=1 << 16)
    followers = Followers()
    settings = GroupSettings(
        tick_ms=5, retry_ms=1_000, log_bounds=LogBounds(retain_entries=100, retain_bytes=1 << 20), disk_stall_ms=2_000
    )
    members = ClusterMembers.of(machine.members())
    raft = Raft(RaftConfig(node_id=ME, election_timeout_ticks=1_000), InitialState(conf_state=THREE))
    group = Group(raft, settings, GroupStart(members, 1, (), runner_module.now_ms(), random.Random(1)))
    files = GroupFiles(log, machine, StateReaders(data.state_db), snapshot_store)
    replica = GroupRunner(GroupParts(group, files, followers, Observer()))
    followers.receive = replica.receive
    running = asyncio.ensure_future(replica.run())
    try:
        async with asyncio.timeout(30):
            replica.receive(Message(M.HEARTBEAT, OTHER, ME, Term(1)))
            await replica.role_change()
            replica.peer_lost(OTHER)  # so this node campaigns soon
            await replica.role_change()
            now_s += 0.02
            while not replica.is_leader:
                await replica.role_change()
            await replica.wait_applied(1)
            served = [replica.serving]
            assert not followers.told_to_campaign.is_set()
            log.stall()
            outcome = replica.propose([state_pb2.Command()])
            await asyncio.to_thread(log.hangs.wait, 5)
            now_s += 1.9
            served.append(replica.serving)
            now_s += 0.2
            await followers.told_to_campaign.wait()
            served.append(replica.serving)  # what it is asked now would wait for the disk
            log.go_on()
            assert (await outcome).index == 2
        assert served == [True, True, False]
    finally:
        log.go_on()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await replica.close()
        snapshot_store.close()
        data.close()
