"""The pure group, as a dialogue: inputs in, effects out, no thread and no clock but the test's.

What can go wrong: a caller is told too early, twice or never; an old answer serves a new question; a paused node
disturbs the cluster; a hung disk keeps everybody waiting; files are worked on by two at once; a removed node goes on.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

import pytest

from parley_proto.v1 import state_pb2
from parleyd.group.campaign_delay import JITTER_MS, STEP_MS
from parleyd.group.clock import MAX_CATCH_UP_TICKS
from parleyd.group.cluster_time import JUDGEMENT_INTERVAL_MS
from parleyd.group.effects import (
    AppliedReached,
    ChangeRefused,
    ClocksJudged,
    CommandsAnswered,
    CompactLog,
    DiskStalled,
    Effect,
    ElectionReason,
    ElectionStarted,
    EntriesLost,
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
    Checkpointed,
    ClockReported,
    EntriesApplied,
    FenceState,
    Input,
    LogCompacted,
    MessageReceived,
    PeerLost,
    ProposeCommands,
    Retire,
    RoomReported,
    SnapshotFailed,
    SnapshotInstalled,
    SnapshotMade,
    SnapshotReceived,
    Stop,
    TimePassed,
    TransferLeadership,
    Withdraw,
    Written,
)
from parleyd.group.leader_watch import NO_SUSPICION, SilenceBounds
from parleyd.group.leadership import OWN_LOG
from parleyd.group.member_room import Room, room_of
from parleyd.group.proposals import AppliedCommands
from parleyd.group.retention import LogBounds
from parleyd.group.settings import GroupSettings, GroupStart
from parleyd.group.snapshot_plan import RETRY_DELAY_MS
from parleyd.machine.records import MemberRow, Members
from parleyd.membership.members import ClusterMembers
from parleyd.membership.rules import AddMember, PromoteMember, RemoveMember
from parleyd.raft.config import InitialState, RaftConfig
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.raft import Raft
from parleyd.raft.types import NO_NODE, ConfState, Entry, EntryType, Index, NodeId, Role, SnapshotMeta, Term

ME, TWO, THREE = NodeId(1), NodeId(2), NodeId(3)
M = MessageType
TICK_MS, RETRY_MS, STALL_MS = 10, 100, 2_000
COMMAND = state_pb2.Command(mark_delivered=state_pb2.MarkDelivered(session_id=1, up_to=7))
OK = state_pb2.CommandResult(code=state_pb2.RESULT_CODE_OK)
E = TypeVar("E")

LEVEL = 1


def rows(*nodes: int) -> tuple[MemberRow, ...]:
    return tuple(MemberRow(node, f"n{node}", f"n{node}:1", f"n{node}:2") for node in nodes)


def members(*nodes: int, removed: tuple[int, ...] = ()) -> ClusterMembers:
    return ClusterMembers.of(Members(rows(*nodes), rows(*removed)))


class Dialogue:
    """A group, the time, and everything it has said so far."""

    def __init__(
        self,
        *voters: NodeId,
        bounds: LogBounds | None = None,
        ticks: int = 10,
        seed: int = 1,
        level: int = LEVEL,
        silence: SilenceBounds = NO_SUSPICION,
        loop_lag_ms: float = 0,
        enough_bytes: int = 0,
    ) -> None:
        self.now_ms = 1_000.0
        self.wall_ms = 77
        self._level = level
        config = RaftConfig(
            node_id=ME, election_timeout_ticks=ticks, heartbeat_ticks=1, check_quorum=silence is not NO_SUSPICION
        )
        growing = frozenset({"send_messages"})
        settings = GroupSettings(
            TICK_MS,
            RETRY_MS,
            bounds or LogBounds(100, 1 << 20),
            STALL_MS,
            1_000,
            3,
            growing,
            silence=silence,
            loop_lag_ms=loop_lag_ms,
            enough_bytes=enough_bytes,
        )
        start = GroupStart(members(*voters), level, (), self.now_ms, random.Random(seed))
        self.group = Group(Raft(config, InitialState(conf_state=ConfState(voters=voters))), settings, start)
        self.said: list[Effect] = []
        self._done = 0

    def tell(self, *inputs: Input) -> Sequence[Effect]:
        effects = self.group.handle(inputs, self.now_ms, self.wall_ms)
        self.said.extend(effects)
        return effects

    def after(self, ms: float, *inputs: Input) -> Sequence[Effect]:
        self.now_ms += ms
        return self.tell(TimePassed(), *inputs)

    def receive(self, kind: MessageType, sender: NodeId = TWO, **fields: object) -> Sequence[Effect]:
        term = fields.pop("term", self.group.raft.term)
        return self.tell(MessageReceived(Message(kind, sender, ME, term, **fields)))  # type: ignore[arg-type]

    def do_all(self) -> None:
        """Disk and state machine do what they are asked for, until nothing is left to do."""
        while self._done < len(self.said):
            effect = self.said[self._done]
            self._done += 1
            match effect:
                case StartWrite():
                    self.tell(Written())
                case StartApply(entries):
                    self.tell(EntriesApplied([results_of(entry) for entry in entries], self._level))
                case _:
                    pass

    def lead(self) -> None:
        """Become the leader and apply the first entry of the term; the others agree to everything."""
        while not self.group.is_leader:
            self.after(TICK_MS)
            self.do_all()
            self.receive(M.PRE_VOTE_RESPONSE, term=Term(self.group.raft.term + 1))
            self.do_all()
            self.receive(M.VOTE_RESPONSE)
        self.do_all()
        self.acknowledge()
        self.do_all()

    def acknowledge(self, *nodes: NodeId) -> None:
        """Followers have all of the log."""
        for node in nodes or (TWO,):
            self.receive(M.APPEND_RESPONSE, node, index=self.group.raft.status().last_index)

    def follow(self, leader: NodeId = TWO) -> None:
        self.receive(M.HEARTBEAT, leader, term=Term(5))
        self.do_all()


def results_of(entry: Entry) -> list[state_pb2.CommandResult]:
    return [OK] * len(state_pb2.CommandBatch.FromString(entry.data).commands)


def only(kind: type[E], effects: Sequence[Effect]) -> list[E]:
    return [effect for effect in effects if isinstance(effect, kind)]


def sent(effects: Sequence[Effect], kind: MessageType) -> list[Message]:
    return [message for send in only(Send, effects) for message in send.messages if message.type is kind]


def leading(**settings: object) -> Dialogue:
    dialogue = Dialogue(ME, TWO, THREE, **settings)  # type: ignore[arg-type]
    dialogue.lead()
    return dialogue


# ---- proposals


def test_proposals_of_one_turn_share_an_entry_and_each_caller_gets_its_own_results() -> None:
    one = leading()
    effects = one.tell(ProposeCommands(1, [COMMAND, COMMAND]), ProposeCommands(2, [COMMAND]))
    [append] = sent(effects, M.APPEND)[:1]
    assert len(append.entries) == 1
    assert not only(CommandsAnswered, effects)
    one.do_all()
    one.acknowledge()
    one.do_all()
    index = append.entries[0].index
    assert only(CommandsAnswered, one.said) == [
        CommandsAnswered(1, AppliedCommands(index, (OK, OK))),
        CommandsAnswered(2, AppliedCommands(index, (OK,))),
    ]


def test_proposals_gather_while_a_write_is_under_way_and_go_into_the_next_together() -> None:
    one = leading()
    assert len(only(StartWrite, one.tell(ProposeCommands(1, [COMMAND])))) == 1
    for token in (2, 3):
        effects = one.tell(ProposeCommands(token, [COMMAND]))
        assert not only(StartWrite, effects)
        assert not sent(effects, M.APPEND)
    [write] = only(StartWrite, one.tell(Written()))
    assert sum(len(persist.entries) for persist in write.writes) == 1


def test_a_small_command_is_proposed_when_the_one_before_it_is_applied() -> None:
    one = leading(enough_bytes=1_000)
    one.tell(ProposeCommands(1, [COMMAND]))
    one.do_all()
    assert not sent(one.tell(ProposeCommands(2, [COMMAND])), M.APPEND)
    one.do_all()
    one.acknowledge()
    one.do_all()
    assert [answer.token for answer in only(CommandsAnswered, one.said)] == [1]
    one.acknowledge()
    one.do_all()
    assert [answer.token for answer in only(CommandsAnswered, one.said)] == [1, 2]


@pytest.mark.parametrize("is_written", [True, False])
def test_gathered_commands_are_refused_when_the_leader_steps_down_in_its_term(*, is_written: bool) -> None:
    """Without a majority no other term may begin. What was never proposed does not wait for it, and says so."""
    bounds = SilenceBounds(TICK_MS, TICK_MS, 3 * TICK_MS, 100 * TICK_MS, 200 * TICK_MS)
    one = leading(enough_bytes=1_000, silence=bounds)
    term = one.group.raft.term
    one.tell(ProposeCommands(1, [COMMAND]))
    if is_written:
        one.do_all()
    one.tell(ProposeCommands(2, [COMMAND]), ProposeCommands(3, [COMMAND]))
    assert one.group.queued[0] == 2
    while one.group.is_leader:
        one.after(TICK_MS)
    assert one.group.raft.term == term
    refused = [CommandsAnswered(token, ProposalFailure.NOT_LEADER) for token in (2, 3)]
    assert only(CommandsAnswered, one.said) == refused, "nobody knows yet what becomes of the one in the log"


def test_the_time_of_an_entry_is_the_clock_on_the_wall_when_it_was_proposed() -> None:
    one = leading()
    effects = one.tell(ProposeCommands(1, [COMMAND]))
    entry = sent(effects, M.APPEND)[0].entries[0]
    assert state_pb2.CommandBatch.FromString(entry.data).proposed_at_ms == 77


CLOCKS = 3  # the level whose members all report their clocks
NOON = 1_800_000_000_000
YEAR_MS = 365 * 86_400_000


def stamp_of(effects: Sequence[Effect]) -> int:
    [entry] = sent(effects, M.APPEND)[0].entries
    return state_pb2.CommandBatch.FromString(entry.data).proposed_at_ms


def leading_at(wall_ms: int) -> Dialogue:
    """A leader of a cluster whose members report their clocks."""
    one = Dialogue(ME, TWO, THREE, level=CLOCKS)
    one.wall_ms = wall_ms
    one.lead()
    return one


def test_a_leader_whose_clock_is_years_ahead_stamps_the_time_of_a_majority() -> None:
    one = leading_at(NOON + 10 * YEAR_MS)
    one.tell(ClockReported(TWO, NOON), ClockReported(THREE, NOON))
    assert stamp_of(one.tell(ProposeCommands(1, [COMMAND]))) == NOON


def test_before_a_majority_has_told_its_clock_in_this_term_the_replicated_time_stands() -> None:
    one = Dialogue(ME, TWO, THREE, level=CLOCKS)
    one.tell(ClockReported(TWO, NOON), ClockReported(THREE, NOON))
    one.lead()
    assert stamp_of(one.tell(ProposeCommands(1, [COMMAND]))) == 0


def test_the_vote_that_makes_a_leader_brings_the_clock_that_it_goes_by() -> None:
    one = Dialogue(ME, TWO, THREE, level=CLOCKS)
    one.wall_ms = NOON + YEAR_MS
    while not one.group.is_leader:
        one.after(TICK_MS)
        one.do_all()
        one.receive(M.PRE_VOTE_RESPONSE, term=Term(one.group.raft.term + 1))
        one.do_all()
        vote = Message(M.VOTE_RESPONSE, TWO, ME, one.group.raft.term)
        one.tell(MessageReceived(vote), ClockReported(TWO, NOON))
    one.do_all()
    one.acknowledge()
    one.do_all()
    assert stamp_of(one.tell(ProposeCommands(1, [COMMAND]))) == NOON


def test_a_leader_whose_clock_is_wrong_says_so_and_hands_over_to_one_whose_clock_is_right() -> None:
    one = leading_at(NOON)
    one.acknowledge(TWO, THREE)
    one.tell(ClockReported(TWO, NOON + YEAR_MS), ClockReported(THREE, NOON))
    assert only(ClocksJudged, one.after(JUDGEMENT_INTERVAL_MS)) == [ClocksJudged({TWO: YEAR_MS})]
    assert one.group.raft.status().transferee == NO_NODE, "its own clock is right"
    assert not only(ClocksJudged, one.after(JUDGEMENT_INTERVAL_MS)), "it is said once"
    one.wall_ms = NOON - YEAR_MS
    one.tell(ClockReported(TWO, NOON))
    [judged] = only(ClocksJudged, one.after(JUDGEMENT_INTERVAL_MS))
    assert judged.offsets_ms.keys() == {ME}
    one.tell(ClockReported(TWO, NOON + YEAR_MS))
    one.after(JUDGEMENT_INTERVAL_MS)
    one.after(JUDGEMENT_INTERVAL_MS)
    assert one.group.raft.status().transferee == THREE


def test_clocks_that_are_set_right_are_no_longer_wrong() -> None:
    one = leading_at(NOON)
    one.tell(ClockReported(TWO, NOON + YEAR_MS), ClockReported(THREE, NOON))
    one.after(JUDGEMENT_INTERVAL_MS)
    one.tell(ClockReported(TWO, NOON))
    assert only(ClocksJudged, one.after(JUDGEMENT_INTERVAL_MS)) == [ClocksJudged({})]


def test_one_that_does_not_lead_proposes_nothing() -> None:
    one = Dialogue(ME, TWO, THREE)
    assert one.tell(ProposeCommands(1, [COMMAND])) == (CommandsAnswered(1, ProposalFailure.NOT_LEADER),)


def test_more_callers_than_may_wait_are_refused() -> None:
    one = leading()
    effects = one.tell(*(ProposeCommands(token, [COMMAND]) for token in range(4)))
    assert only(CommandsAnswered, effects) == [CommandsAnswered(3, ProposalFailure.TOO_MANY_WAITING)]


def test_a_leader_that_transfers_leadership_proposes_nothing() -> None:
    one = leading()
    one.tell(TransferLeadership(9, THREE))
    effects = one.tell(ProposeCommands(1, [COMMAND]))
    assert only(CommandsAnswered, effects) == [CommandsAnswered(1, ProposalFailure.TRANSFERRING)]


def test_a_caller_that_left_before_the_next_entry_is_not_proposed() -> None:
    one = leading()
    one.tell(ProposeCommands(1, [COMMAND]))
    one.tell(ProposeCommands(2, [COMMAND]), Withdraw(2))
    assert not only(StartWrite, one.tell(Written()))


def test_a_proposal_whose_place_another_leader_took_is_lost() -> None:
    one = leading()
    [append] = sent(one.tell(ProposeCommands(1, [COMMAND])), M.APPEND)[:1]
    one.do_all()
    index, term = append.entries[0].index, Term(9)
    other = Entry(term, index)
    previous = Index(index - 1)
    one.receive(M.APPEND, term=term, index=previous, log_term=append.log_term, entries=(other,), commit=index)
    one.do_all()
    assert only(CommandsAnswered, one.said) == [CommandsAnswered(1, ProposalFailure.LOST)]


def test_who_waits_when_the_node_stops_is_told_that_nobody_knows_and_then_nothing_is_taken() -> None:
    one = leading()
    one.tell(ProposeCommands(1, [COMMAND]))
    effects = one.tell(ProposeCommands(2, [COMMAND]), Stop(), ProposeCommands(3, [COMMAND]), TimePassed())
    assert {(answer.token, answer.outcome) for answer in only(CommandsAnswered, effects)} == {
        (1, ProposalFailure.STOPPED),
        (2, ProposalFailure.STOPPED),
        (3, ProposalFailure.NOT_LEADER),
    }
    assert not one.group.is_serving(one.now_ms)


# ---- membership


def test_a_change_is_decided_by_the_members_applied_and_answered_when_it_is_applied() -> None:
    one = leading()
    effects = one.tell(ChangeMembers(1, AddMember(rows(4)[0])))
    assert not only(CommandsAnswered, effects)
    one.do_all()
    one.acknowledge()
    apply = only(StartApply, one.said)[-1]
    assert apply.conf_state == ConfState(voters=(ME, TWO, THREE), learners=(NodeId(4),))
    effects = one.tell(EntriesApplied([[]], LEVEL, members(1, 2, 3, 4)))
    assert MembersChanged(members(1, 2, 3, 4)) in effects
    assert only(CommandsAnswered, effects) == [CommandsAnswered(1, AppliedCommands(apply.entries[0].index, ()))]


def test_a_change_that_is_not_in_order_is_refused_with_its_reason() -> None:
    one = leading()
    [refused] = only(ChangeRefused, one.tell(ChangeMembers(1, PromoteMember("n9"))))
    assert "no member n9" in str(refused.error)
    [refused] = only(ChangeRefused, one.tell(ChangeMembers(1, RemoveMember("n2", frozenset({ME})))))
    assert "n3" in str(refused.error)


def test_a_change_that_is_made_already_is_answered_at_once() -> None:
    one = leading()
    effects = one.tell(ChangeMembers(1, AddMember(rows(2)[0])))
    assert only(CommandsAnswered, effects) == [CommandsAnswered(1, AppliedCommands(Index(0), ()))]


def test_a_second_change_has_to_wait_for_the_first() -> None:
    one = leading()
    one.tell(ChangeMembers(1, AddMember(rows(4)[0])))
    effects = one.tell(ChangeMembers(2, AddMember(rows(5)[0])))
    assert only(CommandsAnswered, effects) == [CommandsAnswered(2, ProposalFailure.CHANGE_PENDING)]


def test_a_node_that_its_own_log_removes_retires_and_campaigns_no_more() -> None:
    one = Dialogue(ME, TWO, THREE)
    one.follow()
    change = Entry(Term(5), Index(1))
    one.receive(M.APPEND, term=Term(5), entries=(change,), commit=Index(1))
    one.tell(Written())
    effects = one.tell(EntriesApplied([[]], LEVEL, members(2, 3, removed=(1,))))
    assert NodeRetired(OWN_LOG) in effects
    assert one.group.retired
    assert not one.group.is_serving(one.now_ms)
    one.tell(PeerLost(TWO))
    assert not sent(one.after(5 * STEP_MS), M.PRE_VOTE)


def test_a_node_that_others_call_removed_stands_for_no_election_until_its_own_log_says_so() -> None:
    one = Dialogue(ME, TWO, THREE)
    assert one.tell(Retire("n2")) == (NodeRetired("n2"),)
    assert one.tell(Retire("n3")) == (), "once is enough"
    for _ in range(100):
        assert not one.after(TICK_MS)


# ---- reads


def test_readers_of_one_turn_share_a_question_and_a_majority_answers_it() -> None:
    one = leading()
    effects = one.tell(AskReadBarrier(1), AskReadBarrier(2))
    [question] = {message.context for message in sent(effects, M.HEARTBEAT)}
    effects = one.receive(M.HEARTBEAT_RESPONSE, context=question)
    index = one.group.raft.commit_index
    assert only(ReadAnswered, effects) == [ReadAnswered(1, index), ReadAnswered(2, index)]


def test_a_follower_asks_the_leader_and_waits_while_there_is_none() -> None:
    one = Dialogue(ME, TWO, THREE)
    assert not sent(one.tell(AskReadBarrier(1)), M.READ_INDEX)
    one.follow()
    [question] = sent(one.said, M.READ_INDEX)
    effects = one.receive(M.READ_INDEX_RESPONSE, index=Index(3), context=question.context)
    assert only(ReadAnswered, effects) == [ReadAnswered(1, Index(3))]


def test_a_question_without_an_answer_is_asked_again_under_another_name() -> None:
    one = Dialogue(ME, TWO, THREE, ticks=1_000)
    one.follow()
    [first] = sent(one.tell(AskReadBarrier(1)), M.READ_INDEX)
    assert not sent(one.after(RETRY_MS), M.READ_INDEX)
    again = sent(one.after(TICK_MS), M.READ_INDEX)
    assert len(again) == 1
    second = again[0]
    assert second.context != first.context
    assert not only(ReadAnswered, one.receive(M.READ_INDEX_RESPONSE, index=Index(1), context=first.context))
    effects = one.receive(M.READ_INDEX_RESPONSE, index=Index(4), context=second.context)
    assert only(ReadAnswered, effects) == [ReadAnswered(1, Index(4))]


def test_a_change_of_leader_lets_readers_ask_the_next_one() -> None:
    one = Dialogue(ME, TWO, THREE)
    one.follow(TWO)
    one.tell(AskReadBarrier(1))
    one.receive(M.HEARTBEAT, THREE, term=Term(6))
    one.do_all()
    [question] = sent(one.after(TICK_MS), M.READ_INDEX)
    assert question.to == THREE


def test_a_reader_that_left_is_not_asked_for_again() -> None:
    one = Dialogue(ME, TWO, THREE, ticks=1_000)
    one.follow()
    one.tell(AskReadBarrier(1))
    one.tell(Withdraw(1))
    assert not sent(one.after(2 * RETRY_MS), M.READ_INDEX)


def test_an_answer_to_an_earlier_life_answers_no_question_of_this_one() -> None:
    questions = []
    for life in (1, 2):
        one = Dialogue(ME, TWO, THREE, seed=life)
        one.follow()
        questions += sent(one.tell(AskReadBarrier(1)), M.READ_INDEX)
    assert questions[0].context != questions[1].context


def test_who_waits_for_an_index_is_told_when_it_is_applied() -> None:
    one = Dialogue(ME, TWO, THREE)
    one.follow()
    assert not one.tell(AwaitApplied(1, Index(2)), AwaitApplied(2, Index(1)), AwaitApplied(3, Index(1)), Withdraw(3))
    one.receive(M.APPEND, term=Term(5), entries=(Entry(Term(5), Index(1)),), commit=Index(1))
    one.tell(Written())
    assert only(AppliedReached, one.tell(EntriesApplied([[]], LEVEL))) == [AppliedReached(2)]


# ---- time


def test_the_core_ticks_when_the_deadline_has_come_and_not_before() -> None:
    one = leading()
    due = one.group.next_deadline_ms
    assert 0 < due - one.now_ms <= TICK_MS
    assert not one.after((due - one.now_ms) / 2)
    assert sent(one.after(due - one.now_ms), M.HEARTBEAT)
    assert one.group.next_deadline_ms == due + TICK_MS


def test_a_late_tick_moves_no_later_one() -> None:
    one = leading()
    due = one.group.next_deadline_ms
    one.after(due - one.now_ms + 2 * TICK_MS + 1)
    assert one.group.next_deadline_ms == due + 3 * TICK_MS


def test_after_a_pause_only_a_few_ticks_are_made_up_for() -> None:
    one = Dialogue(ME, TWO, THREE, ticks=MAX_CATCH_UP_TICKS + 1)
    assert not sent(one.after(100_000), M.PRE_VOTE), "what the others said meanwhile must be heard first"
    assert one.group.next_deadline_ms == one.now_ms + TICK_MS


def test_whoever_loses_its_leader_asks_for_pre_votes_when_it_is_its_turn() -> None:
    one = Dialogue(ME, TWO, THREE, ticks=1_000)
    one.follow(TWO)
    one.tell(PeerLost(THREE))
    assert one.group.role.leader == TWO, "another peer is not the leader"
    one.tell(PeerLost(TWO))
    assert one.group.role.leader == 0
    low, high = JITTER_MS
    assert not sent(one.after(low - 1), M.PRE_VOTE)
    assert sent(one.after(high - low + 1), M.PRE_VOTE), "it has the lowest id of those left"


def test_an_election_is_reported_with_its_reason_and_a_vote_once() -> None:
    def reasons(effects: Sequence[Effect]) -> list[tuple[int, ElectionReason]]:
        return [(told.term, told.reason) for told in only(ElectionStarted, effects)]

    alone = Dialogue(ME, TWO, THREE, ticks=3)
    for _ in range(9):
        alone.after(TICK_MS)
    assert reasons(alone.said) == [(0, ElectionReason.NO_LEADER_HEARD)]
    parted = Dialogue(ME, TWO, THREE, ticks=1_000)
    parted.follow(TWO)
    parted.tell(PeerLost(TWO))
    assert reasons(parted.after(JITTER_MS[1])) == [(5, ElectionReason.LEADER_DISCONNECTED)]
    silent = following_punctually()
    for _ in range(3):
        silent.after(TICK_MS)
    assert reasons(silent.after(JITTER_MS[1])) == [(5, ElectionReason.LEADER_SILENT)]
    chosen = Dialogue(ME, TWO, THREE, ticks=1_000)
    chosen.follow(TWO)
    assert reasons(chosen.receive(M.TIMEOUT_NOW)) == [(5, ElectionReason.LEADER_TRANSFERS)]
    assert only(VoteGiven, chosen.said) == [VoteGiven(Term(6), ME)]


def test_a_vote_for_another_node_is_reported_once_for_each_term() -> None:
    one = Dialogue(ME, TWO, THREE, ticks=1_000)
    for term in (4, 4, 5):
        one.receive(M.VOTE, THREE, term=Term(term), index=Index(9), log_term=Term(3))
        one.receive(M.VOTE, TWO, term=Term(term), index=Index(9), log_term=Term(3))
        one.do_all()
    assert only(VoteGiven, one.said) == [VoteGiven(Term(4), THREE), VoteGiven(Term(5), THREE)]


def following_punctually() -> Dialogue:
    """A follower that has heard a heartbeat of TWO at every tick for a while."""
    bounds = SilenceBounds(TICK_MS, TICK_MS, 3 * TICK_MS, 100 * TICK_MS, 200 * TICK_MS)
    one = Dialogue(ME, TWO, THREE, ticks=1_000, silence=bounds)
    one.follow(TWO)
    for _ in range(50):
        one.after(TICK_MS)
        one.receive(M.HEARTBEAT)
    return one


def test_whoever_follows_a_punctual_leader_that_falls_silent_asks_for_pre_votes_early() -> None:
    one = following_punctually()
    one.after(TICK_MS)
    assert not only(RoleChanged, one.after(TICK_MS))
    assert [told.change.leader for told in only(RoleChanged, one.after(TICK_MS))] == [NO_NODE]
    assert sent(one.after(JITTER_MS[1]), M.PRE_VOTE)


def test_a_silent_leader_that_is_heard_again_is_followed_and_not_challenged() -> None:
    one = following_punctually()
    for _ in range(3):
        one.after(TICK_MS)
    one.receive(M.HEARTBEAT)
    assert one.group.role.leader == TWO
    assert not sent(one.after(JITTER_MS[1]), M.PRE_VOTE)


def test_a_follower_that_hears_its_leader_refuses_who_does_not() -> None:
    one = following_punctually()
    term = one.group.raft.term
    one.receive(M.PRE_VOTE, THREE, term=Term(term + 1), index=Index(9), log_term=term)
    assert not [vote for vote in sent(one.said, M.PRE_VOTE_RESPONSE) if not vote.reject]
    for _ in range(3):
        one.after(TICK_MS)
    effects = one.receive(M.PRE_VOTE, THREE, term=Term(term + 1), index=Index(9), log_term=term)
    assert [vote.reject for vote in sent(effects, M.PRE_VOTE_RESPONSE)] == [False]


def test_a_leader_that_is_heard_again_is_not_challenged() -> None:
    one = Dialogue(ME, TWO, THREE, ticks=1_000)
    one.follow(TWO)
    one.tell(PeerLost(TWO))
    one.follow(TWO)
    assert not sent(one.after(4 * STEP_MS), M.PRE_VOTE)


# ---- a fenced node


def test_a_fenced_node_campaigns_only_after_the_others_had_time_to() -> None:
    one = Dialogue(ME, TWO, THREE, ticks=3)
    one.follow(TWO)
    one.tell(FenceState(), PeerLost(TWO))
    began = one.now_ms
    while not sent(one.after(TICK_MS), M.PRE_VOTE):
        assert one.now_ms - began < 100 * RETRY_MS, "its log may be the longest: nobody else could ever be elected"
    assert one.now_ms - began >= 3 * RETRY_MS


def test_a_fenced_node_that_hears_of_a_leader_lets_the_others_go_first_again() -> None:
    one = Dialogue(ME, TWO, THREE, ticks=3)
    one.tell(FenceState())
    one.after(2 * RETRY_MS)
    one.follow(TWO)
    one.after(TICK_MS)
    one.tell(PeerLost(TWO))
    began = one.now_ms
    while one.now_ms - began < 2 * RETRY_MS:
        assert not sent(one.after(TICK_MS), M.PRE_VOTE)


def test_a_fenced_leader_hands_its_log_on_and_takes_nothing() -> None:
    one = Dialogue(ME, TWO, THREE, ticks=3)
    one.tell(FenceState())
    one.lead()
    assert only(CommandsAnswered, one.tell(ProposeCommands(7, [COMMAND]))) == [
        CommandsAnswered(7, ProposalFailure.NOT_LEADER)
    ]
    one.receive(M.HEARTBEAT_RESPONSE)
    assert [message.to for message in sent(one.after(TICK_MS), M.TIMEOUT_NOW)] == [TWO]


# ---- a disk that hangs, and who leads on


def test_a_leader_whose_disk_hangs_gives_up_its_office_once_for_each_write() -> None:
    one = leading()
    one.receive(M.HEARTBEAT_RESPONSE)
    one.tell(ProposeCommands(1, [COMMAND]))
    one.acknowledge()
    assert not only(DiskStalled, one.after(STALL_MS))
    assert one.group.is_serving(one.now_ms)
    effects = one.after(TICK_MS)
    assert only(DiskStalled, effects) == [DiskStalled(TWO)]
    assert one.group.handed_over == {"disk": 1, "loop": 0}
    assert [message.to for message in sent(effects, M.TIMEOUT_NOW)] == [TWO]
    assert not one.group.is_serving(one.now_ms)
    assert not only(DiskStalled, one.after(TICK_MS))
    one.tell(Written())
    assert one.group.is_serving(one.now_ms)


def test_a_follower_whose_disk_hangs_only_says_that_it_does_not_serve() -> None:
    one = Dialogue(ME, TWO, THREE, ticks=1_000)
    one.receive(M.HEARTBEAT, term=Term(5))
    assert not only(DiskStalled, one.after(STALL_MS + TICK_MS))
    assert not one.group.is_serving(one.now_ms)


def test_leadership_goes_to_the_follower_that_is_furthest_unless_one_is_named() -> None:
    one = leading()
    one.acknowledge(THREE)
    one.tell(ProposeCommands(1, [COMMAND]))
    one.do_all()
    one.acknowledge(THREE)
    assert [message.to for message in sent(one.tell(TransferLeadership(1)), M.TIMEOUT_NOW)] == [THREE]


def test_a_transfer_has_ended_when_another_leads() -> None:
    one = leading()
    one.tell(TransferLeadership(1, TWO))
    effects = one.receive(M.VOTE, TWO, term=Term(9), index=Index(9), log_term=Term(9), context=b"transfer")
    assert only(TransferEnded, effects) == [TransferEnded(1, transferred=True)]


def test_a_transfer_that_nobody_takes_has_failed_after_a_while() -> None:
    one = leading()
    one.tell(TransferLeadership(1, THREE))
    assert not only(TransferEnded, one.after(2 * RETRY_MS))
    assert only(TransferEnded, one.after(TICK_MS)) == [TransferEnded(1, transferred=False)]


def test_a_lone_leader_has_nobody_to_transfer_to() -> None:
    one = Dialogue(ME)
    while not one.group.is_leader:
        one.after(TICK_MS)
        one.do_all()
    assert only(TransferEnded, one.tell(TransferLeadership(1))) == [TransferEnded(1, transferred=False)]


# ---- files


def grown(bounds: LogBounds) -> Dialogue:
    """A lone leader whose log has just become too long."""
    one = Dialogue(ME, bounds=bounds)
    while not only(StartCheckpoint, one.said):
        one.after(TICK_MS)
        one.tell(ProposeCommands(1, [COMMAND]))
        one.do_all()
    return one


def test_a_long_log_is_compacted_after_a_checkpoint_and_not_beyond_it() -> None:
    one = grown(LogBounds(retain_entries=2, retain_bytes=1 << 20))
    applied = one.group.applied_index
    [compact] = one.tell(Checkpointed(Index(applied - 3)))
    assert isinstance(compact, CompactLog)
    assert compact.snapshot.index == applied - 3
    one.tell(LogCompacted(compact.snapshot.index))
    assert one.group.raft.first_index == compact.snapshot.index + 1


def test_one_checkpoint_at_a_time_and_another_where_the_last_was_no_use() -> None:
    one = grown(LogBounds(retain_entries=2, retain_bytes=1 << 20))

    def checkpoints() -> int:
        one.tell(ProposeCommands(2, [COMMAND]))
        one.do_all()
        return len(only(StartCheckpoint, one.said))

    assert checkpoints() == 1
    one.tell(Checkpointed(Index(0)))
    assert checkpoints() == 2


def test_a_snapshot_is_installed_and_everyone_is_told_what_it_replaced() -> None:
    one = Dialogue(ME, TWO, THREE)
    one.follow()
    meta = SnapshotMeta(Index(9), Term(5), ConfState(voters=(ME, TWO, THREE)))
    [install] = only(StartInstall, one.receive(M.SNAPSHOT, snapshot=meta))
    assert install.snapshot == meta
    one.tell(AwaitApplied(1, Index(9)))
    effects = one.tell(SnapshotInstalled(members(1, 2, 3), LEVEL))
    assert StateReplaced(meta) in effects
    assert AppliedReached(1) in effects
    assert one.group.applied_index == 9


def test_a_proposal_that_a_snapshot_covers_has_an_unknown_outcome() -> None:
    one = leading()
    one.tell(ProposeCommands(1, [COMMAND]))
    one.do_all()
    meta = SnapshotMeta(Index(9), Term(9), ConfState(voters=(ME, TWO, THREE)))
    one.receive(M.SNAPSHOT, term=Term(9), snapshot=meta)
    one.do_all()
    effects = one.tell(SnapshotInstalled(members(1, 2, 3), LEVEL))
    assert only(CommandsAnswered, effects) == [CommandsAnswered(1, ProposalFailure.SKIPPED)]


def compacted() -> Dialogue:
    """A leader that removed what THREE lacks."""
    one = leading(bounds=LogBounds(retain_entries=1, retain_bytes=1 << 20))
    for _ in range(4):
        one.tell(ProposeCommands(1, [COMMAND]))
        one.do_all()
        one.acknowledge(TWO)
        one.do_all()
    [compact] = one.tell(Checkpointed(one.group.applied_index))
    assert isinstance(compact, CompactLog)
    one.tell(LogCompacted(compact.snapshot.index))
    return one


def rejects(one: Dialogue) -> list[MakeSnapshot]:
    """THREE lacks all; what the leader makes for it."""
    effects = one.receive(M.APPEND_RESPONSE, THREE, reject=True, index=Index(0), reject_hint=Index(0))
    return only(MakeSnapshot, [*effects, *one.receive(M.HEARTBEAT_RESPONSE, THREE)])


def test_a_follower_that_lags_behind_the_log_is_offered_a_snapshot_made_for_it() -> None:
    one = compacted()
    assert rejects(one) == [MakeSnapshot((THREE,))]
    meta = SnapshotMeta(one.group.applied_index, one.group.raft.term, one.group.raft.conf_state)
    [message] = sent(one.tell(SnapshotMade(meta)), M.SNAPSHOT)
    assert (message.to, message.snapshot) == (THREE, meta)


def test_a_snapshot_that_cannot_be_made_is_tried_again_later_and_the_leader_goes_on() -> None:
    one = compacted()
    assert rejects(one) == [MakeSnapshot((THREE,))]
    one.tell(SnapshotFailed())
    assert one.group.is_leader
    assert rejects(one) == [], "not at every answer of the follower"
    one.now_ms += RETRY_DELAY_MS
    assert rejects(one) == [MakeSnapshot((THREE,))]


# ---- disks that are nearly full

SEND = state_pb2.Command(send_messages=state_pb2.SendMessages(session_id=1))


def room(one: Dialogue, **rooms: Room) -> Sequence[Effect]:
    names = {"me": ME, "two": TWO, "three": THREE}
    return one.tell(*(RoomReported(names[name], value) for name, value in rooms.items()))


def refused(one: Dialogue, command: state_pb2.Command) -> bool:
    answers = only(CommandsAnswered, one.tell(ProposeCommands(1, [command])))
    one.do_all()
    one.acknowledge()
    one.do_all()
    return answers == [CommandsAnswered(1, ProposalFailure.NO_ROOM)]


def test_growth_is_refused_while_no_majority_has_room_and_the_rest_goes_on() -> None:
    one = leading()
    room(one, me=Room.ENOUGH, two=Room.ENOUGH, three=Room.LOW)
    assert not refused(one, SEND), "two of three have room"
    room(one, two=Room.LOW)
    assert refused(one, SEND)
    assert not refused(one, COMMAND), "an acknowledgement goes on from the reserve"
    room(one, three=Room.ENOUGH)
    assert not refused(one, SEND), "it clears by itself"


def test_nothing_is_proposed_while_no_majority_can_append() -> None:
    one = leading()
    room(one, two=Room.FULL, three=Room.FULL)
    assert refused(one, COMMAND)
    change = one.tell(ChangeMembers(2, RemoveMember("n3", frozenset({ME, TWO, THREE}))))
    assert only(CommandsAnswered, change) == [CommandsAnswered(2, ProposalFailure.NO_ROOM)]
    room(one, two=Room.LOW)
    assert not refused(one, COMMAND)
    assert refused(one, SEND)


def test_a_member_that_is_not_heard_has_no_room_until_it_is_heard_again() -> None:
    one = leading()
    room(one, me=Room.ENOUGH, two=Room.LOW, three=Room.ENOUGH)
    assert not refused(one, SEND)
    one.tell(PeerLost(THREE))
    assert refused(one, SEND), "what two of three have to store, the one that is low has to store"
    one.receive(M.HEARTBEAT_RESPONSE, THREE)
    assert not refused(one, SEND)


def test_members_that_are_down_are_not_told_as_full_disks() -> None:
    one = leading()
    room(one, me=Room.ENOUGH, two=Room.ENOUGH, three=Room.ENOUGH)
    one.tell(PeerLost(TWO), PeerLost(THREE))
    assert not refused(one, SEND), "it waits for a majority, as without reports"


def test_a_member_of_a_release_without_reports_has_room() -> None:
    one = leading()
    one.tell(PeerLost(TWO), PeerLost(THREE))
    assert not refused(one, SEND)


@pytest.mark.parametrize("own", [Room.LOW, Room.FULL])
def test_a_leader_without_room_transfers_leadership_to_a_voter_that_has_more(own: Room) -> None:
    one = leading()
    one.acknowledge(TWO, THREE)
    room(one, me=own, two=own)
    assert one.group.raft.status().transferee == 0
    one.after(TICK_MS)
    assert one.group.raft.status().transferee == THREE


def test_a_leader_without_room_stays_if_nobody_has_more() -> None:
    one = leading()
    one.acknowledge(TWO, THREE)
    room(one, me=Room.LOW, two=Room.LOW, three=Room.FULL)
    one.after(TICK_MS)
    assert one.group.raft.status().transferee == 0


def test_a_full_follower_appends_nothing_and_says_that_it_does_not_serve_until_there_is_room() -> None:
    one = Dialogue(ME, TWO, THREE)
    one.follow()
    entry = Entry(Term(5), Index(1), EntryType.NORMAL, b"")
    assert one.group.is_serving(one.now_ms)
    room(one, me=Room.FULL)
    assert not one.receive(M.APPEND, TWO, index=Index(0), entries=(entry,)), "neither written nor answered"
    assert not one.group.is_serving(one.now_ms), "its readers would wait for what it does not take"
    one.receive(M.HEARTBEAT, TWO)
    assert one.group.role.leader == TWO
    room(one, me=Room.LOW)
    [write] = only(StartWrite, one.receive(M.APPEND, TWO, index=Index(0), entries=(entry,)))
    assert [stored for persist in write.writes for stored in persist.entries] == [entry]
    assert one.group.is_serving(one.now_ms)


def test_all_nodes_go_on_serving_reads_when_all_are_full() -> None:
    one = leading()
    room(one, me=Room.FULL, two=Room.FULL, three=Room.FULL)
    assert one.group.is_serving(one.now_ms)


def test_the_reserve_has_two_stages() -> None:
    rooms = [room_of(free, 1000) for free in (1000, 999, 500, 499, 0)]
    assert rooms == [Room.ENOUGH, Room.LOW, Room.LOW, Room.FULL, Room.FULL]
    assert room_of(600, 1000, 400) is Room.ENOUGH, "removed messages leave room inside the file"
    assert room_of(499, 1000, 10_000) is Room.FULL, "which the log cannot use"


def test_an_operators_transfer_prefers_a_voter_with_room() -> None:
    one = leading()
    one.acknowledge(TWO, THREE)
    room(one, three=Room.LOW)
    one.tell(TransferLeadership(9))
    assert one.group.raft.status().transferee == TWO


def test_a_received_snapshot_is_answered_at_once_whether_it_will_be_installed_or_not() -> None:
    one = Dialogue(ME, TWO, THREE)
    one.follow()
    meta = SnapshotMeta(Index(9), Term(5), ConfState(voters=(ME, TWO, THREE)))
    stale = Message(M.SNAPSHOT, TWO, ME, Term(4), snapshot=meta)  # of a leader of an earlier term
    assert only(SnapshotAnswered, one.tell(SnapshotReceived(1, stale))) == [SnapshotAnswered(1, meta, is_taken=False)]
    good = Message(M.SNAPSHOT, TWO, ME, Term(5), snapshot=meta)
    assert only(SnapshotAnswered, one.tell(SnapshotReceived(2, good))) == [SnapshotAnswered(2, meta, is_taken=True)]
    one.tell(SnapshotInstalled(members(ME, TWO, THREE), LEVEL))
    assert only(SnapshotAnswered, one.tell(SnapshotReceived(3, good))) == [SnapshotAnswered(3, meta, is_taken=False)]


# ---- the rest


def test_a_message_that_breaks_the_protocol_changes_nothing_and_is_told() -> None:
    one = Dialogue(ME, TWO, THREE)
    [dropped] = one.receive(M.SNAPSHOT, term=Term(1))
    assert isinstance(dropped, MessageDropped)
    assert dropped.sender == TWO
    assert one.group.raft.term == 0


def test_a_commit_index_beyond_the_log_is_not_believed_of_a_node_that_is_no_leader_here() -> None:
    one = Dialogue(ME, TWO, THREE)
    one.receive(M.HEARTBEAT, term=Term(5), commit=Index(1 << 40))
    assert (one.group.raft.term, one.group.raft.commit_index) == (5, 0)
    one.receive(M.HEARTBEAT, THREE, term=Term(6), commit=Index(1 << 40))
    assert (one.group.raft.leader, one.group.raft.commit_index) == (THREE, 0)


def test_a_node_whose_leader_counts_entries_that_its_log_lacks_takes_part_in_nothing_more() -> None:
    one = Dialogue(ME, TWO, THREE)
    one.receive(M.HEARTBEAT, term=Term(5))
    [lost] = only(EntriesLost, one.receive(M.HEARTBEAT, term=Term(5), commit=Index(3)))
    assert "up to 3" in lost.detail
    assert not one.group.is_serving(one.now_ms)
    assert not one.receive(M.VOTE, THREE, term=Term(9), index=Index(9), log_term=Term(9))
    one.tell(PeerLost(TWO))
    assert not only(Send, one.after(10_000))
    assert one.group.raft.term == 5


def test_a_follower_that_confirms_more_than_was_sent_is_not_believed() -> None:
    one = leading()
    [dropped] = one.receive(M.APPEND_RESPONSE, index=Index(1 << 40))
    assert isinstance(dropped, MessageDropped)
    one.do_all()


def test_a_new_role_is_told() -> None:
    one = Dialogue(ME, TWO, THREE)
    [told] = only(RoleChanged, one.receive(M.HEARTBEAT, term=Term(5)))
    assert (told.change.role, told.change.term, told.change.leader) == (Role.FOLLOWER, 5, TWO)
    assert one.group.role == told.change


def test_two_groups_on_one_node_know_nothing_of_each_other() -> None:
    one, other = leading(), Dialogue(ME, TWO, THREE)
    one.tell(ProposeCommands(1, [COMMAND]))
    assert other.tell(ProposeCommands(1, [COMMAND])) == (CommandsAnswered(1, ProposalFailure.NOT_LEADER),)
    assert one.group.is_leader
    assert not other.group.is_leader


@pytest.mark.parametrize("kind", [AskReadBarrier, Withdraw])
def test_nothing_follows_from_what_nobody_answers(kind: type[AskReadBarrier] | type[Withdraw]) -> None:
    assert Dialogue(ME, TWO, THREE).tell(kind(99)) == ()
