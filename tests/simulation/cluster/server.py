"""One simulated server: the real core under the real driver, with the real log, state machine and recovery.

It is what parleyd.group.replica is to the product: it puts work behind the driver's callbacks, here as things that
happen later in simulated time. It can die between any two effects of a step, in the middle of a write, an apply or an
install, and starts again from what its disk has kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import apsw

from parley_proto.v1 import state_pb2 as pb
from parleyd.group.driver import Driver
from parleyd.group.errors import NotLeaderError, OverloadedError, ProposalError
from parleyd.group.proposals import AppliedCommands, Proposal, ProposalTable
from parleyd.group.retention import LogBounds, LogRetention
from parleyd.machine.errors import MachineDamagedError, MachineStorageError
from parleyd.machine.machine import StateMachine
from parleyd.membership.members import ClusterMembers
from parleyd.raft.config import InitialState, RaftConfig
from parleyd.raft.events import (
    Campaign,
    Event,
    ForgetLeader,
    ReadIndex,
    Receive,
    Tick,
    Unreachable,
)
from parleyd.raft.membership import ConfChange, encode_conf_change
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.raft import Raft
from parleyd.raft.types import NO_NODE, ConfState, Entry, Index, NodeId, Role, SnapshotMeta, Term
from parleyd.raft.update import Persist, ReadReady, Refusal, RoleChange, Update
from parleyd.storage.errors import StorageDamagedError, StorageError
from parleyd.storage.raft_storage import RaftStorage
from parleyd.storage.recovery import Recovered, reconcile
from parleyd.transport.codec import decode_membership
from tests.simulation.cluster.checker import require
from tests.simulation.cluster.disk import SimulatedDisk
from tests.simulation.cluster.plan import ELECTION_TICKS
from tests.simulation.cluster.read_barriers import SimulatedReadBarriers
from tests.simulation.cluster.transfers import SnapshotBody, Tell, Transfers
from tests.simulation.cluster.work import Crashed, Work

if TYPE_CHECKING:
    import asyncio

    from tests.simulation.cluster.simulation import Simulation

MAX_ENTRY_BYTES = 4_096
MAX_CATCH_UP_TICKS = 3
RETAIN_BYTES = 1 << 20


class Outcome:
    """Stands for the future on which a caller waits."""

    def __init__(self, then: Callable[[AppliedCommands | ProposalError], None]) -> None:
        self._then = then
        self._is_done = False

    def done(self) -> bool:
        """Whether the caller was told."""
        return self._is_done

    def set_result(self, applied: AppliedCommands) -> None:
        """Tell the caller."""
        self._is_done = True
        self._then(applied)

    def set_exception(self, error: ProposalError) -> None:
        """Tell the caller that it failed."""
        self._is_done = True
        self._then(error)


class CheckedRaft(Raft):
    """The core; after every step all that must hold is checked."""

    def __init__(self, server: SimulatedServer, config: RaftConfig, initial: InitialState) -> None:
        super().__init__(config, initial)
        self._server = server

    def step(self, event: Event) -> Update:
        """Step, then check."""
        update = super().step(event)
        self._server.world.checker.stepped(int(self._server.node), self, update)
        return update


class SimulatedServer:
    """`life` counts starts and ends: what an earlier life had planned is void.

    `dies_after`: how many effects the server carries out before it dies in the middle of a step. `is_broken` says why
    it cannot start any more. `is_removed` by an operator; it may well run on.
    """

    def __init__(self, world: Simulation, node: NodeId) -> None:
        self.world = world
        self.node = node
        self.life = 0
        self.is_up = False
        self.is_broken = ""
        self.is_removed = False
        self.tick_ms = world.draw_tick_ms()
        self.clock_offset_ms = 0
        self.disk = SimulatedDisk(world.plan.voters)
        self.dies_after: int | None = None
        self.paused_until = 0
        self.crashed_in_joint = False
        self.driver: Driver
        self.log: RaftStorage
        self.machine: StateMachine
        self._forget_everything()

    def _forget_everything(self) -> None:
        """What a new process knows: nothing."""
        self.proposals = ProposalTable(MAX_ENTRY_BYTES)
        self._tick_due = 0
        self.work = Work(self)
        self.transfers = Transfers(self)
        self.read_barriers = SimulatedReadBarriers(self)

    @property
    def raft(self) -> Raft:
        """The core, for looking at it."""
        return self.driver.raft

    @property
    def is_leader(self) -> bool:
        """Whether this server is up and leads, as far as it knows."""
        return self.is_up and self.raft.role is Role.LEADER

    def members(self) -> ClusterMembers:
        """Who the members are, as applied here."""
        return ClusterMembers.of(self.machine.members())

    # Life and death

    def start(self) -> None:
        """Start from what the disk holds, as server/parleyd/node.py does."""
        world = self.world
        self.life += 1
        self.dies_after = None
        self.paused_until = 0
        self._forget_everything()
        try:
            self.log, self.machine = self.disk.open_log(), self.disk.open_machine()
            recovered = reconcile(
                self.log.load(),
                Index(self.machine.applied_index),
                Term(self.machine.applied_term),
                decode_membership(self.machine.membership),
            )
            if recovered.repair is not None:
                repair = recovered.repair
                world.counters["start-repairs-log"] += 1
                self.disk.write(lambda: self.log.append([repair]), self.disk.log_connection, world.rng)
            require(not self.disk.is_lost, f"{self.node} starts from a disk that was altered")
        except (StorageDamagedError, MachineDamagedError) as error:
            require(self.disk.is_lost, f"{self.node} takes its sound disk for damaged: {error}")
            world.counters["start-refused-damaged-disk"] += 1
            self.is_broken = "damaged"
            world.note(f"{self.node} does not start: {error}")
            return
        except (StorageError, apsw.Error):
            world.counters["start-fails-for-now"] += 1
            self.disk.roll_back()
            world.after(NodeId(0), 500, lambda: world.start(self))
            return
        self._run(recovered)

    def _run(self, recovered: Recovered) -> None:
        world = self.world
        self.is_up = True
        bounds = LogBounds(world.plan.retain_entries, RETAIN_BYTES)
        self.retention = LogRetention(bounds, recovered.applied_entries())
        raft = CheckedRaft(self, self._config(), recovered.initial_state())
        self.driver = Driver(raft, self)
        world.checker.started(int(self.node), raft)
        world.note(f"{self.node} starts in term {raft.term}, applied {recovered.applied_index}")
        self._plan_tick(world.rng.randint(1, self.tick_ms))

    def _config(self) -> RaftConfig:
        plan = self.world.plan
        return RaftConfig(
            node_id=self.node,
            election_timeout_ticks=ELECTION_TICKS,
            pre_vote=plan.pre_vote,
            check_quorum=plan.check_quorum,
            max_entries_bytes=plan.max_entries_bytes,
            max_inflight_messages=plan.max_inflight_messages,
            max_uncommitted_bytes=plan.max_uncommitted_bytes,
            max_applying_bytes=plan.max_applying_bytes,
            max_pending_reads=64,
            seed=plan.seed * 1000 + self.life,
        )

    def die(self, why: str, *, power: bool = False) -> None:
        """End at once. What was being written is on disk whole or not at all; nobody was told."""
        world, rng = self.world, self.world.rng
        self.is_up = False
        self.life += 1
        self.work.end()
        if power:
            before = self.machine.applied_index
            self.disk.lose_power(rng)
            if self.disk.open_machine().applied_index < before:
                world.counters["power-loss-took-state-back"] += 1
        if world.is_joint():
            self.crashed_in_joint = True
        self.transfers.fail()
        world.note(f"{self.node} dies: {why}")

    # Everything that happens to a running server

    def act(self, action: Callable[[], None]) -> None:
        """Let something happen and carry out what follows; the server may die in the middle of it."""
        require(self.is_up, f"the simulation lets {self.node} act, which is down")
        try:
            action()
            self._settle()
        except Crashed:
            self.world.faults["crash-in-step"] += 1
            self.die("in the middle of a step")
            self.world.restart_later(self)
        except (StorageError, MachineStorageError, apsw.FullError, apsw.IOError) as error:
            self.world.counters["stopped-by-its-disk"] += 1
            self.die(f"its disk fails ({type(error).__name__})")
            self.world.restart_later(self)

    def step(self, event: Event) -> None:
        """Step the core, with what follows."""
        self.act(lambda: self.driver.step(event))

    def _settle(self) -> None:
        """The end of every turn of the loop: propose what was gathered, start work (Replica._carry_out)."""
        if self.proposals.gathered and not self.driver.is_writing:
            self._propose_gathered()
        context = self.read_barriers.next_question()
        if context is not None:
            self.driver.step(ReadIndex(context))
        self.driver.pump()

    def effect(self) -> None:
        """Something the server does that others may see; it may be the last."""
        if self.dies_after is not None:
            self.dies_after -= 1
            if self.dies_after < 0:
                self.dies_after = None
                raise Crashed

    def _plan_tick(self, delay_ms: int) -> None:
        self._tick_due = self.world.now + delay_ms
        self.world.after(self.node, delay_ms, self._tick)

    def _tick(self) -> None:
        """Tick; after a pause of the whole process only a few ticks are made up for (Replica._tick)."""
        late = (self.world.now - self._tick_due) // self.tick_ms
        self._plan_tick(self.tick_ms)
        for _ in range(min(MAX_CATCH_UP_TICKS, 1 + late)):
            if self.is_up:
                self.step(Tick())

    def receive(self, message: Message) -> None:
        """A message of another server's core."""
        self.step(Receive(message))

    def peer_lost(self, node: NodeId) -> None:
        """The connection to `node` broke: if it led, ask for pre-votes soon (Replica.peer_lost)."""
        if node != self.raft.leader or node == self.node:
            return
        self.step(ForgetLeader())
        if self.is_up:
            self.world.after(self.node, self.world.rng.randint(5, 100), self._campaign_if_leaderless)

    def _campaign_if_leaderless(self) -> None:
        if self.raft.leader == NO_NODE:
            self.step(Campaign())

    # Proposals

    def propose(self, commands: Sequence[pb.Command], then: Callable[[AppliedCommands | ProposalError], None]) -> None:
        """Put commands in the log; `then` is told what became of them, unless this server dies first."""
        if not self.is_leader:
            then(NotLeaderError("this node does not lead"))
            return
        size = sum(command.ByteSize() for command in commands)
        self.proposals.gathered.append(Proposal(commands, cast("asyncio.Future[AppliedCommands]", Outcome(then)), size))
        self.act(lambda: None)

    def forwarded(
        self, commands: Sequence[pb.Command], then: Callable[[AppliedCommands | ProposalError], None]
    ) -> None:
        """Commands that another server passed on."""
        if self.is_up:
            self.propose(commands, then)

    def _propose_gathered(self) -> None:
        for payload, proposals in self.proposals.take_entries(self.world.wall_clock_ms(self)):
            answer = self.driver.propose([payload])
            if answer.refusal is not None:
                reason = answer.refusal.value
                self.world.counters["refused-" + reason] += 1
                for proposal in proposals:
                    overloaded = answer.refusal is Refusal.OVERLOADED
                    proposal.fail(OverloadedError(reason) if overloaded else NotLeaderError(reason))
            else:
                self.proposals.proposed(answer.first_index, answer.term, proposals)

    def change(self, decide: Callable[[], ConfChange | None]) -> bool:
        """Propose the membership change that `decide` returns, in the same step; False if it was not taken."""
        taken = False

        def propose() -> None:
            nonlocal taken
            change = decide()
            if change is None:
                return
            answer = self.driver.propose_change(encode_conf_change(change))
            taken = answer.refusal is None
            self.world.counters["change-refused" if answer.refusal is not None else "change-proposed"] += 1
            if taken and self.world.network.blocked:
                self.world.counters["change-proposed-in-partition"] += 1

        self.act(propose)
        return taken

    # Reads

    def read(self, then: Callable[[], None]) -> None:
        """Call `then` when the state here holds all that was acknowledged before; never, if it cannot be told."""
        self.read_barriers.add(then)
        self.act(lambda: None)

    # Callbacks of the driver

    def send(self, messages: Sequence[Message]) -> None:
        """Messages leave, one by one."""
        for message in messages:
            self.effect()
            self.world.checker.left(message, self.disk)
            if message.type is MessageType.SNAPSHOT:
                self.transfers.send(message)
            else:
                self.world.send(message, self._tell_sender(message))

    def _tell_sender(self, message: Message) -> Tell:
        life = self.life

        def tell(delivered: bool) -> None:
            if self.life == life and not delivered and self.world.rng.random() < 0.2:
                self.world.after(self.node, 1, lambda: self.step(Unreachable(message.to)))

        return tell

    def start_write(self, writes: Sequence[Persist]) -> None:
        """Durable after a while, all of it or nothing."""
        self.effect()
        self.work.write(writes)

    def start_apply(self, entries: Sequence[Entry], conf_state: ConfState | None) -> None:
        """One transaction of the state machine, after a while."""
        self.effect()
        self.work.apply(entries, conf_state)

    def start_install(self, snapshot: SnapshotMeta, write: Persist) -> None:
        """State first, log second; in between the server may die."""
        self.effect()
        self.work.install(snapshot, write)

    def role_changed(self, change: RoleChange) -> None:
        """The first that others hear of an election."""
        self.effect()
        world = self.world
        world.note(f"{self.node} is {change.role.value} in {change.term}, leader {change.leader}")
        if change.role is Role.LEADER:
            world.counters["elected"] += 1
            world.last_leader = self.node
            if world.is_joint():
                world.counters["elected-in-joint-membership"] += 1
            if world.network.blocked:
                world.counters["elected-in-partition"] += 1

    def reads_ready(self, reads: Sequence[ReadReady], dropped: Sequence[bytes]) -> None:
        """Reads may go on once their index is applied; dropped ones are asked again by who wants to know."""
        self.effect()
        self.read_barriers.answered(reads, dropped)

    def snapshot_needed(self, nodes: Sequence[NodeId]) -> None:
        """Make a snapshot, unless one is being made."""
        self.effect()
        self.transfers.needed(nodes)

    def receive_snapshot(self, message: Message, body: SnapshotBody, tell: Tell) -> None:
        """All of a snapshot has come: keep it, tell the core, and say when it counts."""
        if self.transfers.keep(body, tell):
            self.receive(message)
            if self.is_up:
                self.wake_waiters()

    def wake_waiters(self) -> None:
        """The state has moved on: some may have waited for that."""
        reached = self.driver.applied_index
        self.transfers.reached(reached)
        self.read_barriers.reached(reached)
