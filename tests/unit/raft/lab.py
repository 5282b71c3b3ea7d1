"""A bench for the consensus core: servers joined by a network that does only what the test says.

Each server's Updates are carried out by the rules of server/parleyd/raft/update.py; storage can be held back with
`slow_disk`, messages with `cut` and `hold`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from parleyd.raft.config import InitialState, RaftConfig
from parleyd.raft.events import (
    Applied,
    ConfChangeApplied,
    Event,
    Receive,
    SnapshotAvailable,
    Tick,
)
from parleyd.raft.membership import ConfChange, ConfChangeType, SingleChange, Transition
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.raft import Raft
from parleyd.raft.types import ConfState, Entry, EntryType, HardState, Index, NodeId, Role, SnapshotMeta, Term
from parleyd.raft.update import Persist, Proposed, ReadReady, Update


def entry(term: int, index: int, data: bytes = b"") -> Entry:
    """An ordinary entry."""
    return Entry(Term(term), Index(index), EntryType.NORMAL, data)


def entries(*terms: int, start: int = 1) -> tuple[Entry, ...]:
    """Entries of these terms, from `start` on."""
    return tuple(entry(term, index) for index, term in enumerate(terms, start))


def message(kind: MessageType, sender: int, to: int, term: int, **fields: Any) -> Message:
    """A message, written short."""
    return Message(kind, NodeId(sender), NodeId(to), Term(term), **fields)


def receive(kind: MessageType, sender: int, to: int, term: int, **fields: Any) -> Receive:
    """A message arriving."""
    return Receive(message(kind, sender, to, term, **fields))


def change(*steps: str, transition: Transition = Transition.AUTO) -> ConfChange:
    """A membership change in short hand: v3 adds voter 3, l4 adds learner 4, r1 removes 1, u2 updates 2."""
    kinds = {
        "v": ConfChangeType.ADD_VOTER,
        "l": ConfChangeType.ADD_LEARNER,
        "r": ConfChangeType.REMOVE_NODE,
        "u": ConfChangeType.UPDATE_NODE,
    }
    return ConfChange(tuple(SingleChange(kinds[step[0]], NodeId(int(step[1:]))) for step in steps), transition)


def voters(*ids: int) -> ConfState:
    """A membership of voters only."""
    return ConfState(voters=tuple(NodeId(node) for node in ids))


def solo(
    node: int = 1,
    peers: tuple[int, ...] = (1, 2, 3),
    *,
    term: int = 0,
    vote: int = 0,
    log: tuple[Entry, ...] = (),
    commit: int = 0,
    **settings: Any,
) -> Raft:
    """One server by itself, restarted with this on its disk."""
    config = RaftConfig(**{"node_id": NodeId(node), "pre_vote": False, "check_quorum": False, **settings})
    hard_state = HardState(Term(term), NodeId(vote), Index(commit))
    return Raft(config, InitialState(hard_state=hard_state, conf_state=voters(*peers), entries=log))


def settle(raft: Raft, update: Update) -> list[Message]:
    """Make durable, at once, what `update` and its consequences ask for; returns all messages that leave."""
    sent = list(update.send)
    while update.persist is not None:
        sent.extend(update.after_persist)
        update = raft.step(update.persist.done)
        sent.extend(update.send)
    return sent


@dataclass
class Server:
    """One server with its disk and state machine."""

    raft: Raft
    disk: deque[tuple[Persist, tuple[Message, ...]]] = field(default_factory=deque)
    slow_disk: bool = False
    applied: list[Entry] = field(default_factory=list)
    reads: list[ReadReady] = field(default_factory=list)
    dropped_reads: list[bytes] = field(default_factory=list)
    proposed: list[Proposed] = field(default_factory=list)
    roles: list[Role] = field(default_factory=list)
    needs_snapshot: list[NodeId] = field(default_factory=list)


class Lab:
    """Servers 1..n and the messages between them."""

    def __init__(
        self,
        *ids: int,
        conf: ConfState | None = None,
        logs: dict[int, tuple[Entry, ...]] | None = None,
        terms: dict[int, int] | None = None,
        bootstrapped_at: int = 0,
        **settings: Any,
    ) -> None:
        """`bootstrapped_at` above 0: the first membership is a snapshot there, so that servers added later get it."""
        self.wire: deque[Message] = deque()
        self.lost: list[Message] = []
        self.delivered: list[Message] = []
        self.cut_off: set[int] = set()
        self.cut_links: set[frozenset[int]] = set()
        self.servers: dict[int, Server] = {}
        self.settings = settings
        membership = voters(*ids) if conf is None else conf
        for node in ids:
            self.start(node, membership, (logs or {}).get(node, ()), (terms or {}).get(node, 0), bootstrapped_at)
            if bootstrapped_at:
                bootstrap = SnapshotMeta(Index(bootstrapped_at), Term(1), membership)
                self.step(node, SnapshotAvailable(bootstrap))

    def start(
        self, node: int, conf: ConfState, log: tuple[Entry, ...] = (), term: int = 0, bootstrapped_at: int = 0
    ) -> None:
        """Start a server with this on its disk."""
        config = RaftConfig(**{"node_id": NodeId(node), "election_timeout_ticks": 5, **self.settings})
        initial = InitialState(
            hard_state=HardState(current_term=Term(term or (log[-1].term if log else 0))),
            conf_state=conf,
            entries=log,
            snapshot_index=Index(bootstrapped_at),
            snapshot_term=Term(1 if bootstrapped_at else 0),
            applied_index=Index(bootstrapped_at),
        )
        self.servers[node] = Server(Raft(config, initial))

    def __getitem__(self, node: int) -> Raft:
        return self.servers[node].raft

    def cut(self, *nodes: int) -> None:
        """Cut these servers off from all others."""
        self.cut_off |= set(nodes)

    def cut_between(self, *links: tuple[int, int]) -> None:
        """Cut single links, both ways."""
        self.cut_links |= {frozenset(link) for link in links}

    def heal(self) -> None:
        """Connect everybody again; what was lost stays lost."""
        self.cut_off.clear()
        self.cut_links.clear()

    def _is_lost(self, letter: Message) -> bool:
        ends = frozenset((int(letter.sender), int(letter.to)))
        return bool(ends & self.cut_off) or ends in self.cut_links or letter.to not in self.servers

    def step(self, node: int, event: Event) -> Update:
        """Step one server and carry out what follows, without delivering messages."""
        server = self.servers[node]
        first = update = server.raft.step(event)
        self._take(server, update)
        return first

    def _take(self, server: Server, update: Update) -> None:
        self.wire.extend(update.send)
        server.reads.extend(update.reads)
        server.dropped_reads.extend(update.dropped_reads)
        server.needs_snapshot.extend(update.need_snapshot_for)
        if update.proposed is not None:
            server.proposed.append(update.proposed)
        if update.role is not None:
            server.roles.append(update.role.role)
        if update.persist is not None:
            server.disk.append((update.persist, update.after_persist))
            if not server.slow_disk:
                self.sync(server.raft.status().id)
        self._apply(server, update.committed)

    def sync(self, node: int) -> None:
        """The disk of `node` finishes everything asked of it."""
        server = self.servers[node]
        while server.disk:
            persist, promises = server.disk.popleft()
            self.wire.extend(promises)
            self._take(server, server.raft.step(persist.done))

    def _apply(self, server: Server, committed: tuple[Entry, ...]) -> None:
        for item in committed:
            server.applied.append(item)
            if item.type is not EntryType.NORMAL:
                event = ConfChangeApplied(item.data)
                self._take(server, server.raft.step(event))
        if committed:
            self._take(server, server.raft.step(Applied(committed[-1].index)))

    def deliver(self) -> None:
        """Deliver messages until none are left."""
        for _ in range(100_000):
            if not self.wire:
                return
            letter = self.wire.popleft()
            if self._is_lost(letter):
                self.lost.append(letter)
                continue
            self.delivered.append(letter)
            self.step(letter.to, Receive(letter))
        raise AssertionError("messages never end")

    def do(self, node: int, event: Event) -> None:
        """Step one server and deliver all that follows."""
        self.step(node, event)
        self.deliver()

    def tick(self, count: int = 1, *nodes: int) -> None:
        """Let time pass for these servers, or all."""
        for _ in range(count):
            for node in nodes or tuple(self.servers):
                self.do(node, Tick())

    def give_snapshot(self, node: int) -> SnapshotMeta:
        """The state machine of `node` makes a snapshot of where it is."""
        raft = self[node]
        status = raft.status()
        last = self.servers[node].applied[-1]
        meta = SnapshotMeta(status.applied_index, last.term, status.conf_state)
        self.do(node, SnapshotAvailable(meta))
        return meta

    def leaders(self) -> list[int]:
        """Who leads."""
        return [node for node, server in self.servers.items() if server.raft.role is Role.LEADER]

    def payloads(self, node: int) -> list[bytes]:
        """The data applied by `node`, no-ops and membership entries left out."""
        return [item.data for item in self.servers[node].applied if item.data and item.type is EntryType.NORMAL]
