"""Bugs planted on purpose: a simulation that does not find them proves nothing about the ones that are not planted.

Each is a context in which one rule is broken: of the protocol, of the driver, of storage and recovery, of the state
machine, or of what people do.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from parley_proto.v1 import state_pb2 as pb
from parleyd.group.driver import Driver
from parleyd.group.proposals import AppliedCommands, ProposalTable
from parleyd.group.retention import LogRetention
from parleyd.machine.audit_actions import NotAudited
from parleyd.machine.authorisation import Action
from parleyd.machine.feature import SignedInCommand
from parleyd.machine.features import channel_members, removals, sends, waiting
from parleyd.machine.features.accounts import AccountRow
from parleyd.machine.features.channels import OneChannel
from parleyd.machine.features.conversations import Conversations
from parleyd.machine.features.messages import Appender
from parleyd.machine.features.receipts import Receipts
from parleyd.machine.features.sessions import Actor
from parleyd.machine.limits import MAX_ID
from parleyd.machine.reader import StateReader
from parleyd.machine.registry import COMMANDS
from parleyd.machine.state import State
from parleyd.raft import election, reads, receive, reconfigure, replication
from parleyd.raft.core import Core
from parleyd.raft.events import SnapshotAvailable
from parleyd.raft.log import RaftLog
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.quorum import VoteResult
from parleyd.raft.types import (
    NO_NODE,
    ConfState,
    EntryType,
    HardState,
    Index,
    NodeId,
    Role,
    SnapshotMeta,
    Term,
)
from parleyd.raft.update import Update
from parleyd.storage import recovery
from parleyd.storage.raft_storage import LogContents, RaftStorage
from parleyd.storage.recovery import Recovered
from tests.simulation.cluster.disk import SimulatedDisk
from tests.simulation.cluster.faults import Faults
from tests.simulation.cluster.plan import Fault
from tests.simulation.cluster.server import SimulatedServer


@contextmanager
def vote_is_not_durable() -> Iterator[None]:
    """The disk keeps the term but not the vote."""
    original = RaftStorage._take_hard_state

    def take(self: RaftStorage, hard_state: HardState | None) -> None:
        original(self, hard_state and replace(hard_state, voted_for=NO_NODE))

    with patch.object(RaftStorage, "_take_hard_state", take):
        yield


@contextmanager
def promises_leave_before_the_sync() -> Iterator[None]:
    """Answers leave at once, before the write that makes them true."""
    original = Driver._absorb

    def absorb(self: Driver, update: Update) -> None:
        self._send(update.after_persist)
        original(self, replace(update, after_persist=()))

    with patch.object(Driver, "_absorb", absorb):
        yield


@contextmanager
def anybody_gets_a_vote() -> Iterator[None]:
    """A vote is granted whatever the candidate's log is."""

    def is_up_to_date(self: RaftLog, last_index: Index, last_term: Term) -> bool:
        return True

    with patch.object(RaftLog, "is_up_to_date", is_up_to_date):
        yield


@contextmanager
def two_votes_in_a_term() -> Iterator[None]:
    """Whoever asks gets the vote, also after another."""
    original = election.handle_vote_request

    def handle(core: Core, message: Message) -> None:
        core.voted_for, core.leader = NO_NODE, NO_NODE
        original(core, message)

    handlers = {MessageType.VOTE: handle, MessageType.PRE_VOTE: handle}
    with patch.dict(receive._HANDLERS, handlers):
        yield


@contextmanager
def entries_are_taken_without_a_match() -> Iterator[None]:
    """A follower takes entries without looking at the one before."""
    original = RaftLog.accept

    def accept(self: RaftLog, prev_index: Index, prev_term: Term, entries: tuple[Any, ...]) -> Index | None:
        known = self.term(prev_index)
        return original(self, prev_index, prev_term if known is None else known, entries)

    with patch.object(RaftLog, "accept", accept):
        yield


@contextmanager
def a_follower_commits_beyond_what_it_checked() -> Iterator[None]:
    """The leader's commit index is taken over for entries it has not vouched for."""

    def heartbeat(core: Core, message: Message) -> None:
        core.log.commit_to(min(core.log.last_index, Index(message.commit + 1)))
        core.send(MessageType.HEARTBEAT_RESPONSE, message.sender, context=message.context)

    with patch.object(replication, "handle_heartbeat", heartbeat):
        yield


