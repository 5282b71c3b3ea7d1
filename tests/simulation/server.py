"""One simulated server: the real core under the real driver, with the real log, state machine and recovery.

It is what server/replica/replica.py is to the product: it puts work behind the driver's ports, here as things that
happen later in simulated time. It can die between any two effects of a step, in the middle of a write, an apply or an
install, and starts again from what its disk has kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

import apsw

from proto.parley.v1 import state_pb2 as pb
from server.machine.errors import MachineDamagedError, MachineStorageError
from server.machine.machine import ApplyOutcome, StateMachine
from server.machine.records import MessageStored
from server.raft.config import InitialState, RaftConfig
from server.raft.events import (
    Campaign,
    Compact,
    Event,
    ForgetLeader,
    ReadIndex,
    Receive,
    SnapshotAvailable,
    SnapshotStatus,
    Tick,
    Unreachable,
)
from server.raft.membership import ConfChange, encode_conf_change, members_of
from server.raft.messages import Message, MessageType
from server.raft.raft import Raft
from server.raft.types import NO_NODE, ConfState, Entry, EntryType, Index, NodeId, Role, SnapshotMeta, Term
from server.raft.update import Persist, ReadReady, RoleChange, Update
from server.replica.driver import Driver
from server.replica.errors import NotLeaderError, OverloadedError, ProposalError
from server.replica.members import ClusterMembers, to_committed
from server.replica.proposals import AppliedCommands, Proposal, ProposalTable
from server.replica.retention import LogBounds, RetainedLog
from server.storage.errors import StorageDamagedError, StorageError
from server.storage.raft_log import RaftLog
from server.storage.recovery import Recovered, reconcile
from server.transport.codec import decode_membership
from tests.simulation.checker import require
from tests.simulation.disk import SimulatedDisk, load_image
from tests.simulation.plan import ELECTION_TICKS

if TYPE_CHECKING:
    import asyncio

    from tests.simulation.simulation import Simulation

MAX_ENTRY_BYTES = 4_096
MAX_CATCH_UP_TICKS = 3
MAX_RECEIVED = 4
RETAIN_BYTES = 1 << 20
SNAPSHOT_TIMEOUT_MS = 2_000


class Crashed(Exception):  # noqa: N818 (not an error: the end of one life)
    """The server has died in the middle of carrying something out."""


@dataclass(frozen=True, slots=True)
class SnapshotBody:
    """A snapshot's content: the whole state machine as of `meta`."""

    meta: SnapshotMeta
    image: bytes


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
        self.log: RaftLog
        self.machine: StateMachine
        self._forget_everything()

    def _forget_everything(self) -> None:
        """What a new process knows: nothing."""
        self.proposals = ProposalTable(MAX_ENTRY_BYTES)
        self._writing: Sequence[Persist] | None = None
        self._applying: tuple[Sequence[Entry], ConfState | None] | None = None
        self._installing: tuple[SnapshotMeta, Persist, bool] | None = None
        self._made: SnapshotBody | None = None
        self._making = False
        self._cutting = False
        self._received: dict[tuple[int, int], SnapshotBody] = {}
        self._transfers: list[tuple[Index, Callable[[bool], None]]] = []
        self._fences_gathered: list[Callable[[Index], None]] = []
        self._fences: dict[bytes, list[Callable[[Index], None]]] = {}
        self._fences_asked_at: dict[bytes, int] = {}
        self._fence_number = 0
        self._tick_due = 0
        self._applied_waiters: list[tuple[Index, Callable[[], None]]] = []

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
        """Start from what the disk holds, as server/node.py does."""
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
        kept = [entry for entry in recovered.entries if entry.index <= recovered.applied_index]
        self.retained = RetainedLog(LogBounds(world.plan.retain_entries, RETAIN_BYTES), kept)
        initial = InitialState(
            hard_state=recovered.hard_state,
            conf_state=recovered.conf_state,
            snapshot_index=recovered.snapshot.index,
            snapshot_term=recovered.snapshot.term,
            entries=recovered.entries,
            applied_index=recovered.applied_index,
        )
        raft = CheckedRaft(self, self._config(), initial)
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
        if self._writing is not None:
            kept = rng.random() < 0.5 and self._try(partial(self.log.append, self._writing))
            world.counters["write-kept-untold" if kept else "write-lost"] += 1
        if self._applying is not None:
            entries, conf_state = self._applying
            if rng.random() < 0.5 and self._try(lambda: self._apply(entries, conf_state)):
                world.counters["apply-kept-untold"] += 1
        self.disk.roll_back()
        if self._installing is not None and self._installing[2]:
            world.counters["died-between-state-and-log"] += 1
        if power:
            before = self.machine.applied_index
            self.disk.lose_power(rng)
            if self.disk.open_machine().applied_index < before:
                world.counters["power-loss-took-state-back"] += 1
        if world.is_joint():
            self.crashed_in_joint = True
        for _, tell in self._transfers:
            tell(False)
        world.note(f"{self.node} dies: {why}")

    def _try(self, work: Callable[[], object]) -> bool:
        try:
            work()
        except (StorageError, MachineStorageError, apsw.Error):
            return False
        return True

    # Everything that happens to a running server

    def act(self, action: Callable[[], None]) -> None:
        """Let something happen and carry out what follows; the server may die in the middle of it."""
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
        if self._fences_gathered:
            self._fence_number += 1
            context = b"%d/%d/%d" % (self.node, self.life, self._fence_number)
            self._fences[context], self._fences_gathered = self._fences_gathered, []
            self._fences_asked_at[context] = self.world.now
            self.world.checker.asked_to_read(context)
            self.driver.step(ReadIndex(context))
        self.driver.pump()

    def _effect(self) -> None:
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
            if answer.reason:
                self.world.counters["refused-" + answer.reason] += 1
                for proposal in proposals:
                    proposal.fail(
                        OverloadedError(answer.reason)
                        if answer.reason == "overloaded"
                        else NotLeaderError(answer.reason)
                    )
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
            taken = not answer.reason
            self.world.counters["change-refused" if answer.reason else "change-proposed"] += 1
            if taken and self.world.network.blocked:
                self.world.counters["change-proposed-in-partition"] += 1

        self.act(propose)
        return taken

    # Reads

    def read(self, then: Callable[[], None]) -> None:
        """Call `then` when the state here holds all that was acknowledged before; never, if it cannot be told."""

        def applied(index: Index) -> None:
            if index <= self.machine.applied_index:
                then()
            else:
                self._applied_waiters.append((index, then))

        self._fences_gathered.append(applied)
        self.act(lambda: None)

    def oldest_fence_ms(self) -> int:
        """How long the oldest question for a read index has waited."""
        return self.world.now - min(self._fences_asked_at.values(), default=self.world.now)

    # Ports of the driver

    def send(self, messages: Sequence[Message]) -> None:
        """Messages leave, one by one."""
        for message in messages:
            self._effect()
            self.world.checker.left(message, self.disk)
            if message.type is MessageType.SNAPSHOT:
                self._send_snapshot(message)
            else:
                self.world.send(message, self._tell_sender(message))

    def _tell_sender(self, message: Message) -> Callable[[bool], None]:
        def tell(delivered: bool) -> None:
            if not delivered and self.world.rng.random() < 0.2:
                self.world.after(self.node, 1, lambda: self.step(Unreachable(message.to)))

        return tell

    def start_write(self, writes: Sequence[Persist]) -> None:
        """Durable after a while, all of it or nothing."""
        self._effect()
        self._note_truncation(writes)
        self._writing = writes
        world = self.world
        delay = max(world.delay(world.plan.max_write_ms), self.disk.stalled_until - world.now)
        world.after(self.node, delay, lambda: self.act(self._finish_write))

    def _finish_write(self) -> None:
        writes = self._writing
        assert writes is not None
        self._writing = None
        self.disk.write(lambda: self.log.append(writes), self.disk.log_connection, self.world.rng)
        for write in writes:
            for message in write.done.messages:
                self.world.checker.left(message, self.disk)
        self.driver.written()

    def start_apply(self, entries: Sequence[Entry], conf_state: ConfState | None) -> None:
        """One transaction of the state machine, after a while."""
        self._effect()
        self._applying = (entries, conf_state)
        world = self.world
        world.after(self.node, world.delay(world.plan.max_apply_ms), lambda: self.act(self._finish_apply))

    def _finish_apply(self) -> None:
        assert self._applying is not None
        (entries, conf_state), self._applying = self._applying, None
        outcomes: list[ApplyOutcome] = []
        self.disk.write(
            lambda: outcomes.append(self._apply(entries, conf_state)), self.disk.state_connection, self.world.rng
        )
        [outcome] = outcomes
        world = self.world
        for entry, results in zip(entries, outcome.results, strict=True):
            self.proposals.applied(entry.index, entry.term, results)
        self.driver.applied()
        self.retained.applied(entries)
        self.disk.sample_image(outcome.applied_index, world.rng)
        self._wake_waiters()
        if self.retained.is_long and not self._cutting:
            self._cutting = True
            world.after(self.node, world.delay(20), lambda: self.act(self._cut_log))

    def _apply(self, entries: Sequence[Entry], conf_state: ConfState | None) -> ApplyOutcome:
        world = self.world
        outcome = self.machine.apply(to_committed(entries, conf_state))
        require(not outcome.failures, f"a command failed in a way nobody foresaw: {outcome.failures}")
        world.checker.has_applied(int(self.node), outcome.applied_index, self.machine.state_hash)
        for effect in outcome.effects:
            if isinstance(effect, MessageStored):
                world.ledger.stored(effect.message)
        if conf_state is not None:
            world.note_membership(self, entries[0], conf_state)
        return outcome

    def _cut_log(self) -> None:
        self._cutting = False
        if self._installing is not None or not self.retained.is_long:
            return
        durable = self.machine.checkpoint()
        self.disk.checkpointed(durable)
        cut = self.retained.plan_cut(durable)
        if cut is None or self.driver.is_writing:  # one thread writes the log: the cut waits its turn
            return
        self._effect()
        self.log.compact(SnapshotMeta(*cut, self.raft.conf_state))
        self.retained.cut(cut[0])
        self._effect()
        self.world.counters["log-cut"] += 1
        self.driver.step(Compact(cut[0]))

    def start_install(self, snapshot: SnapshotMeta, write: Persist) -> None:
        """State first, log second; in between the server may die."""
        self._effect()
        self._installing = (snapshot, write, False)
        self.world.after(self.node, self.world.delay(60), lambda: self.act(self._replace_state))

    def _replace_state(self) -> None:
        assert self._installing is not None
        snapshot, write, _ = self._installing
        body = self._received.pop((snapshot.index, snapshot.term))
        self.disk.install(body.image, snapshot.index)
        self.machine = self.disk.open_machine()
        self._installing = (snapshot, write, True)
        world = self.world
        if world.next_install_dies and not world.network.is_healed:
            world.next_install_dies = False
            raise Crashed
        world.after(self.node, world.delay(60), lambda: self.act(self._reset_log))

    def _reset_log(self) -> None:
        assert self._installing is not None
        snapshot, write, _ = self._installing
        self.disk.write(lambda: self.log.append([write]), self.disk.log_connection, self.world.rng)
        self._installing = None
        world = self.world
        for message in write.done.messages:
            world.checker.left(message, self.disk)
        world.checker.has_applied(int(self.node), snapshot.index, self.machine.state_hash)
        brought = decode_membership(self.machine.membership)
        require(
            brought == snapshot.conf_state,
            f"the snapshot at {snapshot.index} brings {brought} and not {snapshot.conf_state}",
        )
        self._count_install(snapshot)
        self.proposals.skipped_to(snapshot.index)
        self.retained.start_over()
        self.driver.installed()
        self._wake_waiters()

    def _count_install(self, snapshot: SnapshotMeta) -> None:
        counters = self.world.counters
        counters["snapshot-installed"] += 1
        if snapshot.conf_state.voters_outgoing:
            counters["snapshot-of-joint-membership-installed"] += 1
        if self.crashed_in_joint:
            self.crashed_in_joint = False
            counters["joint+crash+snapshot"] += 1
        if self._received:
            counters["snapshots-back-to-back"] += 1

    def role_changed(self, change: RoleChange) -> None:
        """The first that others hear of an election."""
        self._effect()
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
        self._effect()
        for ready in reads:
            self.world.checker.read_is_ready(int(self.node), ready)
            del self._fences_asked_at[ready.context]
            for fence in self._fences.pop(ready.context):
                fence(ready.index)
        for context in dropped:
            self.world.checker.reads.pop(context)
            del self._fences[context], self._fences_asked_at[context]
            self.world.counters["read-dropped"] += 1

    def snapshot_needed(self, nodes: Sequence[NodeId]) -> None:
        """Make a snapshot, unless one is being made."""
        self._effect()
        if not self._making:
            self._making = True
            self.world.after(self.node, self.world.delay(50), lambda: self.act(lambda: self._offer_snapshot(nodes)))

    def _offer_snapshot(self, nodes: Sequence[NodeId]) -> None:
        self._making = False
        if self._installing is not None:
            return
        made = self._made
        first_index = self.raft.status().first_index
        if made is None or made.meta.index < first_index - 1 or not {*nodes} <= {*members_of(made.meta.conf_state)}:
            machine = self.machine
            meta = SnapshotMeta(
                Index(machine.applied_index), Term(machine.applied_term), decode_membership(machine.membership)
            )
            made = self._made = SnapshotBody(meta, self.disk.state_connection.serialize("main"))
            self.world.counters["snapshot-made"] += 1
        self.driver.step(SnapshotAvailable(made.meta))

    # Snapshots on their way

    def _send_snapshot(self, message: Message) -> None:
        world, made, life = self.world, self._made, self.life

        def tell(ok: bool) -> None:
            if not ok:
                world.counters["snapshot-transfer-failed"] += 1
            if self.life == life:
                world.after(self.node, 1, lambda: self.step(SnapshotStatus(message.to, ok)))

        if made is None or message.snapshot is None or made.meta != message.snapshot:
            tell(False)
            return
        world.send_snapshot(message, made, tell)

    def receive_snapshot(self, message: Message, body: SnapshotBody, tell: Callable[[bool], None]) -> None:
        """All of a snapshot has come: keep it, tell the core, and say when it counts."""
        key = (int(body.meta.index), int(body.meta.term))
        if len(self._received) >= MAX_RECEIVED and key not in self._received:
            tell(False)
            return
        self._received[key] = body
        self._transfers.append((body.meta.index, tell))
        self.world.after(self.node, SNAPSHOT_TIMEOUT_MS, lambda: self._end_transfer(tell))
        self.receive(message)
        if self.is_up:
            self._wake_waiters()

    def _end_transfer(self, tell: Callable[[bool], None]) -> None:
        if any(known is tell for _, known in self._transfers):
            self._transfers = [(index, known) for index, known in self._transfers if known is not tell]
            tell(False)

    def _wake_waiters(self) -> None:
        reached = self.driver.applied_index
        ended = [tell for index, tell in self._transfers if index <= reached]
        self._transfers = [(index, tell) for index, tell in self._transfers if index > reached]
        for tell in ended:
            tell(True)
        if ended:
            for key in [key for key in self._received if key[0] <= reached]:
                del self._received[key]
        ready = [then for index, then in self._applied_waiters if index <= reached]
        self._applied_waiters = [(index, then) for index, then in self._applied_waiters if index > reached]
        for then in ready:
            then()

    # What is worth counting

    def _note_truncation(self, writes: Sequence[Persist]) -> None:
        """Count log tails that are replaced, and those with a membership entry in them."""
        last = self.log.last_index
        for write in writes:
            if not write.entries:
                continue
            first = write.entries[0].index
            if first <= last:
                self.world.counters["log-tail-replaced"] += 1
                query = "SELECT count(*) FROM entries WHERE idx >= ? AND type <> ?"
                if self.disk.log_connection.execute(query, (first, int(EntryType.NORMAL))).get:
                    self.world.counters["membership-entry-truncated"] += 1
            last = write.entries[-1].index


def content_of(server: SimulatedServer) -> list[tuple[str, list[tuple[object, ...]]]]:
    """Every row of the state, for comparing what two servers hold."""
    connection = load_image(server.disk.state_connection.serialize("main"))
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
    return [
        (table, connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall())
        for table in tables
        if table != "checkpoints"  # each node's own
    ]
