"""The asyncio shell around the driver: the one task that owns Raft, its threads, its clock and its callers.

Everything that touches the core goes through one inbox and is carried out by `Replica.run`: messages from peers,
ticks, proposals, completions of the log thread and of the apply thread. All that has gathered is stepped first and
carried out then, so under load one fsync, one message and one transaction serve many callers.

A storage failure ends `run` with that error: the node stops at once and never tries the write again, because after a
failed fsync nobody knows what the disk holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar, assert_never

import structlog

from parley_proto.v1 import state_pb2
from parleyd.group.campaign_delay import campaign_delay_ms
from parleyd.group.driver import Driver
from parleyd.group.errors import (
    ChangePendingError,
    NotLeaderError,
    OutcomeUnknownError,
    OverloadedError,
    UnavailableError,
)
from parleyd.group.proposals import AppliedCommands, Proposal, ProposalTable
from parleyd.group.readers import StateReaders
from parleyd.group.retention import LogRetention
from parleyd.group.snapshot_store import SnapshotStore
from parleyd.machine.machine import ApplyOutcome, StateMachine
from parleyd.machine.records import Effect, Members, MembersChanged
from parleyd.membership.members import ClusterMembers, to_committed
from parleyd.raft.errors import PeerProtocolError
from parleyd.raft.events import (
    Campaign,
    Compact,
    Event,
    ForgetLeader,
    ReadIndex,
    Receive,
    SnapshotStatus,
    Tick,
    TransferLeader,
    Unreachable,
)
from parleyd.raft.membership import ConfChange, encode_conf_change
from parleyd.raft.messages import Message
from parleyd.raft.raft import Raft
from parleyd.raft.types import NO_INDEX, NO_NODE, ConfState, Entry, Index, NodeId, Role, SnapshotMeta
from parleyd.raft.update import Persist, ReadReady, Refusal, RoleChange
from parleyd.storage.raft_storage import RaftStorage

T = TypeVar("T")

MAX_CATCH_UP_TICKS = 3
READ_RETRY_INTERVAL_S = 0.01


class Outbound(Protocol):
    """Where messages for other nodes go; queues are bounded and may drop."""

    def send(self, messages: Sequence[Message]) -> None:
        """Queue each message for its receiver."""


@dataclass(frozen=True, slots=True)
class ReplicaTiming:
    """`tick_ms` is the unit of the core's clock; a write longer than `disk_stall_ms` costs the leader its office."""

    tick_ms: float
    read_retry_ms: float
    disk_stall_ms: float = 2_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of what one replica holds in memory."""

    max_entry_bytes: int = 512 * 1024
    max_waiting_proposals: int = 16_384


class Replica:
    """One node's part in the replicated log and state."""

    def __init__(
        self,
        raft: Raft,
        log: RaftStorage,
        machine: StateMachine,
        readers: StateReaders,
        outbound: Outbound,
        snapshot_store: SnapshotStore,
        retention: LogRetention,
        timing: ReplicaTiming,
        limits: Limits,
        on_effects: Callable[[Sequence[Effect]], None],
        on_members: Callable[[ClusterMembers], None],
        on_replaced: Callable[[], None],
    ) -> None:
        self._driver = Driver(raft, self)
        self._log = log
        self._machine = machine
        self.readers = readers
        self._outbound = outbound
        self._snapshot_store = snapshot_store
        self._retention = retention
        self._timing = timing
        self._limits = limits
        self._on_effects = on_effects
        self._on_members = on_members
        self._on_replaced = on_replaced
        self._members = ClusterMembers.of(machine.members())
        self._retired = False
        self._proposals = ProposalTable(limits.max_entry_bytes)
        self._inbox: deque[Callable[[], None]] = deque()
        self._wake = asyncio.Event()
        self._log_thread = ThreadPoolExecutor(1, thread_name_prefix="raft-log")
        self._apply_thread = ThreadPoolExecutor(1, thread_name_prefix="apply")
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stopping = False
        self._role = RoleChange(Role.FOLLOWER, raft.status().term, NO_NODE)
        self._role_changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._applied_waiters: list[tuple[Index, asyncio.Future[None]]] = []
        self._gathered_barriers: list[asyncio.Future[Index]] = []
        self._read_barriers: dict[bytes, list[asyncio.Future[Index]]] = {}
        self._barrier_number = 0
        self._write_started_at: float | None = None
        self._maintenance = asyncio.Lock()
        self._installing: asyncio.Future[None] | None = None
        self._gave_up_write_of: float | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._logger = structlog.get_logger("replica")

    # ---- what others see

    @property
    def raft(self) -> Raft:
        """The core, for reading its status."""
        return self._driver.raft

    @property
    def node_id(self) -> NodeId:
        """This node's Raft id."""
        return self._driver.raft.status().id

    @property
    def role(self) -> RoleChange:
        """Role, term and leader as of the last step."""
        return self._role

    @property
    def is_leader(self) -> bool:
        """Whether this node leads, as far as it knows."""
        return self._role.role is Role.LEADER

    @property
    def machine(self) -> StateMachine:
        """The applied state; only its cheap properties may be read here."""
        return self._machine

    @property
    def serving(self) -> bool:
        """A leader is known, and this node's own disk keeps up. A leader without a majority steps down by itself."""
        return self._role.leader != NO_NODE and not self._disk_stalled() and not self._stopping and not self._retired

    @property
    def members(self) -> ClusterMembers:
        """Who the members are, as of the last applied entry."""
        return self._members

    @property
    def retired(self) -> bool:
        """Whether this node is known to be no member any more."""
        return self._retired

    def next_role_change(self) -> asyncio.Future[None]:
        """Done at the next change of role, term or leader; shared by all who wait, so never to be cancelled."""
        return self._role_changed

    async def role_change(self) -> None:
        """Wait for the next change of role, term or leader."""
        await asyncio.shield(self._role_changed)

    # ---- what others ask for

    def receive(self, message: Message) -> None:
        """A message came from another node."""
        self._enqueue(partial(self._receive, message))

    def _receive(self, message: Message) -> None:
        try:
            self._driver.step(Receive(message))
        except PeerProtocolError as error:
            self._logger.error("message_dropped", peer=message.sender, error=str(error))

    def peer_lost(self, node: NodeId) -> None:
        """The connection to `node` broke. If it led, forget it and ask for pre-votes soon instead of waiting a whole
        election timeout; a live majority that still hears the leader refuses, so a mere network blip changes nothing.
        """
        if node == self._role.leader:
            self.post(ForgetLeader())
            delay_ms = campaign_delay_ms(self.raft.conf_state.voters, self.node_id, node)
            asyncio.get_running_loop().call_later(delay_ms / 1000, self._campaign_if_leaderless)

    def peer_unreachable(self, node: NodeId) -> None:
        """Messages to `node` were dropped."""
        self.post(Unreachable(node))

    def snapshot_sent(self, node: NodeId, *, ok: bool) -> None:
        """A snapshot transfer to `node` ended."""
        self.post(SnapshotStatus(node, ok))

    def propose(self, commands: Sequence[state_pb2.Command]) -> asyncio.Future[AppliedCommands]:
        """Put `commands` in the log, all in one entry.

        The future fails with a ProposalError. Cancelling it does not take back what was proposed.
        """
        outcome: asyncio.Future[AppliedCommands] = asyncio.get_running_loop().create_future()
        if self._stopping or not self.is_leader:
            outcome.set_exception(NotLeaderError("this node does not lead"))
        elif len(self._proposals.gathered) >= self._limits.max_waiting_proposals:
            outcome.set_exception(OverloadedError("too many requests are waiting for the log"))
        else:
            size = sum(command.ByteSize() for command in commands)
            self._proposals.gathered.append(Proposal(commands, outcome, size))
            self._wake.set()
        return outcome

    def change_membership(self, decide: Callable[[], ConfChange | None]) -> asyncio.Future[AppliedCommands]:
        """Propose what `decide` returns, in the same step in which it looks at the members; None: nothing, index 0.

        The future fails with what `decide` raises or with a ProposalError; a second change while one is pending fails
        with ChangePendingError.
        """
        outcome: asyncio.Future[AppliedCommands] = asyncio.get_running_loop().create_future()
        self._enqueue(partial(self._propose_change, decide, outcome))
        return outcome

    def _propose_change(
        self, decide: Callable[[], ConfChange | None], outcome: asyncio.Future[AppliedCommands]
    ) -> None:
        if outcome.done():
            return
        try:
            if self._stopping or not self.is_leader:
                raise NotLeaderError("this node does not lead")
            change = decide()
        except Exception as error:
            outcome.set_exception(error)
            return
        if change is None:
            outcome.set_result(AppliedCommands(NO_INDEX, ()))
            return
        answer = self._driver.propose_change(encode_conf_change(change))
        if answer.refusal is not None:
            outcome.set_exception(_refusal(answer.refusal))
        else:
            waiting = Proposal((), outcome, 0)
            self._proposals.proposed(answer.first_index, answer.term, [waiting])

    def retire(self) -> None:
        """This node was removed from the cluster: stand for no election and serve nobody any more."""
        self._retired = True

    async def read_barrier(self) -> Index:
        """An index such that state applied up to it has every write acknowledged before this call (thesis §6.4).

        Asks again until answered: bound it with a timeout.
        """
        while True:
            barrier: asyncio.Future[Index] = asyncio.get_running_loop().create_future()
            self._gathered_barriers.append(barrier)
            self._wake.set()
            with contextlib.suppress(TimeoutError, UnavailableError):
                async with asyncio.timeout(self._timing.read_retry_ms / 1000):
                    return await barrier
            if self._role.leader == NO_NODE:
                await self.role_change()
            else:
                await asyncio.sleep(READ_RETRY_INTERVAL_S)  # refused for want of room: asking at once would only spin

    async def wait_applied(self, index: int) -> None:
        """Wait until this node has applied `index`: bound it with a timeout."""
        if index <= self._driver.applied_index:
            return
        applied: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._applied_waiters.append((Index(index), applied))
        try:
            await applied
        finally:
            if not applied.done() or applied.cancelled():
                self._applied_waiters = [waiter for waiter in self._applied_waiters if waiter[1] is not applied]

    async def transfer_leadership(self, target: NodeId | None = None) -> bool:
        """Hand leadership to `target`, or to the follower that is furthest; False if nobody took over in time."""
        target = target or self._best_follower()
        if target is None:
            return not self.is_leader
        self.post(TransferLeader(target))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * self._timing.read_retry_ms / 1000):
                while self.is_leader:
                    await self.role_change()
        return not self.is_leader

    def post(self, event: Event) -> None:
        """Step `event` with whatever else has gathered."""
        self._enqueue(partial(self._driver.step, event))

    # ---- the loop

    async def run(self) -> None:
        """Drive the node until cancelled; ends with an error when its storage or an invariant fails."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self._tick(), name="tick")
            tasks.create_task(self._watch_failure(), name="storage failure")
            try:
                while True:
                    await self._wake.wait()
                    self._wake.clear()
                    self._carry_out()
            finally:
                self._stopping = True
                self._fail_waiters()

    async def close(self) -> None:
        """After `run`: finish what the threads have begun and close log and state."""
        loop = asyncio.get_running_loop()
        if self._installing is not None:
            await asyncio.wait([self._installing])
        await self.readers.close()
        await loop.run_in_executor(self._apply_thread, self._machine.close)
        await loop.run_in_executor(self._log_thread, self._log.close)
        self._apply_thread.shutdown()
        self._log_thread.shutdown()

    def _carry_out(self) -> None:
        # Completions and messages enqueue more while they run; take what is there now and look again next time.
        for _ in range(len(self._inbox)):
            self._inbox.popleft()()
        # While a write is under way, a proposal could only wait for the next one: gather until it is done.
        if self._proposals.gathered and not self._driver.is_writing:
            self._propose_gathered()
        if self._gathered_barriers:
            self._ask_barrier()
        self._driver.pump()
        if self._inbox:
            self._wake.set()

    def _propose_gathered(self) -> None:
        for payload, proposals in self._proposals.take_entries(time.time_ns() // 1_000_000):
            answer = self._driver.propose([payload])
            if answer.refusal is not None:
                for proposal in proposals:
                    proposal.fail(_refusal(answer.refusal))
            else:
                self._proposals.proposed(answer.first_index, answer.term, proposals)

    def _ask_barrier(self) -> None:
        for context in [c for c, waiting in self._read_barriers.items() if all(barrier.done() for barrier in waiting)]:
            del self._read_barriers[context]
        self._barrier_number += 1
        context = self.node_id.to_bytes(8, "big") + self._barrier_number.to_bytes(8, "big")
        self._read_barriers[context], self._gathered_barriers = self._gathered_barriers, []
        self._driver.step(ReadIndex(context))

    async def _tick(self) -> None:
        """Tick by the monotonic clock. After a pause of the whole process only a few ticks are made up for: what the
        others said meanwhile is waiting in the sockets and must be heard before an election is due.
        """
        loop = asyncio.get_running_loop()
        period = self._timing.tick_ms / 1000
        due = loop.time() + period
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            missed = int((loop.time() - due) / period) + 1
            due = loop.time() + period if missed > MAX_CATCH_UP_TICKS else due + missed * period
            for _ in range(0 if self._would_disturb() else min(missed, MAX_CATCH_UP_TICKS)):
                self.post(Tick())
            if self.is_leader and self._disk_stalled():
                self._transfer_on_disk_stall()

    def _would_disturb(self) -> bool:
        """Removed, as others say, but not by its own log: its core would stand for one election after the other."""
        return self._retired and self.node_id in self._members.rows

    def _transfer_on_disk_stall(self) -> None:
        """A leader whose disk hangs keeps everyone waiting: let a follower with a working disk take over."""
        target = self._best_follower()
        if target is not None and self._gave_up_write_of != self._write_started_at:
            self._gave_up_write_of = self._write_started_at
            self._logger.warning("disk_stalled", target=target)
            self.post(TransferLeader(target))

    def _disk_stalled(self) -> bool:
        started = self._write_started_at
        return started is not None and (time.monotonic() - started) * 1000 > self._timing.disk_stall_ms

    def _best_follower(self) -> NodeId | None:
        status = self.raft.status()
        if status.role is not Role.LEADER:
            return None
        voters = set(status.conf_state.voters)
        candidates = [
            (progress.match_index, node)
            for node, progress in status.progress.items()
            if node != status.id and node in voters and progress.recent_active
        ]
        return max(candidates)[1] if candidates else None

    def _campaign_if_leaderless(self) -> None:
        if self._role.leader == NO_NODE and not self._stopping and not self._retired:
            self.post(Campaign())

    def _members_are(self, members: Members) -> None:
        self._members = ClusterMembers.of(members)
        self._logger.info("membership_changed", names=sorted(row.name for row in members.rows))
        self._on_members(self._members)

    # ---- callbacks of the driver

    def send(self, messages: Sequence[Message]) -> None:
        """Queue messages for other nodes."""
        self._outbound.send(messages)

    def start_write(self, writes: Sequence[Persist]) -> None:
        """Write on the log thread."""
        self._write_started_at = time.monotonic()
        self._on_thread(self._log_thread, partial(self._log.append, writes), self._write_done)

    def _write_done(self, _: None) -> None:
        self._write_started_at = None
        self._driver.written()

    def start_apply(self, entries: Sequence[Entry], conf_state: ConfState | None) -> None:
        """Apply on the apply thread."""
        committed = to_committed(entries, conf_state)
        self._on_thread(self._apply_thread, lambda: self._machine.apply(committed), partial(self._apply_done, entries))

    def _apply_done(self, entries: Sequence[Entry], outcome: ApplyOutcome) -> None:
        for failure in outcome.failures:
            self._logger.error(
                "command_failed",
                effect="nothing was changed, on every node alike",
                advice="please report it",
                index=failure.index,
                position=failure.position,
                where=failure.where,
            )
        for effect in outcome.effects:
            if isinstance(effect, MembersChanged):
                self._members_are(effect.members)
        for entry, results in zip(entries, outcome.results, strict=True):
            self._proposals.applied(entry.index, entry.term, results)
        self._driver.applied()
        self._retention.applied(entries)
        self._on_effects(outcome.effects)
        self._wake_applied_waiters()
        if self._retention.should_compact and not self._maintenance.locked():
            self._start_task(self._cut_log())

    def start_install(self, snapshot: SnapshotMeta, write: Persist) -> None:
        """Replace state and log by a received snapshot."""
        self._installing = asyncio.ensure_future(self._install(snapshot, write))
        self._start_task(self._installed_or_failed(self._installing))

    async def _installed_or_failed(self, installing: asyncio.Future[None]) -> None:
        """Its failure ends the node; a stop lets it finish, since its files are half-way between two states."""
        await asyncio.shield(installing)

    async def _install(self, snapshot: SnapshotMeta, write: Persist) -> None:
        loop = asyncio.get_running_loop()
        async with self._maintenance, self.readers.paused():
            await loop.run_in_executor(self._apply_thread, self._machine.close)
            # State first, log second: on a restart in between, state ahead of the log is recognised and completed.
            self._machine = await loop.run_in_executor(
                self._apply_thread, self._snapshot_store.install_received, snapshot
            )
            await loop.run_in_executor(self._log_thread, self._log.append, [write])
            members = await loop.run_in_executor(self._apply_thread, self._machine.members)
        self._logger.info("snapshot_installed", index=snapshot.index, term=snapshot.term)
        self._enqueue(partial(self._installed, snapshot, members))

    def _installed(self, snapshot: SnapshotMeta, members: Members) -> None:
        self._members_are(members)
        self._proposals.skipped_to(snapshot.index)
        self._retention.start_over()
        self._snapshot_store.discard_received(snapshot.index)
        self._driver.installed()
        self._on_replaced()
        self._wake_applied_waiters()

    def role_changed(self, change: RoleChange) -> None:
        """Tell who waits for a leader; callers of a deposed leader learn their outcome when their index is applied."""
        self._role = change
        self._logger.info("role_changed", role=change.role.value, term=change.term, leader=change.leader)
        changed, self._role_changed = self._role_changed, asyncio.get_running_loop().create_future()
        changed.set_result(None)

    def reads_ready(self, reads: Sequence[ReadReady], dropped: Sequence[bytes]) -> None:
        """Answer read barriers, or let them be asked again."""
        for read in reads:
            for barrier in self._read_barriers.pop(read.context, ()):
                if not barrier.done():
                    barrier.set_result(read.index)
        for context in dropped:
            for barrier in self._read_barriers.pop(context, ()):
                if not barrier.done():
                    barrier.set_exception(UnavailableError("the leader changed while a read was under way"))

    def snapshot_needed(self, nodes: Sequence[NodeId]) -> None:
        """Make a snapshot, unless one is being made."""
        self._logger.info("snapshot_requested", nodes=list(nodes))
        self._start_task(self._offer_snapshot(nodes))

    async def _offer_snapshot(self, nodes: Sequence[NodeId]) -> None:
        self.post(await self._snapshot_store.offer_snapshot(self.raft.status().first_index, nodes))

    async def _cut_log(self) -> None:
        loop = asyncio.get_running_loop()
        async with self._maintenance:
            if not self._retention.should_compact:
                return
            durable = await loop.run_in_executor(self._apply_thread, self._machine.checkpoint)
            target = self._retention.plan_compaction(durable)
            if target is None:
                return
            # The membership kept with the log is only for a reader of the file; a start takes the state machine's.
            meta = SnapshotMeta(*target, self.raft.conf_state)
            await loop.run_in_executor(self._log_thread, self._log.compact, meta)
            self._retention.compact(meta.index)
            self.post(Compact(meta.index))

    # ---- threads, tasks, failure

    def _enqueue(self, action: Callable[[], None]) -> None:
        self._inbox.append(action)
        self._wake.set()

    def _on_thread(self, thread: ThreadPoolExecutor, work: Callable[[], T], done: Callable[[T], None]) -> None:
        loop = asyncio.get_running_loop()

        def finish(result: T | None, error: BaseException | None) -> None:
            if error is not None:
                self._fail(error)
            else:
                self._enqueue(partial(done, result))  # type: ignore[arg-type]

        def run() -> None:
            result, error = None, None
            try:
                result = work()
            except BaseException as caught:
                error = caught
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is left to tell
                loop.call_soon_threadsafe(finish, result, error)

        thread.submit(run)

    def _start_task(self, work: object) -> None:
        assert self._tasks is not None
        self._tasks.create_task(work)  # type: ignore[arg-type]

    def _fail(self, error: BaseException) -> None:
        if not self._failure.done():
            self._failure.set_exception(error)

    async def _watch_failure(self) -> None:
        await self._failure

    def _fail_waiters(self) -> None:
        self._proposals.fail_all(lambda: OutcomeUnknownError("the node stopped before the outcome was known"))
        for _, applied in self._applied_waiters:
            applied.cancel()
        for barriers in (*self._read_barriers.values(), self._gathered_barriers):
            for barrier in barriers:
                barrier.cancel()

    def _wake_applied_waiters(self) -> None:
        if not self._applied_waiters:
            return
        reached = self._driver.applied_index
        waiting = []
        for index, applied in self._applied_waiters:
            if applied.done():
                continue
            if index <= reached:
                applied.set_result(None)
            else:
                waiting.append((index, applied))
        self._applied_waiters = waiting


def _refusal(refusal: Refusal) -> NotLeaderError | OverloadedError | ChangePendingError:
    match refusal:
        case Refusal.CONF_CHANGE_PENDING:
            return ChangePendingError("another membership change is under way")
        case Refusal.OVERLOADED:
            return OverloadedError("too many entries wait for a majority")
        case Refusal.NOT_LEADER | Refusal.TRANSFERRING:
            return NotLeaderError(f"not proposed: {refusal.value}")
        case _:
            assert_never(refusal)
