"""The asyncio shell around one Raft group: its inbox, its threads, its timer and its callers.

It decides nothing. Whatever happens becomes an input in the inbox. `run` gives all waiting inputs to the pure `Group`
(group.py) in one turn and carries out the effects in their order. A storage failure ends `run` with that error. The
node then stops at once and never repeats the write.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, assert_never

import structlog

from parley_proto.v1 import state_pb2
from parleyd.group.answers import PendingAnswers
from parleyd.group.cluster_time import ReplicatedClock
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
from parleyd.group.errors import NotLeaderError, ProposalFailure, error_of
from parleyd.group.inputs import (
    AskReadBarrier,
    AwaitApplied,
    ChangeMembers,
    Checkpointed,
    ClockReported,
    DistrustNodes,
    EntriesApplied,
    FenceState,
    Input,
    LagReported,
    LogCompacted,
    MessageReceived,
    PeerLost,
    PeerUnreachable,
    ProposeCommands,
    Retire,
    RoomReported,
    SnapshotFailed,
    SnapshotInstalled,
    SnapshotMade,
    SnapshotReceived,
    SnapshotSent,
    Stop,
    TimePassed,
    TransferLeadership,
    Withdraw,
    Written,
)
from parleyd.group.member_room import Intake, Room
from parleyd.group.parts import GroupParts
from parleyd.group.proposals import AppliedCommands
from parleyd.group.readers import StateReaders
from parleyd.machine.machine import ApplyOutcome, StateMachine
from parleyd.membership.entries import members_in, to_committed
from parleyd.membership.members import ClusterMembers
from parleyd.membership.rules import MembershipRequest
from parleyd.raft.messages import Message
from parleyd.raft.raft import Raft
from parleyd.raft.types import Index, NodeId, Role, SnapshotMeta
from parleyd.raft.update import Persist, RoleChange
from parleyd.storage.errors import CopyFailedError


def now_ms() -> float:
    """Return the monotonic clock of all groups, in milliseconds."""
    return time.monotonic() * 1000


def delay_s(delay_ms: float) -> float:
    """Return the delay for a timer that must not come too early.

    uvloop rounds to the nearest millisecond: half of all timers would come before the deadline and do nothing.
    """
    return math.ceil(max(delay_ms, 0)) / 1000


class GroupRunner:
    """One running group of this node."""

    def __init__(self, parts: GroupParts) -> None:
        self._parts = parts
        self._group = parts.group
        self._files = parts.files
        self._answers = PendingAnswers(lambda token: self._post(Withdraw(token)))
        self._inbox: list[Input] = []
        self._wake = asyncio.Event()
        self._timer: asyncio.Handle | None = None
        self._armed_for_ms = 0.0
        self._is_stopping = False
        self._snapshot_for: Sequence[NodeId] = ()
        self._clock = ReplicatedClock(parts.files.machine.now_ms, now_ms())
        self._role_changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks: asyncio.TaskGroup | None = None
        self._logger = structlog.get_logger("group")

    # ---- what others see

    @property
    def raft(self) -> Raft:
        """Return the core, for reading its status."""
        return self._group.raft

    @property
    def node_id(self) -> NodeId:
        """Return this node's Raft id."""
        return self._group.node_id

    @property
    def role(self) -> RoleChange:
        """Return role, term and leader as of the last step."""
        return self._group.role

    @property
    def is_leader(self) -> bool:
        """Return whether this node leads, as far as it can tell."""
        return self._group.role.role is Role.LEADER

    @property
    def machine(self) -> StateMachine:
        """Return the applied state; only its cheap properties may be read here."""
        return self._files.machine

    @property
    def cluster_now_ms(self) -> int:
        """Return the time of the cluster, by which sessions are judged."""
        return self._clock.time_ms(now_ms())

    @property
    def readers(self) -> StateReaders:
        """Return the readers of the applied state."""
        return self._files.readers

    @property
    def serving(self) -> bool:
        """Return whether a leader is known and this node's own disk is not stalled."""
        return self._group.is_serving(now_ms())

    @property
    def intake(self) -> Intake:
        """Return what this node, if it leads, takes into the log."""
        return self._group.intake

    @property
    def loop_lag_ms(self) -> float:
        """Return how late this node's event loop is: half of its time exceeds that."""
        return self._group.loop_lag_ms

    @property
    def members(self) -> ClusterMembers:
        """Return the members, as of the last applied entry."""
        return self._group.members

    @property
    def level(self) -> int:
        """Return the cluster's level, as of the last applied entry."""
        return self._group.level

    @property
    def fenced(self) -> bool:
        """Return whether this node's state is not trusted."""
        return self._group.fenced

    @property
    def retired(self) -> bool:
        """Return whether this node has learned that it was removed from the cluster."""
        return self._group.retired

    def next_role_change(self) -> asyncio.Future[None]:
        """Return a future of the next change of role, term or leader; all callers share it, so never cancel it."""
        return self._role_changed

    async def role_change(self) -> None:
        """Wait for the next change of role, term or leader."""
        await asyncio.shield(self._role_changed)

    # ---- what peers say

    def receive(self, message: Message) -> None:
        """Take a message from another node."""
        self._post(MessageReceived(message))

    async def take_snapshot(self, message: Message) -> bool:
        """Offer a received snapshot to the core; False if it is of no use, and its file is removed then."""
        answer: asyncio.Future[bool] = self._ask(partial(SnapshotReceived, message=message))
        return await answer

    def peer_lost(self, node: NodeId) -> None:
        """Record that the connection to `node` broke."""
        self._post(PeerLost(node))

    def peer_unreachable(self, node: NodeId) -> None:
        """Record that messages to `node` were dropped."""
        self._post(PeerUnreachable(node))

    def report_clock(self, node: NodeId, wall_ms: int) -> None:
        """Record what the wall clock of another member shows."""
        self._post(ClockReported(node, wall_ms))

    def report_lag(self, node: NodeId, lag_ms: int) -> None:
        """Record how late the event loop of another member is."""
        self._post(LagReported(node, lag_ms))

    def report_room(self, node: NodeId, room: Room) -> None:
        """Record what a member, this node included, reports about the room on its disk."""
        self._post(RoomReported(node, room))

    def snapshot_sent(self, node: NodeId, *, ok: bool) -> None:
        """Record that a snapshot transfer to `node` ended."""
        self._post(SnapshotSent(node, ok))

    def retire(self, told_by: str) -> None:
        """Stop serving and standing for elections: the peer `told_by` reports that this node was removed."""
        self._post(Retire(told_by))

    def fence(self) -> None:
        """Stop leading and serving until the state is replaced, because it is not trusted."""
        self._post(FenceState())

    def set_untrusted(self, nodes: frozenset[NodeId]) -> None:
        """Transfer leadership to none of these nodes, because their states are not trusted."""
        self._post(DistrustNodes(nodes))

    # ---- what callers ask for

    def propose(self, commands: Sequence[state_pb2.Command]) -> asyncio.Future[AppliedCommands]:
        """Put `commands` in the log, all in one entry.

        The future fails with a ProposalError. Cancelling it does not remove what is in the log already.
        """
        return self._ask(partial(ProposeCommands, commands=commands))

    def change_membership(self, request: MembershipRequest) -> asyncio.Future[AppliedCommands]:
        """Propose a change, if it is allowed in the same step; index 0 means that it is done already.

        The future fails with ChangeRefusedError, NoSuchMemberError or a ProposalError.
        """
        return self._ask(partial(ChangeMembers, request=request))

    async def read_barrier(self) -> Index:
        """Return an index that covers every write acknowledged before this call (thesis §6.4).

        The question is repeated until it is answered: use a timeout.
        """
        answer: asyncio.Future[Index] = self._ask(AskReadBarrier)
        return await answer

    async def wait_applied(self, index: int) -> None:
        """Wait until this node has applied `index`: use a timeout."""
        if index > self._group.applied_index:
            await self._ask(partial(AwaitApplied, index=Index(index)))

    async def transfer_leadership(self, target: NodeId | None = None) -> bool:
        """Transfer leadership to `target`, or to the most advanced follower; False if it fails in time."""
        answer: asyncio.Future[bool] = self._ask(partial(TransferLeadership, target=target))
        return await answer

    def _ask(self, make_input: Callable[[int], Input]) -> asyncio.Future[Any]:
        answer = self._answers.expect()
        if self._is_stopping:
            self._answers.fail(answer.token, NotLeaderError("this node stops"))
        else:
            self._post(make_input(answer.token))
        return answer

    # ---- the loop

    async def run(self) -> None:
        """Drive the group until cancelled; ends with an error when its storage or an invariant fails."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self._files.watch(), name="storage failure")
            self._arm_timer()
            try:
                while True:
                    await self._wake.wait()
                    self._wake.clear()
                    self._turn()
            finally:
                self._stop()

    async def close(self) -> None:
        """After `run`: finish the work in progress and close log and state."""
        await self._files.close()

    def _post(self, one: Input) -> None:
        self._inbox.append(one)
        self._wake.set()

    def _turn(self) -> None:
        # The next turn takes in the inputs that these effects cause at once.
        inputs, self._inbox = self._inbox, []
        for effect in self._group.handle(inputs, now_ms(), time.time_ns() // 1_000_000):
            self._carry_out(effect)
        self._arm_timer()

    def _stop(self) -> None:
        self._is_stopping = True
        if self._timer is not None:
            self._timer.cancel()
        inputs, self._inbox = self._inbox, []
        for effect in self._group.handle([Stop(), *inputs], now_ms(), 0):
            if isinstance(effect, CommandsAnswered):
                self._answer(effect)
        self._answers.cancel_all()

    def _arm_timer(self) -> None:
        """Wake when the group has a deadline; a new timer is set only for an earlier one."""
        due_ms = self._group.next_deadline_ms
        if self._timer is not None:
            if self._armed_for_ms <= due_ms:
                return
            self._timer.cancel()
        self._armed_for_ms = due_ms
        # For a delay of 0 uvloop returns a plain Handle, which has no time.
        self._timer = asyncio.get_running_loop().call_later(delay_s(due_ms - now_ms()), self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        self._post(TimePassed())

    # ---- effects

    def _carry_out(self, effect: Effect) -> None:  # noqa: PLR0912, PLR0915 (one case for each effect)
        parts, files = self._parts, self._files
        match effect:
            case Send(messages):
                parts.outbound.send(messages)
            case CommandsAnswered():
                self._answer(effect)
            case StartWrite(writes):
                files.start_write(writes, lambda _: self._post(Written()))
            case StartApply(entries, conf_state):
                files.start_apply(to_committed(entries, conf_state), self._applied)
            case ReadAnswered(token, index):
                self._answers.succeed(token, index)
            case AppliedReached(token):
                self._answers.succeed(token, None)
            case SnapshotAnswered(token, snapshot, is_taken):
                if not is_taken:
                    files.snapshot_store.discard(snapshot)
                self._answers.succeed(token, is_taken)
            case RoleChanged(change):
                self._tell_role(change)
            case ElectionStarted(term, reason):
                self._logger.info("election_started", term=term, reason=reason.value)
            case VoteGiven(term, candidate):
                self._logger.info("vote_given", term=term, candidate=self.members.name_of(candidate))
            case StartInstall(snapshot, write):
                self._start_task(self._install(snapshot, write))
            case StartCheckpoint():
                files.start_checkpoint(lambda durable: self._post(Checkpointed(Index(durable))))
            case CompactLog(snapshot):
                compacted = LogCompacted(snapshot.index)
                files.start_compact(snapshot, lambda _: self._post(compacted))
            case MakeSnapshot(nodes):
                if nodes != self._snapshot_for:  # not each try of the same followers
                    self._logger.info("snapshot_requested", nodes=[self.members.name_of(node) for node in nodes])
                    self._snapshot_for = nodes
                self._start_task(self._make_snapshot())
            case ChangeRefused(token, error):
                self._answers.fail(token, error)
            case TransferEnded(token, transferred):
                self._answers.succeed(token, transferred)
            case MembersChanged(members):
                self._logger.info("membership_changed", names=sorted(row.name for row in members.rows.values()))
                parts.observer.members_changed(members)
            case StateReplaced(snapshot):
                self._logger.info("snapshot_installed", index=snapshot.index, term=snapshot.term)
                files.discard_received(snapshot.index)
                parts.observer.state_replaced()
            case NodeRetired(told_by):
                parts.observer.retired(told_by)
            case DiskStalled(target):
                self._logger.warning("disk_stalled", target=self.members.name_of(target))
            case LoopJudged(is_lagging, lag_ms):
                self._tell_lag(lag_ms, is_lagging=is_lagging)
            case LoopLags(target):
                self._logger.warning("leadership_left_by_late_loop", target=self.members.name_of(target))
            case ClocksJudged(offsets_ms):
                parts.observer.clocks_judged(offsets_ms)
            case EntriesLost(detail):
                parts.observer.entries_lost(detail)
            case MessageDropped(sender, why):
                self._logger.error("message_dropped", peer=self.members.name_of(sender), error=why)
            case _:
                assert_never(effect)

    def _answer(self, answered: CommandsAnswered) -> None:
        if isinstance(answered.outcome, ProposalFailure):
            self._answers.fail(answered.token, error_of(answered.outcome))
        else:
            self._answers.succeed(answered.token, answered.outcome)

    def _tell_lag(self, lag_ms: float, *, is_lagging: bool) -> None:
        if is_lagging:
            self._logger.warning(
                "event_loop_lags",
                lag_ms=round(lag_ms),
                effect="every caller of this node waits; a leader looks for a punctual member to lead in its place",
                advice="look at what else runs on this machine, and at the number of clients",
            )
        else:
            self._logger.info("event_loop_punctual_again", lag_ms=round(lag_ms))

    def _tell_role(self, change: RoleChange) -> None:
        leader = self.members.name_of(change.leader)
        self._logger.info("role_changed", role=change.role.value, term=change.term, leader=leader)
        changed, self._role_changed = self._role_changed, asyncio.get_running_loop().create_future()
        changed.set_result(None)

    def _applied(self, outcome: ApplyOutcome) -> None:
        for failure in outcome.failures:
            self._logger.error(
                "command_failed",
                effect="nothing was changed, on every node alike",
                advice="please report it",
                index=failure.index,
                position=failure.position,
                where=failure.where,
            )
        self._clock.applied(self.machine.now_ms, now_ms())
        self._post(EntriesApplied(outcome.results, outcome.level, members_in(outcome.effects)))
        self._parts.observer.applied(outcome)

    async def _install(self, snapshot: SnapshotMeta, write: Persist) -> None:
        """Install a snapshot; its failure ends the node."""
        members = await self._files.install(snapshot, write)
        self._clock.applied(self.machine.now_ms, now_ms())
        self._post(SnapshotInstalled(members, self._files.machine.level))

    async def _make_snapshot(self) -> None:
        try:
            made = await self._files.snapshot_store.make_snapshot()
        except CopyFailedError as error:
            self._logger.warning("snapshot_failed", error=str(error), effect="it is tried again later, with pauses")
            self._post(SnapshotFailed())
        else:
            self._post(SnapshotMade(made))

    def _start_task(self, work: object) -> None:
        assert self._tasks is not None
        self._tasks.create_task(work)  # type: ignore[arg-type]