@contextmanager
def a_leader_counts_itself_too_early() -> Iterator[None]:
    """The leader's own match index runs ahead of its disk."""
    original = replication.append_entries

    def append(core: Core, items: list[tuple[EntryType, bytes]]) -> bool:
        taken = original(core, items)
        core.progress[core.id].acknowledge(core.log.last_index)
        return taken

    with patch.object(replication, "append_entries", append):
        yield


@contextmanager
def reads_without_a_round() -> Iterator[None]:
    """A leader answers reads without asking whether it still leads."""

    def lead(core: Core, request: Any) -> None:
        reads._answer(core, request, core.log.commit_index)

    with patch.object(reads, "_lead_read", lead):
        yield


@contextmanager
def reads_before_the_first_commit() -> Iterator[None]:
    """A new leader answers reads although it does not know what its predecessor committed."""

    def committed(self: Core) -> bool:
        return True

    with patch.object(Core, "committed_in_current_term", committed):
        yield


@contextmanager
def a_lone_voter_reads_early() -> Iterator[None]:
    """A lone voter answers reads before it has committed in its term."""
    original = reads._lead_read

    def lead(core: Core, request: Any) -> None:
        if core.is_only_voter():
            reads._answer(core, request, core.log.commit_index)
        else:
            original(core, request)

    with patch.object(reads, "_lead_read", lead):
        yield


@contextmanager
def waiting_reads_are_not_counted_again() -> Iterator[None]:
    """A membership that shrinks leaves reads waiting for servers that are gone."""
    with patch.object(reads, "recount", lambda core: None):
        yield


@contextmanager
def several_changes_at_a_time() -> Iterator[None]:
    """Membership changes are taken while others are pending, and as simple ones."""

    def may_propose(core: Core, data: bytes) -> bool:
        return True

    with patch.object(reconfigure, "may_propose", may_propose):
        yield


@contextmanager
def the_window_is_never_reopened() -> Iterator[None]:
    """Acknowledgements do not make room for further messages."""

    def advance(core: Core, acknowledged: Index, progress: Any) -> None:
        if progress.state.value == "probe":
            progress.become_replicate()

    def heartbeat(core: Core, message: Message) -> None:
        core.progress[message.sender].recent_active = True

    with (
        patch.object(replication, "_advance_state", advance),
        patch.object(replication, "handle_heartbeat_response", heartbeat),
    ):
        yield


@contextmanager
def a_leader_stays_when_it_meets_a_higher_term() -> Iterator[None]:
    """A leader takes over a higher term without stepping down."""
    original = election.become_follower

    def become_follower(core: Core, term: Term, leader: NodeId) -> None:
        if core.role is Role.LEADER and term > core.current_term:
            core.current_term = term
            return
        original(core, term, leader)

    with patch.object(election, "become_follower", become_follower):
        yield


@contextmanager
def a_leader_without_a_durable_vote() -> Iterator[None]:
    """A candidate leads as soon as the others' votes suffice, before its own disk has the term."""
    original = election.handle_vote_response

    def handle(core: Core, message: Message) -> None:
        original(core, message)
        if core.role is Role.CANDIDATE and core.vote_result(core.votes) is VoteResult.WON:
            election.become_leader(core)
            replication.broadcast_append(core)

    handlers = {MessageType.VOTE_RESPONSE: handle}
    with patch.dict(receive._HANDLERS, handlers):
        yield


@contextmanager
def a_failed_write_is_taken_for_done() -> Iterator[None]:
    """After an error of the disk the server goes on as if the write had succeeded."""
    original = SimulatedDisk.write

    def write(self: SimulatedDisk, work: Callable[[], None], connection: Any, rng: random.Random) -> None:
        if self.next_error is None and not self.is_full:
            original(self, work, connection, rng)
        self.next_error = None

    with patch.object(SimulatedDisk, "write", write):
        yield


@contextmanager
def a_removed_server_keeps_its_commit_index_to_itself() -> Iterator[None]:
    """Who has applied its own removal refuses votes without saying what it knows to be committed."""
    with patch.object(election, "learn_commit", lambda core, message: None):
        yield


