"""One Raft group of this node, as a pure object: inputs in, effects out.

A `Group` makes every decision of a node about one replicated log: when the core ticks, what goes into the next entry,
which callers wait for what, when to compact, when to transfer leadership, and what is refused. It does no I/O, reads no
clock and uses no threads. The asyncio shell (runner.py) and the simulation (tests/simulation/cluster) carry out its
effects. A node with a second log has a second Group.

One call of `handle` is one turn. It takes in all waiting inputs first. Then it proposes and asks once, and starts what
can start. So under load one fsync, one message and one transaction serve many callers. A proposal made during a write
would have to wait for the next write, so it is gathered until the write ends.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import assert_never

from parley_proto.v1 import state_pb2
from parleyd.group.clock import Clock
from parleyd.group.cluster_time import CLOCK_LEVEL, ClusterTime, Moment
from parleyd.group.driver import Driver
from parleyd.group.effects import (
    AppliedReached,
    ChangeRefused,
    CommandsAnswered,
    CompactLog,
    Effect,
    MakeSnapshot,
    MembersChanged,
    MessageDropped,
    ReadAnswered,
    SnapshotAnswered,
    StartCheckpoint,
    StateReplaced,
)
from parleyd.group.errors import ProposalFailure, failure_of
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
from parleyd.group.leadership import Leadership
from parleyd.group.member_room import Intake, MemberRoom
from parleyd.group.proposals import AppliedCommands, Outcome, Proposal, ProposalTable
from parleyd.group.read_barriers import ReadBarriers
from parleyd.group.received import EntriesLostError, check_received
from parleyd.group.retention import LogRetention
from parleyd.group.settings import GroupSettings, GroupStart
from parleyd.group.snapshot_plan import SnapshotOffers
from parleyd.group.waits import AppliedWaits
from parleyd.membership import rules
from parleyd.membership.members import ClusterMembers
from parleyd.membership.rules import ChangeRefusedError, MembershipRequest, NoSuchMemberError
from parleyd.raft.errors import PeerProtocolError
from parleyd.raft.events import (
    Compact,
    ReadIndex,
    Receive,
    SnapshotAvailable,
    SnapshotStatus,
    Unreachable,
)
from parleyd.raft.membership import encode_conf_change
from parleyd.raft.messages import Message
from parleyd.raft.raft import Raft
from parleyd.raft.types import NO_INDEX, Index, NodeId, SnapshotMeta
from parleyd.raft.update import RoleChange


class Group:
    """One node's part in one replicated log and state."""

    def __init__(self, raft: Raft, settings: GroupSettings, start: GroupStart) -> None:
        self._output: list[Effect] = []
        self._driver = Driver(raft, self._output)
        self._settings = settings
        self._proposals = ProposalTable(
            settings.max_entry_bytes,
            settings.max_waiting_proposals,
            settings.max_waiting_bytes,
            settings.max_pipeline_bytes,
            settings.enough_bytes,
        )
        self._reads = ReadBarriers(self.node_id, start.rng.getrandbits(64), settings.retry_ms)
        self._applied_waits = AppliedWaits()
        self._clock = Clock(settings.tick_ms, start.now_ms, start.rng)
        self._retention = LogRetention(settings.log_bounds, start.kept_entries)
        self._room = MemberRoom(self.node_id)
        self._time = ClusterTime(self.node_id)
        self._snapshots = SnapshotOffers()
        self._members = start.members
        self._level = start.level
        self._leadership = Leadership(self._driver, self._output, settings, self._clock, self._room, start)
        self._is_stopping = False

    # ---- what others see

    @property
    def raft(self) -> Raft:
        """Return the core, for reading its status."""
        return self._driver.raft

    @property
    def node_id(self) -> NodeId:
        """Return this node's Raft id."""
        return self._driver.raft.node_id

    @property
    def role(self) -> RoleChange:
        """Return role, term and leader as of the last step."""
        return self._driver.role

    @property
    def is_leader(self) -> bool:
        """Return whether this node leads, as far as it can tell."""
        return self._leadership.is_leader

    @property
    def members(self) -> ClusterMembers:
        """Return the members, as of the last applied entry."""
        return self._members

    @property
    def level(self) -> int:
        """Return the cluster's level, as of the last applied entry."""
        return self._level

    @property
    def fenced(self) -> bool:
        """Return whether this node's state is not trusted."""
        return self._leadership.is_fenced

    @property
    def retired(self) -> bool:
        """Return whether this node has learned that it was removed from the cluster."""
        return self._leadership.is_retired

    @property
    def applied_index(self) -> Index:
        """Return the highest index that the state machine has applied."""
        return self._driver.applied_index

    @property
    def next_deadline_ms(self) -> float:
        """Return the time on the monotonic clock at which the shell has to send TimePassed."""
        return self._clock.next_deadline_ms

    def is_serving(self, now_ms: float) -> bool:
        """Return whether a leader is known, and this node's disk is not stalled and has room to follow the leader.

        A leader without a majority steps down by itself.
        """
        return not self._is_stopping and self._leadership.is_serving(now_ms)

    @property
    def intake(self) -> Intake:
        """Return what this node, if it leads, takes into the log."""
        return self._room.intake(self.raft.conf_state)

    @property
    def leader_commit(self) -> Index:
        """Return the highest commit index that a leader has told this node."""
        return self._leadership.leader_commit

    @property
    def loop_lag_ms(self) -> float:
        """Return how late this node's event loop is: half of its time exceeds that."""
        return self._leadership.loop.lag_ms

    @property
    def handed_over(self) -> Mapping[str, int]:
        """Return how often this node, as the leader, transferred leadership because of its disk and its event loop."""
        return {"disk": self._leadership.disk.transfers, "loop": self._leadership.loop.transfers}

    @property
    def queued(self) -> tuple[int, int]:
        """Return how many callers wait for the next entry, and the size of their commands in bytes."""
        return self._proposals.waiting, self._proposals.waiting_bytes

    def oldest_read_ms(self, now_ms: float) -> float:
        """Return how long the oldest read-index question has been without an answer."""
        return self._reads.oldest_ms(now_ms)

    # ---- one turn

    def handle(self, inputs: Iterable[Input], now_ms: float, wall_ms: int) -> Sequence[Effect]:
        """Take in the waiting inputs and return the effects, to be done in order.

        `now_ms`: the monotonic clock. `wall_ms`: Unix time, which becomes the time of the proposed commands.
        """
        for one in inputs:
            if self._is_stopping:
                self._refuse(one)
            else:
                self._take(one, now_ms)
        if not self._is_stopping:
            self._settle(now_ms, wall_ms)
        effects = tuple(self._output)
        self._output.clear()
        return effects

    def _take(self, one: Input, now_ms: float) -> None:  # noqa: PLR0912, PLR0915 (one case for each input)
        match one:
            case MessageReceived(message):
                self._receive(message, now_ms)
            case SnapshotReceived(token, message):
                self._receive(message, now_ms)
                if message.snapshot is not None:
                    is_taken = self._driver.will_install(message.snapshot)
                    self._output.append(SnapshotAnswered(token, message.snapshot, is_taken))
            case ProposeCommands():
                self._gather(one)
            case Written():
                self._leadership.disk.write_ended()
                self._driver.written()
            case EntriesApplied():
                self._entries_applied(one)
            case TimePassed():
                if self._leadership.time_passed(now_ms):
                    self._reads.ask_again(now_ms)
            case AskReadBarrier(token):
                self._reads.add(token)
            case AwaitApplied(token, index):
                if not self._applied_waits.add(token, index):
                    self._fail(token, ProposalFailure.TOO_MANY_WAITING)
            case Withdraw(token):
                for table in (self._proposals, self._reads, self._applied_waits, self._leadership):
                    table.withdraw(token)
            case ChangeMembers(token, request):
                self._change_members(token, request)
            case TransferLeadership(token, target):
                self._leadership.transfer(token, target, now_ms)
            case PeerLost(node):
                self._leadership.peer_lost(node, now_ms)
            case PeerUnreachable(node):
                self._driver.step(Unreachable(node))
            case ClockReported(node, wall_ms):
                self._time.report(node, wall_ms, now_ms, self._driver.role.term)
            case LagReported(node, lag_ms):
                self._leadership.loop.report(node, lag_ms, now_ms)
            case RoomReported(node, room):
                self._room.report(node, room)
            case SnapshotSent(node, ok):
                self._driver.step(SnapshotStatus(node, ok))
            case SnapshotMade(snapshot):
                self._snapshot_made(snapshot, now_ms)
            case SnapshotFailed():
                self._snapshots.failed(now_ms)
            case SnapshotInstalled(members, level):
                self._level = level
                self._snapshot_installed(members)
            case Checkpointed(durable_index):
                self._checkpointed(durable_index)
            case LogCompacted(index):
                self._retention.compact(index)
                self._driver.is_compacting = False
                self._driver.step(Compact(index))
            case Retire(told_by):
                self._leadership.retire(told_by)
            case FenceState():
                self._leadership.fence(now_ms)
            case DistrustNodes(nodes):
                self._leadership.distrust(nodes)
            case Stop():
                self._is_stopping = True
                self._tell(self._proposals.fail_all(ProposalFailure.STOPPED))
            case _:
                assert_never(one)

    def _settle(self, now_ms: float, wall_ms: int) -> None:
        """End a turn: propose and ask what was gathered, start what can start, answer the callers that are due."""
        if self._proposals.waiting and not self.is_leader:
            # What this node proposed before may wait for the next leader, in this term. These commands need not.
            self._tell(self._proposals.fail_gathered(ProposalFailure.NOT_LEADER))
        if self._proposals.waiting and not self._driver.is_writing:
            self._propose_gathered(self._moment(now_ms, wall_ms))
        if self._time.take_judgement(now_ms):
            # Only a leader knows the clocks of a majority.
            wrong = self._time.wrong_clocks(self._moment(now_ms, wall_ms)) if self.is_leader else {}
            self._leadership.clocks_judged(wrong)
        if self._reads.have_gathered and self._leadership.has_leader:
            self._driver.step(ReadIndex(self._reads.next_question(now_ms)))
        self._driver.pump()
        if self._driver.is_writing:
            self._leadership.disk.write_started(now_ms)
        if self._driver.reads or self._driver.dropped_reads:
            self._answer_reads()
        if self._driver.need_snapshot_for:
            nodes, self._driver.need_snapshot_for = self._driver.need_snapshot_for, []
            self._offer_snapshot(nodes, now_ms)
        for token in self._applied_waits.take_reached(self._driver.applied_index):
            self._output.append(AppliedReached(token))
        self._leadership.answer_transfers(now_ms)

    def _refuse(self, one: Input) -> None:
        """Refuse the input of a caller, because this group is stopping."""
        if isinstance(one, ProposeCommands | ChangeMembers):
            self._output.append(CommandsAnswered(one.token, ProposalFailure.NOT_LEADER))

    # ---- what peers say

    def _receive(self, message: Message, now_ms: float) -> None:
        if self._leadership.has_lost_entries:
            return  # a vote of this node could elect a leader without the entries that it lost
        self._room.hear(message.sender)
        if not self._room.takes(message):
            return
        try:
            self._driver.step(Receive(check_received(message, self.raft)))
            self._leadership.heard(message, now_ms)
        except PeerProtocolError as error:
            self._output.append(MessageDropped(message.sender, str(error)))
        except EntriesLostError as error:
            self._leadership.lose_entries(str(error))

    # ---- proposals

    def _gather(self, asked: ProposeCommands) -> None:
        if not self._leadership.takes_proposals:
            self._fail(asked.token, ProposalFailure.NOT_LEADER)
        elif not self._has_room_for(asked.commands):
            self._fail(asked.token, ProposalFailure.NO_ROOM)
        elif not self._proposals.gather(asked.token, asked.commands):
            self._fail(asked.token, ProposalFailure.TOO_MANY_WAITING)

    def _has_room_for(self, commands: Iterable[state_pb2.Command]) -> bool:
        match self.intake:
            case Intake.EVERYTHING:
                return True
            case Intake.NO_GROWTH:
                return not any(command.WhichOneof("command") in self._settings.growing_commands for command in commands)
            case Intake.NOTHING:
                return False

    def _propose_gathered(self, moment: Moment) -> None:
        stamp = self._time.stamp(moment) if self._level >= CLOCK_LEVEL else moment.wall_ms
        for payload, proposals in self._proposals.take_entries(stamp, self._level, self._driver.role.term):
            answer = self._driver.propose([payload])
            if answer.refusal is None:
                self._tell(self._proposals.proposed(answer.first_index, answer.term, proposals))
            else:
                for proposal in proposals:
                    self._fail(proposal.token, failure_of(answer.refusal))

    def _change_members(self, token: int, request: MembershipRequest) -> None:
        if not self._leadership.takes_proposals:
            self._fail(token, ProposalFailure.NOT_LEADER)
            return
        if not self._has_room_for(()):
            self._fail(token, ProposalFailure.NO_ROOM)
            return
        try:
            change = rules.decide(request, self._members, self.raft.conf_state, self._level)
        except (ChangeRefusedError, NoSuchMemberError) as error:
            self._output.append(ChangeRefused(token, error))
            return
        if change is None:
            self._output.append(CommandsAnswered(token, AppliedCommands(NO_INDEX, ())))
            return
        answer = self._driver.propose_change(encode_conf_change(change))
        if answer.refusal is None:
            waiting = Proposal(token, (), 0)
            self._tell(self._proposals.proposed(answer.first_index, answer.term, [waiting]))
        else:
            self._fail(token, failure_of(answer.refusal))

    def _moment(self, now_ms: float, wall_ms: int) -> Moment:
        return Moment(now_ms, wall_ms, self._driver.role.term, self.raft.conf_state)

    def _fail(self, token: int, failure: ProposalFailure) -> None:
        self._output.append(CommandsAnswered(token, failure))

    def _tell(self, outcomes: Iterable[Outcome]) -> None:
        self._output.extend(CommandsAnswered(token, outcome) for token, outcome in outcomes)

    # ---- reads

    def _answer_reads(self) -> None:
        reads, self._driver.reads = self._driver.reads, []
        dropped, self._driver.dropped_reads = self._driver.dropped_reads, []
        for read in reads:
            self._output.extend(ReadAnswered(token, read.index) for token in self._reads.answered(read.context))
        for context in dropped:
            self._reads.dropped(context)

    # ---- applying, and the log behind it

    def _entries_applied(self, done: EntriesApplied) -> None:
        self._level = done.level
        if done.members is not None:
            self._follow(done.members)
        entries = self._driver.applied()
        for entry, results in zip(entries, done.results, strict=True):
            self._tell(self._proposals.applied(entry.index, entry.term, results))
        self._retention.applied(entries)
        if self._retention.should_compact and not self._driver.is_compacting and not self._driver.is_installing:
            self._driver.is_compacting = True
            self._output.append(StartCheckpoint())

    def _checkpointed(self, durable_index: Index) -> None:
        target = self._retention.plan_compaction(durable_index)
        if target is None:
            self._driver.is_compacting = False
        else:
            # Only readers of the file use the membership in the log. A start takes it from the state machine.
            self._output.append(CompactLog(SnapshotMeta(*target, self.raft.conf_state)))

    # ---- snapshots and members

    def _offer_snapshot(self, nodes: Collection[NodeId], now_ms: float) -> None:
        snapshot = self._snapshots.offer(nodes, self.raft.first_index)
        if snapshot is not None:
            self._driver.step(SnapshotAvailable(snapshot))
        elif self._snapshots.begin(nodes, now_ms):
            self._output.append(MakeSnapshot(tuple(nodes)))

    def _snapshot_made(self, snapshot: SnapshotMeta, now_ms: float) -> None:
        came_late = self._snapshots.made(snapshot)
        self._driver.step(SnapshotAvailable(snapshot))
        if came_late:
            self._offer_snapshot(came_late, now_ms)

    def _snapshot_installed(self, members: ClusterMembers) -> None:
        self._follow(members)
        snapshot = self._driver.installed()
        self._tell(self._proposals.skipped_to(snapshot.index))
        self._retention.start_over()
        self._output.append(StateReplaced(snapshot))

    def _follow(self, members: ClusterMembers) -> None:
        self._members = members
        self._output.append(MembersChanged(members))
        self._leadership.follow(members)
