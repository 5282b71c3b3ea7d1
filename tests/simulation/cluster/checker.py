"""The properties that must hold after every event (Raft figure 3), each told from all that was ever seen.

Election safety, leader append-only, log matching, leader completeness, state machine safety; and beyond the paper: no
vote is doubled across restarts, no promise leaves before the disk keeps it, what a leader commits is on the disks of a
majority, terms and commit indexes do not go back, reads wait for all that was acknowledged. What clients see is
checked in ledger.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol

from parley_proto.v1 import peer_pb2
from parleyd.entry_holders import EntryHolders
from parleyd.raft.core import PROMISES
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.raft import Raft
from parleyd.raft.types import Entry, HardState, Index, NodeId, Role
from parleyd.raft.update import ReadReady, Update


class ViolationError(AssertionError):
    """A property does not hold."""


def require(condition: bool, text: str) -> None:
    """Raise ViolationError unless `condition` holds."""
    if not condition:
        raise ViolationError(text)


class Durable(Protocol):
    """What a server's disk would still hold if it died now."""

    def durable_vote(self) -> HardState:
        """Term and vote on disk."""

    def durable_last_index(self) -> int:
        """The last entry on disk."""

    def has_entry(self, index: int, term: int) -> bool:
        """Whether the entry is on disk, or behind the start of the log there."""


async def _nobody(*_: object) -> peer_pb2.ListHoldersReply:
    raise AssertionError("a leader asks nobody")


LEADERS_WORDS = frozenset({MessageType.APPEND, MessageType.HEARTBEAT, MessageType.SNAPSHOT, MessageType.TIMEOUT_NOW})


@dataclass
class View:
    """What was last seen of one running server."""

    term: int = 0
    commit: int = 0
    role: Role = Role.FOLLOWER
    last_index: int = 0
    last_term: int = 0