@contextmanager
def a_removal_is_told_before_others_know() -> Iterator[None]:
    """The operator is told as soon as the leader has applied the removal, and destroys the removed server."""

    def propose(self: SimulatedServer, commands: Any, then: Callable[[Any], None]) -> None:
        if commands or not self.is_leader:
            propose_it(self, commands, then)
        else:
            then(AppliedCommands(Index(0), ()))

    propose_it = SimulatedServer.propose
    with patch.object(SimulatedServer, "propose", propose):
        yield


@contextmanager
def entries_of_a_snapshot_are_applied_again() -> Iterator[None]:
    """What was handed out before a snapshot came is applied after it."""

    def installed(self: Driver) -> SnapshotMeta:
        write, self._installing = self._installing, None
        assert write is not None
        assert write.persist.snapshot is not None
        self._send(write.after)
        self.step(write.persist.done)
        return write.persist.snapshot

    with patch.object(Driver, "installed", installed):
        yield


@contextmanager
def the_log_is_cut_beyond_the_checkpoint() -> Iterator[None]:
    """The log is cut although the state that covers it is not durable."""
    original = LogRetention.plan_compaction

    def plan_compaction(self: LogRetention, durable_index: int) -> tuple[Index, Term] | None:
        return original(self, 2**62)

    def checkpointed(self: SimulatedDisk, applied_index: int) -> None:
        """Nothing becomes durable."""

    with (
        patch.object(LogRetention, "plan_compaction", plan_compaction),
        patch.object(SimulatedDisk, "checkpointed", checkpointed),
    ):
        yield


@contextmanager
def a_log_behind_its_state_is_not_repaired() -> Iterator[None]:
    """A start that finds the state ahead of the log goes on with both as they are."""

    def start_over(log: LogContents, position: SnapshotMeta) -> Recovered:
        return Recovered(log.hard_state, log.entries, log.snapshot, position.index, position.conf_state)

    with patch.object(recovery, "_start_over", start_over):
        yield


@contextmanager
def results_go_to_whoever_waits_at_the_index() -> Iterator[None]:
    """A caller gets the results of another leader's entry that took the place of its own."""
    original = ProposalTable.applied

    def applied(self: ProposalTable, index: Index, term: Term, results: Any) -> None:
        waiting = self._in_flight.get(index)
        original(self, index, term if waiting is None else waiting.term, results)

    with patch.object(ProposalTable, "applied", applied):
        yield


@contextmanager
def a_retry_is_a_new_message() -> Iterator[None]:
    """The state machine takes a number that was used before for the next one."""

    def send_messages(state: State, actor: Actor, command: pb.SendMessages) -> pb.CommandResult:
        if command.sends:
            device = state.devices.get(actor.device_id)
            device.last_send_number = min(device.last_send_number, command.sends[0].number - 1)
        return sends.send_messages(state, actor, command)

    with patch.dict(
        COMMANDS, send_messages=SignedInCommand(send_messages, Action.SEND_MESSAGES, audits=NotAudited.CONTENT)
    ):
        yield


@contextmanager
def sends_are_taken_out_of_order() -> Iterator[None]:
    """A send whose predecessor is missing is stored all the same."""

    def send_messages(state: State, actor: Actor, command: pb.SendMessages) -> pb.CommandResult:
        if command.sends:
            device = state.devices.get(actor.device_id)
            device.last_send_number = max(device.last_send_number, command.sends[0].number - 1)
        return sends.send_messages(state, actor, command)

    with patch.dict(
        COMMANDS, send_messages=SignedInCommand(send_messages, Action.SEND_MESSAGES, audits=NotAudited.CONTENT)
    ):
        yield


@contextmanager
def apply_draws_a_number() -> Iterator[None]:
    """What apply stores depends on which server applies it."""
    original = Appender.add
    numbers: dict[int, int] = {}

    def add(self: Appender, *row: Any, **rest: Any) -> int:
        self._meta.last_message_id += numbers.setdefault(id(self._state), len(numbers)) % 2
        return original(self, *row, **rest)

    with patch.object(Appender, "add", add):
        yield


