"""Bugs planted on purpose: a simulation that does not find them proves nothing about the ones that are not planted.

Each is a context in which one rule of the protocol is broken. The last three are bugs that the simulation has found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from server.raft import election, reads, receive, reconfigure, replication
from server.raft.core import Core
from server.raft.log import RaftLog
from server.raft.messages import Message, MessageType
from server.raft.quorum import VoteResult
from server.raft.types import NO_NODE, EntryType, Index, NodeId, Role, Term
from server.raft.update import Update
from tests.simulation.disk import Disk, Write
from tests.simulation.server import SimulatedServer


@contextmanager
def vote_is_not_durable() -> Iterator[None]:
    """The disk keeps the term but not the vote."""
    original = Disk._write

    def write(self: Disk, item: Write) -> None:
        original(self, item)
        self.hard_state = replace(self.hard_state, voted_for=NO_NODE)

    with patch.object(Disk, "_write", write):
        yield


@contextmanager
def promises_leave_before_the_sync() -> Iterator[None]:
    """Answers leave at once, and the core hears at once that its writes are durable."""
    original = SimulatedServer._carry_out

    def carry_out(self: SimulatedServer, update: Update) -> None:
        for message in update.after_persist:
            self._send(message)
        original(self, replace(update, after_persist=()))

    with patch.object(SimulatedServer, "_carry_out", carry_out):
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


PLANTED: dict[str, Callable[[], AbstractContextManager[None]]] = {
    bug.__name__: bug
    for bug in (
        vote_is_not_durable,
        promises_leave_before_the_sync,
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
    )
}
