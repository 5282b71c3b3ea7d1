"""One server of a small world: the real core, a disk, a state machine; and what one stimulus makes of it.

A step changes nothing: it copies the server, lets the core take the event, and carries out the Update by the rules in
update.py. Committed entries are applied at once, writes are queued for the disk, messages leave. What the step shows
about elections, votes, entries and commits is written down as facts; every two of them must agree (`conflict`), in
whatever order they came about. So what a step does depends on this one server and on the stimulus, on nothing else.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

from parleyd.raft.config import InitialState, RaftConfig
from parleyd.raft.core import Core, StepOutput
from parleyd.raft.events import (
    Applied,
    Campaign,
    Compact,
    ConfChangeApplied,
    Event,
    Propose,
    ProposeConfChange,
    ReadIndex,
    Receive,
    SnapshotAvailable,
    Tick,
    TransferLeader,
)
from parleyd.raft.inflights import Inflights
from parleyd.raft.log import RaftLog
from parleyd.raft.membership import ConfChange, encode_conf_change
from parleyd.raft.messages import Message
from parleyd.raft.progress import Progress
from parleyd.raft.raft import Raft
from parleyd.raft.readqueue import ReadQueue, ReadRound
from parleyd.raft.types import (
    NO_INDEX,
    NO_NODE,
    NO_TERM,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Index,
    NodeId,
    Role,
    SnapshotMeta,
    Term,
)
from parleyd.raft.update import Persist, Update
from tests.simulation.cluster.checker import Checker, View, require

BOOTSTRAP_INDEX, BOOTSTRAP_TERM = Index(1), Term(1)
"""The first membership stands for all before it, as in the product: whoever joins later begins with a snapshot."""

# What may happen to a server


class Kind(enum.Enum):
    """The kinds of stimuli."""

    ARRIVES = "arrives"
    SYNCS = "syncs"
    CAMPAIGNS = "campaigns"
    PROPOSES = "proposes"
    CHANGES = "proposes the change"
    TRANSFERS = "hands over to"
    TICKS = "ticks"
    READS = "is asked to read"
    COMPACTS = "compacts its log"
    CRASHES = "crashes"


@dataclass(frozen=True, slots=True)
class Stimulus:
    """Something that happens to server `node`.

    `number`: of a crash, how many writes that were done but not synced are kept nevertheless; of a proposal, which one
    it is; of a read, its floor, the highest index anybody was known to have committed when it was asked for.
    """

    kind: Kind
    node: NodeId
    message: Message | None = None
    change: ConfChange | None = None
    target: NodeId = NO_NODE
    number: int = 0

    def __str__(self) -> str:
        if self.message is not None:
            m = self.message
            return f"{m.sender}->{m.to} {m.type.name} {m.term} {m.index}"
        if self.change is not None:
            parts = [f"{one.type.name} {one.node}" for one in self.change.changes] or ["leave"]
            return f"{self.node} proposes {', '.join(parts)} ({self.change.transition.name})"
        if self.kind is Kind.CRASHES:
            return f"{self.node} crashes and keeps {self.number} unsynced" if self.number else f"{self.node} crashes"
        return f"{self.node} {self.kind.value}" + (f" {self.target}" if self.target else "")


# What is known because of it


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that was seen and stays true: `kind` of `key` is `value`. `text` says it."""

    kind: str
    key: tuple[int, ...]
    value: Any

    @property
    def text(self) -> str:
        """In words."""
        if self.kind == "vote":
            return f"{self.key[0]} has voted for {self.value} in term {self.key[1]}"
        if self.kind == "elected":
            return f"{self.value[0]} was elected in term {self.key[0]} with a log of terms {self.value[2]}"
        if self.kind == "committed":
            return f"entry {self.value}/{self.key[0]} was known to be committed in term {self.key[1]}"
        return f"{self.kind} {self.key} is {self.value}"