@dataclass
class Checker:
    """All that was ever seen in one run.

    `entries`: by (index, term), the term before and the content. `committed`: by index, the entry's term and the term
    in which it was first known to be committed. `votes`: by (voter, term), the candidate that was promised it.
    `acknowledged_up_to`: the newest state that any client has seen. `disk_of`: None where there are no disks.
    """

    leaders: dict[int, int] = field(default_factory=dict)
    entries: dict[tuple[int, int], tuple[int, int, bytes]] = field(default_factory=dict)
    committed: dict[int, tuple[int, int]] = field(default_factory=dict)
    applied: dict[int, bytes] = field(default_factory=dict)
    votes: dict[tuple[int, int], int] = field(default_factory=dict)
    views: dict[int, View] = field(default_factory=dict)
    acknowledged_up_to: int = 0
    reads: dict[bytes, int] = field(default_factory=dict)
    disk_of: Callable[[NodeId], Durable] | None = None

    def started(self, node: int, raft: Raft) -> None:
        """A server starts or starts again."""
        status = raft.status()
        log = raft._core.log
        self.views[node] = View(status.term, 0, Role.FOLLOWER, status.last_index, log.last_term)

    def stepped(self, node: int, raft: Raft, update: Update) -> None:
        """A server has taken a step."""
        for message in update.send:
            require(message.type not in PROMISES, f"{node} sends {message} without waiting for its disk")
        require(update.persist is not None or not update.after_persist, f"{node} promises without a write")
        core, view = raft._core, self.views[node]
        if update.persist is not None:
            self._note_entries(node, raft, update.persist.entries)
        require(core.current_term >= view.term, f"the term of {node} goes back to {core.current_term}")
        require(core.log.commit_index >= view.commit, f"the commit index of {node} goes back")
        self._check_leader(node, raft, view)
        self._note_committed(node, raft, view)
        if core.role is Role.LEADER and core.log.commit_index > view.commit and self.disk_of is not None:
            self._check_majority(node, raft, self.disk_of)
            self._check_holders(node, raft, self.disk_of)
        view.term, view.role = core.current_term, core.role
        view.last_index, view.last_term = core.log.last_index, core.log.last_term
        view.commit = core.log.commit_index

    def _note_entries(self, node: int, raft: Raft, entries: tuple[Entry, ...]) -> None:
        """Log matching: the same index and term means the same entry after the same entry, and so on down."""
        if not entries:
            return
        before = raft._core.log.term(Index(entries[0].index - 1)) or 0
        for entry in entries:
            content = (int(before), int(entry.type), entry.data)
            known = self.entries.setdefault((entry.index, entry.term), content)
            require(known == content, f"{node} has at {entry.term}/{entry.index} {content}, another server {known}")
            before = entry.term

    def _check_leader(self, node: int, raft: Raft, view: View) -> None:
        core = raft._core
        if core.role is not Role.LEADER:
            return
        term = core.current_term
        known = self.leaders.setdefault(term, node)
        require(known == node, f"two leaders in term {term}: {known} and {node}")
        if view.role is Role.LEADER and view.term == term:
            same = core.log.last_index >= view.last_index and (
                core.log.first_index > view.last_index or core.log.term(Index(view.last_index)) == view.last_term
            )
            require(same, f"leader {node} of term {term} has changed or cut its own log")
            return
        # It has just been elected: all that was committed in earlier terms must be in its log.
        for index, (entry_term, commit_term) in self.committed.items():
            if commit_term < term and index >= core.log.first_index:
                found = core.log.term(Index(index))
                require(found == entry_term, f"leader {node} of term {term} lacks committed {entry_term}/{index}")

    def _note_committed(self, node: int, raft: Raft, view: View) -> None:
        log = raft._core.log
        for index in range(max(view.commit + 1, log.first_index), log.commit_index + 1):
            entry_term = int(log.term(Index(index)) or 0)
            known, _ = self.committed.setdefault(index, (entry_term, raft._core.current_term))
            require(known == entry_term, f"{node} takes {entry_term}/{index} for committed, another {known}/{index}")

    def _check_majority(self, node: int, raft: Raft, disk_of: Callable[[NodeId], Durable]) -> None:
        """A leader has taken entries for committed: the last of them is on the disks of a majority, of both halves."""
        core = raft._core
        index = core.log.commit_index
        term = int(core.log.term(index) or 0)

        def is_on_majority(voters: Collection[NodeId]) -> bool:
            return 2 * sum(disk_of(voter).has_entry(index, term) for voter in voters) > len(voters) or not voters

        conf = core.conf_state
        require(
            is_on_majority(conf.voters) and is_on_majority(conf.voters_outgoing),
            f"leader {node} takes {term}/{index} for committed, and no majority of {conf} has it on disk",
        )

    def _check_holders(self, node: int, raft: Raft, disk_of: Callable[[NodeId], Durable]) -> None:
        """The receipts of a message name servers: each of them has its entry on disk."""
        index = raft._core.log.commit_index
        term = int(raft._core.log.term(index) or 0)
        answer = EntryHolders(NodeId(node), raft.status, _nobody).answer(peer_pb2.ListHoldersRequest(index=index))
        require(answer.known, f"leader {node} does not know who has {term}/{index}")
        for holder in answer.node_ids:
            has_it = disk_of(NodeId(holder)).has_entry(index, term)
            require(has_it, f"leader {node} says that {holder} has {term}/{index}, and its disk does not")

    def left(self, message: Message, disk: Durable | None = None) -> None:
        """A message leaves, or a promise of a server to itself is given. `disk`: the sender's."""
        kind, sender, term = message.type, message.sender, message.term
        if kind is MessageType.VOTE_RESPONSE and not message.reject:
            known = self.votes.setdefault((sender, term), message.to)
            require(known == message.to, f"{sender} has voted for {known} and for {message.to} in term {term}")
        if disk is None or message.reject or kind not in PROMISES | LEADERS_WORDS:
            return
        if kind is MessageType.PRE_VOTE_RESPONSE:
            return  # promises nothing: it is of a term that nobody is in yet
        durable = disk.durable_vote()
        require(durable.current_term >= term, f"{sender} speaks of term {term}, its disk has {durable.current_term}")
        if durable.current_term > term:
            return  # it has moved on, and kept both at once
        if kind is MessageType.VOTE_RESPONSE:
            require(durable.voted_for == message.to, f"{sender} votes for {message.to} and its disk does not know")
        elif kind is MessageType.APPEND_RESPONSE:
            last = disk.durable_last_index()
            require(last >= message.index, f"{sender} says it has {message.index} and its disk ends at {last}")
        else:
            require(durable.voted_for == sender, f"{sender} leads term {term} without its own vote on disk")

    def has_applied(self, node: int, index: int, digest: bytes) -> None:
        """The state machine of `node` is at `index`."""
        known = self.applied.setdefault(index, digest)
        require(known == digest, f"the state of {node} at {index} differs from another server's")

    def has_been_seen(self, index: int) -> None:
        """A client was told something of the state at `index`: nobody may be told of an older one from now on."""
        self.acknowledged_up_to = max(self.acknowledged_up_to, index)

    def asked_to_read(self, context: bytes) -> None:
        """A server asks for a read index; it must cover all that was acknowledged before."""
        self.reads[context] = self.acknowledged_up_to

    def read_is_ready(self, node: int, ready: ReadReady) -> None:
        """A read may be answered."""
        require(ready.context in self.reads, f"{node} answers a read twice, or one that nobody asked for")
        floor = self.reads.pop(ready.context)
        require(ready.index >= floor, f"a read on {node} at {ready.index} misses what was acknowledged at {floor}")