@contextmanager
def a_repeated_channel_is_made_again() -> Iterator[None]:
    """A retry of CreateChannel is taken for a new one, because its request id is not kept."""
    original = Conversations.add

    def add(self: Conversations, kind: int, pair: Any, title: str, members: Any, by: int, _: bytes) -> Any:
        return original(self, kind, pair, title, members, by, b"")

    with patch.object(Conversations, "add", add):
        yield


@contextmanager
def a_channel_message_goes_to_a_pair() -> Iterator[None]:
    """A send to a channel is stored in the sender's conversation with itself."""

    def resolve(state: State, sender: AccountRow, conversation_id: int) -> Any:
        return state.conversations.direct(sender.id, sender.id)

    with patch.object(sends, "_resolve_conversation", resolve):
        yield


@contextmanager
def channels_have_no_delivery_marks() -> Iterator[None]:
    """What a device acknowledges moves the marks of direct conversations alone."""
    with patch.object(Receipts, "channels_of", lambda self, account_id: set()):
        yield


@contextmanager
def a_former_member_receives_on() -> Iterator[None]:
    """A device whose account left a channel receives what is written there later."""
    heads = waiting._heads

    def without_ends(reader: StateReader, account_id: int, after_id: int) -> Any:
        return [(head, conversation_id, MAX_ID) for head, conversation_id, _ in heads(reader, account_id, after_id)]

    with patch.object(waiting, "_heads", without_ends):
        yield


@contextmanager
def what_waited_for_a_former_member_is_lost() -> Iterator[None]:
    """A device that was offline when its account left a channel never receives what was sent to it before."""
    heads = waiting._heads

    def of_members(reader: StateReader, account_id: int, after_id: int) -> Any:
        return [head for head in heads(reader, account_id, after_id) if head[2] == MAX_ID]

    with patch.object(waiting, "_heads", of_members):
        yield


@contextmanager
def a_read_mark_is_told_and_not_stored() -> Iterator[None]:
    """The answer to MarkRead comes from memory; the row is never written."""

    def mark_read(state: State, actor: Actor, command: pb.MarkRead) -> pb.CommandResult:
        return pb.CommandResult(code=pb.RESULT_CODE_OK)

    with patch.dict(COMMANDS, mark_read=SignedInCommand(mark_read, Action.MARK_MESSAGES, audits=NotAudited.CONTENT)):
        yield


@contextmanager
def a_mute_is_told_and_not_stored() -> Iterator[None]:
    """The answer to SetMuted comes from memory; the row is never written."""

    def set_muted(state: State, actor: Actor, command: pb.SetMuted) -> pb.CommandResult:
        return pb.CommandResult(code=pb.RESULT_CODE_OK)

    with patch.dict(
        COMMANDS, set_muted=SignedInCommand(set_muted, Action.MUTE_CONVERSATION, audits=NotAudited.OWN_VIEW)
    ):
        yield


@contextmanager
def what_is_put_away_is_told_and_not_stored() -> Iterator[None]:
    """The answer to SetPutAway comes from memory; the row is never written."""

    def set_put_away(state: State, actor: Actor, command: pb.SetPutAway) -> pb.CommandResult:
        return pb.CommandResult(code=pb.RESULT_CODE_OK)

    with patch.dict(
        COMMANDS, set_put_away=SignedInCommand(set_put_away, Action.PUT_CONVERSATION_AWAY, audits=NotAudited.OWN_VIEW)
    ):
        yield


@contextmanager
def a_removal_is_told_and_not_stored() -> Iterator[None]:
    """The answer to RemoveConversation comes from memory; the row is never written."""

    def remove(state: State, actor: Actor, command: pb.RemoveConversation) -> pb.CommandResult:
        removed = pb.RemoveConversationResult(removed_up_to=command.up_to)
        return pb.CommandResult(code=pb.RESULT_CODE_OK, remove_conversation=removed)

    with patch.dict(
        COMMANDS,
        remove_conversation=SignedInCommand(remove, Action.REMOVE_CONVERSATION, audits=NotAudited.OWN_VIEW),
    ):
        yield