def conflict(one: Fact, other: Fact) -> str:
    """Why the two cannot both be (Raft figure 3), or nothing."""
    if one.kind == other.kind:
        if one.kind == "committed":
            return "two entries at one index" if one.key[0] == other.key[0] and one.value != other.value else ""
        return f"two values of one {one.kind}" if one.key == other.key and one.value != other.value else ""
    if one.kind == "committed":
        one, other = other, one
    if one.kind == "elected" and other.kind == "committed":
        # Leader completeness: what was committed in a term is in the log of every leader of a later one.
        (term,), (_, start, terms) = one.key, one.value
        index, known_in = other.key
        if known_in < term and index > start and terms[index - start - 1 : index - start] != (other.value,):
            return "a leader lacks what was committed"
    return ""


# The server


@dataclass(frozen=True, slots=True)
class Snapshot(SnapshotMeta):
    """The state machine at one index; `history` is all that was ever applied to it."""

    history: tuple[Entry, ...] = ()


STRANGER = Snapshot(NO_INDEX, NO_TERM)


@dataclass(frozen=True, slots=True)
class Write:
    """A write on its way, and the promises that wait for it."""

    persist: Persist
    promises: tuple[Message, ...]

    def is_hollow(self) -> bool:
        """Nothing needs a sync, and nothing that the core would do anything about comes of it."""
        done = self.persist.done
        return not (self.persist.must_sync or done.messages or done.last_index or done.snapshot_index)


@dataclass(frozen=True, slots=True)
class Disk:
    """`queue` is to be written; `cached` is written, but no sync was asked for: a crash may lose it."""

    state: Snapshot
    hard_state: HardState = field(default_factory=HardState)
    start: Index = NO_INDEX
    start_term: Term = NO_TERM
    entries: tuple[Entry, ...] = ()
    queue: tuple[Write, ...] = ()
    cached: tuple[Write, ...] = ()

    def synced(self) -> Disk:
        """After the first write of the queue; durable, with all that is cached, if it asks for that."""
        disk = replace(self, queue=self.queue[1:], cached=(*self.cached, self.queue[0]))
        return disk.flushed(len(disk.cached)) if self.queue[0].persist.must_sync else disk

    def flushed(self, count: int) -> Disk:
        """After a sync of the first `count` cached writes; the others are gone."""
        disk = replace(self, cached=())
        for write in self.cached[:count]:
            disk = disk.written(write)
        return disk

    def written(self, write: Write) -> Disk:
        """After one write, durably."""
        persist, disk = write.persist, self
        if persist.hard_state is not None:
            old, new = self.hard_state, persist.hard_state
            require(new.current_term >= old.current_term, "the durable term goes back")
            require(new.commit_index >= old.commit_index, "the durable commit goes back")
            disk = replace(disk, hard_state=new)
        if isinstance(persist.snapshot, Snapshot):
            state = persist.snapshot
            disk = replace(disk, start=state.index, start_term=state.term, entries=(), state=state)
        if persist.entries:
            kept = persist.entries[0].index - disk.start - 1
            require(0 <= kept <= len(disk.entries), "a write would leave a hole in the log")
            disk = replace(disk, entries=disk.entries[:kept] + persist.entries)
        return disk

    def initial_state(self) -> InitialState:
        """What a restarting server finds."""
        return InitialState(
            hard_state=self.hard_state,
            conf_state=self.state.conf_state,
            snapshot_index=self.start,
            snapshot_term=self.start_term,
            entries=self.entries,
            applied_index=self.state.index,
        )


