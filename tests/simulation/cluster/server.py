"""One simulated server: the product's own group (parleyd.group.group) with the real log, state machine and recovery.

It is what parleyd.group.runner is to the product: it hands inputs to the pure group and carries out its effects, here
as things that happen later in simulated time. It decides nothing. It can die between any two effects, in the middle of
a write, an apply or an install, and starts again from what its disk has kept.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, assert_never

import apsw

from parley_proto.v1 import state_pb2 as pb
from parleyd.group.effects import (
    AppliedReached,
    ChangeRefused,
    ClocksJudged,
    CommandsAnswered,
    CompactLog,
    DiskStalled,
    Effect,
    ElectionStarted,
    EntriesLost,
    LoopJudged,
    LoopLags,
    MakeSnapshot,
    MembersChanged,
    MessageDropped,
    NodeRetired,
    ReadAnswered,
    RoleChanged,
    Send,
    SnapshotAnswered,
    StartApply,
    StartCheckpoint,
    StartInstall,
    StartWrite,
    StateReplaced,
    TransferEnded,
    VoteGiven,
)
from parleyd.group.errors import ProposalFailure
from parleyd.group.group import Group
from parleyd.group.inputs import (
    AskReadBarrier,
    AwaitApplied,
    ChangeMembers,
    ClockReported,
    Input,
    MessageReceived,
    PeerLost,
    PeerUnreachable,
    ProposeCommands,
    TimePassed,
    TransferLeadership,
    Withdraw,
)
from parleyd.group.leader_watch import NO_SUSPICION, SilenceBounds
from parleyd.group.proposals import AppliedCommands
from parleyd.group.retention import LogBounds
from parleyd.group.settings import GroupSettings, GroupStart
from parleyd.machine.errors import MachineDamagedError, MachineStorageError
from parleyd.machine.machine import StateMachine
from parleyd.membership.members import ClusterMembers
from parleyd.membership.rules import MembershipRequest
from parleyd.raft.config import InitialState, RaftConfig
from parleyd.raft.events import Event, Propose, ReadIndex
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.raft import Raft
from parleyd.raft.types import NO_NODE, Index, NodeId, Role, Term
from parleyd.raft.update import RoleChange, Update
from parleyd.storage.errors import StorageDamagedError, StorageError
from parleyd.storage.raft_storage import RaftStorage
from parleyd.storage.recovery import Recovered, reconcile
from parleyd.transport.codec import decode_membership
from tests.simulation.cluster.checker import require
from tests.simulation.cluster.disk import SimulatedDisk
from tests.simulation.cluster.plan import ELECTION_TICKS
from tests.simulation.cluster.transfers import SnapshotBody, Tell, Transfers
from tests.simulation.cluster.work import Crashed, Work

if TYPE_CHECKING:
    from tests.simulation.cluster.simulation import Simulation

MAX_ENTRY_BYTES = 4_096
ENOUGH_BYTES = 500
RETAIN_BYTES = 1 << 20
RETRY_MS = 500
READ_PATIENCE_MS = 5_000

Answer = AppliedCommands | ProposalFailure


class CheckedRaft(Raft):
    """The core; after every step all that must hold is checked."""

    def __init__(self, server: SimulatedServer, config: RaftConfig, initial: InitialState) -> None:
        super().__init__(config, initial)
        self._server = server

    def step(self, event: Event) -> Update:
        """Step, then check."""
        world = self._server.world
        if isinstance(event, ReadIndex):
            world.checker.asked_to_read(event.context)
        if isinstance(event, Propose) and self.role is Role.LEADER:
            self._check_stamps(event.payloads)
        update = super().step(event)
        world.checker.stepped(int(self._server.node), self, update)
        for ready in update.reads:
            world.checker.read_is_ready(int(self._server.node), ready)
        for context in update.dropped_reads:
            world.checker.reads.pop(context)
            world.counters["read-dropped"] += 1
        return update

    def _check_stamps(self, payloads: Sequence[bytes]) -> None:
        """Whatever its own clock says, a leader stamps no time that a majority of the voters has never reached.

        Reports are from the past, so a voter counts with the furthest that its clock was ever ahead.
        """
        world, conf = self._server.world, self.conf_state
        for voters in (conf.voters, conf.voters_outgoing):
            times = sorted((world.furthest_clock_ms(world.servers[node]) for node in voters), reverse=True)
            for payload in payloads if times else ():
                stamp = pb.CommandBatch.FromString(payload).proposed_at_ms
                reached = times[len(voters) // 2]
                require(stamp <= reached, f"{self._server.node} stamps {stamp}, and a majority has reached {reached}")
                world.counters["stamped-below-its-own-clock"] += stamp < world.wall_clock_ms(self._server)


class SimulatedServer:
    """`life` counts starts and ends: what an earlier life had planned is void.

    `dies_after`: how many effects the server carries out before it dies in the middle of a turn. `is_broken` says why
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
        self.furthest_offset_ms = 0
        self.disk = SimulatedDisk(world.plan.voters)
        self.dies_after: int | None = None
        self.paused_until = 0
        self.crashed_in_joint = False
        self.group: Group
        self.log: RaftStorage
        self.machine: StateMachine
        self._forget_everything()

    def _forget_everything(self) -> None:
        """What a new process knows: nothing."""
        self._inbox: list[Input] = []
        self._is_acting = False
        self._armed_for: int | None = None
        self._last_token = 0
        self._reported_votes: dict[Term, NodeId] = {}
        self._waiting: dict[int, Callable[[Any], None]] = {}
        self.work = Work(self)
        self.transfers = Transfers(self)

    @property
    def raft(self) -> Raft:
        """The core, for looking at it."""
        return self.group.raft

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
        world, plan = self.world, self.world.plan
        self.is_up = True
        raft = CheckedRaft(self, self._config(), recovered.initial_state())
        settings = GroupSettings(
            tick_ms=self.tick_ms,
            retry_ms=RETRY_MS,
            log_bounds=LogBounds(plan.retain_entries, RETAIN_BYTES),
            max_entry_bytes=MAX_ENTRY_BYTES,
            enough_bytes=ENOUGH_BYTES if plan.gathers else 0,
            silence=_silence_bounds(self.tick_ms) if plan.asks_early else NO_SUSPICION,
        )
        start = GroupStart(
            members=self.members(),
            level=self.machine.level,
            kept_entries=recovered.applied_entries(),
            now_ms=world.now + world.rng.randint(1, self.tick_ms) - self.tick_ms,
            rng=random.Random(f"group/{plan.seed}/{self.node}/{self.life}"),
        )
        self.group = Group(raft, settings, start)
        world.checker.started(int(self.node), raft)
        world.note(f"{self.node} starts in term {raft.term}, applied {recovered.applied_index}")
        self._arm_timer()

    def _config(self) -> RaftConfig:
        plan = self.world.plan
        return RaftConfig(
            node_id=self.node,
            election_timeout_ticks=ELECTION_TICKS,
            pre_vote=plan.pre_vote,
            check_quorum=plan.check_quorum,
            commit_notices=plan.commit_notices,
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

    def act(self, *inputs: Input) -> None:
        """Let something happen and carry out what follows; the server may die in the middle of it."""
        require(self.is_up, f"the simulation lets {self.node} act, which is down")
        self._inbox.extend(inputs)
        if not self._is_acting:
            self.attempt(self._take_turns)

    def attempt(self, action: Callable[[], None]) -> None:
        """Do something that ends this life if its disk fails, or if this is where it dies."""
        try:
            action()
        except Crashed:
            self.world.faults["crash-in-step"] += 1
            self.die("in the middle of a step")
            self.world.restart_later(self)
        except (StorageError, MachineStorageError, apsw.FullError, apsw.IOError) as error:
            self.world.counters["stopped-by-its-disk"] += 1
            self.die(f"its disk fails ({type(error).__name__})")
            self.world.restart_later(self)

    def _take_turns(self) -> None:
        self._is_acting = True
        try:
            while self._inbox:
                inputs, self._inbox = self._inbox, []
                for effect in self.group.handle(inputs, self.world.now, self.world.wall_clock_ms(self)):
                    self._carry_out(effect)
        finally:
            self._is_acting = False
        self._arm_timer()

    def effect(self) -> None:
        """Something the server does that others may see; it may be the last."""
        if self.dies_after is not None:
            self.dies_after -= 1
            if self.dies_after < 0:
                self.dies_after = None
                raise Crashed

    def _arm_timer(self) -> None:
        due = math.ceil(self.group.next_deadline_ms)
        if self._armed_for is None or due < self._armed_for:
            self._armed_for = due
            self.world.after(self.node, max(due - self.world.now, 0), partial(self._timer_fired, due))

    def _timer_fired(self, due: int) -> None:
        if due == self._armed_for:
            self._armed_for = None
            self.act(TimePassed())

    def _expect(self, then: Callable[[Any], None]) -> int:
        self._last_token += 1
        self._waiting[self._last_token] = then
        return self._last_token

    def _answer(self, token: int, answer: object) -> None:
        then = self._waiting.pop(token, None)
        if then is not None:
            then(answer)

    # What others say and ask

    def receive(self, message: Message, wall_ms: int) -> None:
        """A message of another server's core, and what its clock showed when it left."""
        self.act(MessageReceived(message), ClockReported(message.sender, wall_ms))

    def peer_lost(self, node: NodeId) -> None:
        """The connection to `node` broke."""
        if node != NO_NODE:
            self.act(PeerLost(node))

    def propose(self, commands: Sequence[pb.Command], then: Callable[[Answer], None]) -> None:
        """Put commands in the log; `then` is told what became of them, unless this server dies first."""
        if self.is_up:
            self.act(ProposeCommands(self._expect(then), commands))

    def change(self, request: MembershipRequest) -> bool:
        """Propose a membership change; False if it was not taken."""
        counters, answers = self.world.counters, list[Answer | ChangeRefused]()
        self.act(ChangeMembers(self._expect(answers.append), request))
        for answer in answers:
            if isinstance(answer, ChangeRefused):
                counters["change-refused-by-rules"] += 1
            elif isinstance(answer, ProposalFailure):
                counters["change-refused"] += 1
            return False
        counters["change-proposed"] += 1
        counters["change-proposed-in-partition"] += bool(self.world.network.blocked)
        return True

    def read(self, then: Callable[[], None]) -> None:
        """Call `then` when the state here holds all that was acknowledged before; never, if it cannot be told."""

        def is_known(index: Index) -> None:
            self.wait_applied(index, then)

        token = self._expect(is_known)
        self.act(AskReadBarrier(token))
        if token in self._waiting and self.is_up:
            self.world.after(self.node, READ_PATIENCE_MS, partial(self.withdraw, token))

    def wait_applied(self, index: Index, then: Callable[[], None]) -> int:
        """Call `then` when `index` is applied here; returns the token to withdraw by."""
        token = self._expect(lambda _: then())
        self.act(AwaitApplied(token, index))
        return token

    def withdraw(self, token: int) -> None:
        """Nobody waits for this any more."""
        if self._waiting.pop(token, None) is not None:
            self.act(Withdraw(token))

    def transfer_leadership(self, target: NodeId) -> None:
        """Transfer leadership, as an operator asks."""
        self.act(TransferLeadership(self._expect(lambda _: None), target))

    def receive_snapshot(self, message: Message, body: SnapshotBody, tell: Tell) -> None:
        """All of a snapshot has come: keep it, tell the core, and say when it counts."""
        if self.transfers.keep(body, tell):
            self.receive(message, self.world.wall_clock_ms(self.world.servers[message.sender]))

    # Effects

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Send(messages):
                self._send(messages)
            case CommandsAnswered(token, outcome):
                if isinstance(outcome, ProposalFailure):
                    self.world.counters["refused-" + outcome.value] += 1
                self._answer(token, outcome)
            case ReadAnswered(token, index):
                self.effect()
                self._answer(token, index)
            case ChangeRefused(token) | AppliedReached(token) | TransferEnded(token) | SnapshotAnswered(token):
                self._answer(token, effect)
            case StartWrite(writes):
                self.effect()
                self.work.write(writes)
            case StartApply(entries, conf_state):
                self.effect()
                self.work.apply(entries, conf_state)
            case StartInstall(snapshot, write):
                self.effect()
                self.work.install(snapshot, write)
            case StartCheckpoint():
                self.work.checkpoint()
            case CompactLog(snapshot):
                self.work.compact(snapshot)
            case MakeSnapshot():
                self.effect()
                self.transfers.make()
            case RoleChanged(change):
                self.effect()
                self._note_role(change)
            case StateReplaced(snapshot):
                self.transfers.discard(snapshot.index)
            case ClocksJudged(offsets_ms):
                self.world.counters["clocks-differed"] += bool(offsets_ms)
            case DiskStalled():
                self.world.counters["disk-stalled"] += 1
            case LoopJudged() | LoopLags():
                self.world.counters["loop-lagged"] += 1
            case NodeRetired():
                self.world.counters["node-retired"] += 1
            case ElectionStarted(_, reason):
                self.world.counters[f"election: {reason.value}"] += 1
            case VoteGiven(term, candidate):
                known = self._reported_votes.setdefault(term, candidate)
                require(known == candidate, f"{self.node} reports votes for {known} and {candidate} in term {term}")
            case MembersChanged():
                pass
            case EntriesLost(detail):
                require(False, f"{self.node} takes its sound disk for one that lost entries: {detail}")
            case MessageDropped(sender, why):
                require(False, f"{self.node} takes a message of {sender} for a breach of the protocol: {why}")
            case _:
                assert_never(effect)

    def _send(self, messages: Sequence[Message]) -> None:
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
                self.world.after(self.node, 1, lambda: self.act(PeerUnreachable(message.to)))

        return tell

    def _note_role(self, change: RoleChange) -> None:
        """The first that others hear of an election."""
        world = self.world
        world.note(f"{self.node} is {change.role.value} in {change.term}, leader {change.leader}")
        if change.role is Role.LEADER:
            world.counters["elected"] += 1
            world.last_leader = self.node
            if world.is_joint():
                world.counters["elected-in-joint-membership"] += 1
            if world.network.blocked:
                world.counters["elected-in-partition"] += 1


def _silence_bounds(tick_ms: float) -> SilenceBounds:
    """A server asks early after three heartbeats of a punctual leader."""
    least_ms, most_ms = ELECTION_TICKS * tick_ms, 2 * ELECTION_TICKS * tick_ms
    return SilenceBounds(tick_ms, tick_ms, 3 * tick_ms, least_ms, most_ms)