@contextmanager
def a_device_at_the_end_is_not_told_of_a_removal() -> Iterator[None]:
    """A page tells removals after its beginning, and not those at it."""
    since = removals.since

    def after(reader: StateReader, account_id: int, after_id: int) -> tuple[tuple[int, int], ...]:
        return since(reader, account_id, after_id + 1)

    with patch.object(removals, "since", after):
        yield


@contextmanager
def who_leaves_a_channel_loses_its_mute() -> Iterator[None]:
    """A membership that ends takes with it what the account has set for the channel."""
    original = channel_members._depart

    def depart(channel: OneChannel, account_ids: list[int]) -> pb.ResultCode.ValueType:
        code = original(channel, account_ids)
        query = "DELETE FROM muted_conversations WHERE account_id = ? AND conversation_id = ?"
        if code == pb.RESULT_CODE_OK:
            channel.state.connection.executemany(query, [(account_id, channel.id) for account_id in account_ids])
        return code

    with patch.object(channel_members, "_depart", depart):
        yield


@contextmanager
def a_snapshot_brings_an_old_membership() -> Iterator[None]:
    """A snapshot is announced with the bootstrap members for its members."""
    original = SnapshotAvailable.__init__

    def announce(self: SnapshotAvailable, snapshot: SnapshotMeta) -> None:
        bootstrap_members = ConfState(voters=(NodeId(1), NodeId(2), NodeId(3)))
        original(self, replace(snapshot, conf_state=bootstrap_members))

    with patch.object(SnapshotAvailable, "__init__", announce):
        yield


@contextmanager
def a_wiped_server_keeps_its_id() -> Iterator[None]:
    """An empty directory is taken for the server that it was."""
    original = Faults._wiped_directory

    def wiped(self: Faults, fault: Fault, rng: random.Random) -> bool:
        done = original(self, fault, rng)
        for server in self._world.servers.values():
            if server.is_broken == "wiped":
                server.is_broken = ""
                server.disk = SimulatedDisk(self._world.plan.voters)
                self._world.start(server)
        return done

    with patch.object(Faults, "_wiped_directory", wiped):
        yield


@contextmanager
def reads_are_answered_from_what_is_here() -> Iterator[None]:
    """A server answers a read without asking whether it has seen everything."""

    def read(self: SimulatedServer, then: Callable[[], None]) -> None:
        then()

    with patch.object(SimulatedServer, "read", read):
        yield


PLANTED: dict[str, Callable[[], AbstractContextManager[None]]] = {
    bug.__name__: bug
    for bug in (
        anybody_gets_a_vote,
        two_votes_in_a_term,
        entries_are_taken_without_a_match,
        a_follower_commits_beyond_what_it_checked,
        a_leader_counts_itself_too_early,
        reads_without_a_round,
        reads_before_the_first_commit,
        several_changes_at_a_time,
        the_window_is_never_reopened,
        a_leader_stays_when_it_meets_a_higher_term,
        a_lone_voter_reads_early,
        waiting_reads_are_not_counted_again,
        a_leader_without_a_durable_vote,
        vote_is_not_durable,
        promises_leave_before_the_sync,
        a_failed_write_is_taken_for_done,
        a_removed_server_keeps_its_commit_index_to_itself,
        a_removal_is_told_before_others_know,
        entries_of_a_snapshot_are_applied_again,
        the_log_is_cut_beyond_the_checkpoint,
        a_log_behind_its_state_is_not_repaired,
        results_go_to_whoever_waits_at_the_index,
        a_retry_is_a_new_message,
        sends_are_taken_out_of_order,
        apply_draws_a_number,
        a_repeated_channel_is_made_again,
        a_channel_message_goes_to_a_pair,
        channels_have_no_delivery_marks,
        a_former_member_receives_on,
        what_waited_for_a_former_member_is_lost,
        a_read_mark_is_told_and_not_stored,
        a_mute_is_told_and_not_stored,
        what_is_put_away_is_told_and_not_stored,
        a_removal_is_told_and_not_stored,
        a_device_at_the_end_is_not_told_of_a_removal,
        who_leaves_a_channel_loses_its_mute,
        a_snapshot_brings_an_old_membership,
        a_wiped_server_keeps_its_id,
        reads_are_answered_from_what_is_here,
    )
}