@dataclass(frozen=True, slots=True)
class Server:
    """One server at one moment; its Raft is never stepped, only a copy of it."""

    raft: Raft
    disk: Disk
    history: tuple[Entry, ...] = ()
    view: View = field(default_factory=View)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a stimulus made of a server."""

    server: Server
    sent: tuple[Message, ...]
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """What is the same for all servers of a world.

    `syncs_at_once`: hollow writes are done in the step that queues them.
    """

    pre_vote: bool = False
    check_quorum: bool = False
    syncs_at_once: bool = True

    def raft(self, node: NodeId, disk: Disk) -> Raft:
        """A core that starts from `disk`; its election timeout is two ticks, always."""
        config = RaftConfig(
            node_id=node,
            election_timeout_ticks=2,
            election_timeout_spread_ticks=1,
            pre_vote=self.pre_vote,
            check_quorum=self.check_quorum,
            commit_notices=True,
        )
        return Raft(config, disk.initial_state())

    def bootstrapped(self, node: NodeId, conf_state: ConfState, terms: tuple[int, ...], last_term: int) -> Server:
        """A server that has just started, with a log of `terms`; a non-member knows no membership, no first entry."""
        if node not in (*conf_state.voters, *conf_state.learners):
            disk = Disk(STRANGER)
        else:
            first = Snapshot(BOOTSTRAP_INDEX, BOOTSTRAP_TERM, conf_state)
            entries = tuple(Entry(Term(term), Index(at)) for at, term in enumerate(terms, first.index + 1))
            disk = Disk(first, HardState(Term(last_term)), first.index, first.term, entries)
        raft = self.raft(node, disk)
        log = raft._core.log
        return Server(raft, disk, view=View(raft.term, log.commit_index, Role.FOLLOWER, log.last_index, log.last_term))


_SLOTTED = (Core, RaftLog, Progress, Inflights, ReadQueue, ReadRound)


def _copied(value: Any) -> Any:
    """A copy that shares all that is immutable."""
    kind = type(value)
    if kind in _SLOTTED:
        twin = object.__new__(kind)
        for name in kind.__slots__:
            setattr(twin, name, _copied(getattr(value, name)))
        return twin
    if kind is dict:
        return {key: _copied(item) for key, item in value.items()}
    if kind is list or kind is deque:
        return kind(value)
    return StepOutput() if kind is StepOutput else value


def _copied_raft(raft: Raft) -> Raft:
    twin = object.__new__(Raft)
    twin.__dict__.update({name: _copied(value) for name, value in raft.__dict__.items()})
    return twin


# A step


class Step:
    """One stimulus on its way through a copy of one server."""

    def __init__(self, rules: Rules, server: Server) -> None:
        self.rules = rules
        self.node = server.raft._core.id
        self.raft = _copied_raft(server.raft)
        self.disk, self.history = server.disk, server.history
        self.sent: list[Message] = []
        self.facts: dict[Fact, None] = {}
        self.checker = Checker(views={self.node: replace(server.view)})

    def take(self, stimulus: Stimulus) -> Outcome:
        """Carry it out, to the end."""
        self._happen(stimulus)
        if self.rules.syncs_at_once:
            while self.disk.queue and self.disk.queue[0].is_hollow():
                self.sync()
        server = Server(self.raft, self.disk, self.history, self.checker.views[self.node])
        return Outcome(server, tuple(self.sent), (*self._facts_of_checker(), *self.facts))

    def _happen(self, stimulus: Stimulus) -> None:
        match stimulus:
            case Stimulus(kind=Kind.ARRIVES, message=Message() as message):
                self.event(Receive(message))
            case Stimulus(kind=Kind.SYNCS):
                self.sync()
            case Stimulus(kind=Kind.CAMPAIGNS):
                self.event(Campaign())
            case Stimulus(kind=Kind.PROPOSES):
                self.event(Propose((b"%d" % stimulus.number,)))
            case Stimulus(kind=Kind.CHANGES, change=ConfChange() as change):
                self.event(ProposeConfChange(encode_conf_change(change)))
            case Stimulus(kind=Kind.TRANSFERS):
                self.event(TransferLeader(stimulus.target))
            case Stimulus(kind=Kind.TICKS):
                self.event(Tick())
            case Stimulus(kind=Kind.READS):
                self.event(ReadIndex(b"%d" % stimulus.number))
            case Stimulus(kind=Kind.COMPACTS):
                self.compact()
            case Stimulus(kind=Kind.CRASHES):
                self.crash(stimulus.number)
            case _:
                raise TypeError(f"{stimulus} says too little")

    def event(self, event: Event) -> None:
        """Step the core and do what it asks for."""
        before = (self.raft.role, self.raft.term)
        update = self.raft.step(event)
        self.checker.stepped(self.node, self.raft, update)
        if self.raft.role is Role.LEADER and before != (Role.LEADER, self.raft.term):
            log = self.raft._core.log
            terms = tuple(int(entry.term) for entry in log._entries[:-1])  # without the no-op
            vote = (self.disk.hard_state.current_term, self.disk.hard_state.voted_for)
            require(
                vote == (self.raft.term, self.node), f"{self.node} leads term {self.raft.term} without a durable vote"
            )
            self._note("elected", (self.raft.term,), (int(self.node), int(log._start), terms))
        self.carry_out(update)

    def carry_out(self, update: Update) -> None:
        """By the rules in update.py."""
        self.send(update.send)
        if update.persist is not None:
            self.disk = replace(self.disk, queue=(*self.disk.queue, Write(update.persist, update.after_persist)))
        for ready in update.reads:
            floor = int(ready.context)
            require(ready.index >= floor, f"a read on {self.node} at {ready.index} misses what was committed: {floor}")
        for entry in update.committed:
            self.history = (*self.history, entry)
            self._note("applied", (entry.index,), self.history)
            if entry.type is not EntryType.NORMAL:
                self.event(ConfChangeApplied(entry.data))
        if update.committed:
            self.event(Applied(update.committed[-1].index))
        if update.need_snapshot_for:
            self.event(SnapshotAvailable(self._state()))

    def send(self, messages: tuple[Message, ...]) -> None:
        """Messages leave."""
        for message in messages:
            self.checker.left(message)
            self.sent.append(message)

    def sync(self) -> None:
        """The disk does the first write of its queue; what waits for that goes on."""
        write = self.disk.queue[0]
        self.disk = self.disk.synced()
        self.send(write.promises)
        for message in write.persist.done.messages:
            self.checker.left(message)
        if isinstance(write.persist.snapshot, Snapshot):
            self.history = write.persist.snapshot.history
        self.event(write.persist.done)

    def _state(self) -> Snapshot:
        log = self.raft._core.log
        term = log.term(log.applied_index) or NO_TERM
        return Snapshot(log.applied_index, term, self.raft.conf_state, self.history)

    def compact(self) -> None:
        """The state machine becomes durable as it is, and the log is cut there."""
        state = self._state()
        entries = self.disk.entries[state.index - self.disk.start :]
        self.disk = replace(self.disk, state=state, start=state.index, start_term=state.term, entries=entries)
        self.event(Compact(state.index))

    def crash(self, kept: int) -> None:
        """All that was not synced is lost, but for the first `kept` of the cached writes; the server starts again."""
        self.disk = replace(self.disk.flushed(kept), queue=())
        self.raft = self.rules.raft(self.node, self.disk)
        self.history = self.disk.state.history
        self.checker.started(self.node, self.raft)
        self.checker.stepped(self.node, self.raft, Update())

    # Facts

    def _note(self, kind: str, key: tuple[int, ...], value: Any) -> None:
        self.facts[Fact(kind, tuple(map(int, key)), value)] = None

    def _facts_of_checker(self) -> list[Fact]:
        """What the checker of the simulation has written down in this step; it started with nothing."""
        seen = self.checker
        return [
            *(Fact("vote", (int(voter), int(term)), int(to)) for (voter, term), to in seen.votes.items()),
            *(Fact("entry", (int(index), int(term)), content) for (index, term), content in seen.entries.items()),
            *(
                Fact("committed", (int(index), int(known_in)), int(term))
                for index, (term, known_in) in seen.committed.items()
            ),
            *(Fact("leader", (int(term),), int(node)) for term, node in seen.leaders.items()),
        ]
