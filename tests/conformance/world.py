"""The scenarios' world: nodes, a wire, storage and state machines that move only when a directive says so.

Our core answers each event at once; the reference collects what a node has to say until it is asked. So each node's
Updates are gathered here and merged when the scenario handles them. Synchronous nodes then persist and apply on the
spot; with `async-storage-writes` both wait in queues of their own and their acknowledgements travel on the wire.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from parleyd.raft.config import InitialState, RaftConfig
from parleyd.raft.events import (
    Applied,
    Campaign,
    Compact,
    ConfChangeApplied,
    Event,
    ForgetLeader,
    Persisted,
    Propose,
    ProposeConfChange,
    Receive,
    SnapshotAvailable,
    Tick,
    TransferLeader,
    Unreachable,
)
from parleyd.raft.membership import ConfChange, ConfChangeType, SingleChange, Transition, encode_conf_change
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.raft import Raft
from parleyd.raft.types import (
    NO_INDEX,
    NO_NODE,
    NO_TERM,
    ConfState,
    Entry,
    EntryType,
    Index,
    NodeId,
    SnapshotMeta,
    Term,
)
from parleyd.raft.update import Persist, Refusal, Update
from tests.conformance.describe import MESSAGE_NAMES, applied_text, message_text, persisted_texts
from tests.conformance.script import Directive

NO_LIMIT = 2**60
ELECTION_TICKS = 3
TRANSITIONS = {
    "auto": Transition.AUTO,
    "implicit": Transition.JOINT_IMPLICIT,
    "explicit": Transition.JOINT_EXPLICIT,
}
CHANGE_TYPES = {
    "v": ConfChangeType.ADD_VOTER,
    "l": ConfChangeType.ADD_LEARNER,
    "r": ConfChangeType.REMOVE_NODE,
    "u": ConfChangeType.UPDATE_NODE,
}


@dataclass(frozen=True, slots=True)
class StorageAnswer:
    """A write is durable: travels to the node itself, like each promise to itself that waited for it."""

    to: int
    done: Persisted

    @property
    def name(self) -> str:
        """The reference's name for it."""
        return MESSAGE_NAMES[self.done.messages[0].type] if self.done.messages else "MsgStorageAppendResp"


@dataclass(frozen=True, slots=True)
class ApplyAnswer:
    """Entries are applied: travels to the node itself."""

    to: int
    entries: tuple[Entry, ...]
    name = "MsgStorageApplyResp"


Letter = Message | StorageAnswer | ApplyAnswer


@dataclass(frozen=True, slots=True)
class AppendWork:
    """Writes waiting in an asynchronous node's storage queue, carried out together."""

    persists: tuple[Persist, ...]
    promises: tuple[Message, ...]
    done: Persisted


@dataclass
class Disk:
    """The log as a node's storage has it, which is what the oracle shows; `start` is the index before the first."""

    start: int
    entries: list[Entry] = field(default_factory=list)

    def write(self, persists: Iterable[Persist]) -> None:
        for persist in persists:
            if persist.snapshot is not None:
                self.start, self.entries = persist.snapshot.index, []
            if persist.entries:
                del self.entries[persist.entries[0].index - self.start - 1 :]
                self.entries.extend(persist.entries)

    def compact(self, index: int) -> None:
        del self.entries[: index - self.start]
        self.start = index


@dataclass
class Node:
    """One node; `updates` are what it has said since it was last handled."""

    raft: Raft
    is_async: bool
    history: list[SnapshotMeta]
    disk: Disk
    updates: list[Update] = field(default_factory=list)
    append_work: deque[AppendWork] = field(default_factory=deque)
    apply_work: deque[tuple[Entry, ...]] = field(default_factory=deque)

    def step(self, event: Event) -> None:
        update = self.raft.step(event)
        if update != Update():
            self.updates.append(update)
        if update.proposed is not None and update.proposed.refusal is Refusal.NOT_LEADER:
            self._forward(event)

    def transfer_leadership(self, target: NodeId) -> None:
        """A follower passes the wish on to its leader, in the target's name."""
        if self.raft.leader in (NO_NODE, self.raft.node_id):
            self.step(TransferLeader(target))
        else:
            message = Message(MessageType.TRANSFER_LEADER, target, self.raft.leader, self.raft.term)
            self.updates.append(Update(send=(message,)))

    def _forward(self, event: Event) -> None:
        """The core never forwards a proposal, its driver does; in the reference the core itself."""
        own = self.raft.node_id
        if self.raft.leader in (NO_NODE, own):
            return
        if isinstance(event, ProposeConfChange):
            kind = EntryType.CONF_CHANGE_V2 if event.v2 else EntryType.CONF_CHANGE
            entries: tuple[Entry, ...] = (Entry(NO_TERM, NO_INDEX, kind, event.data),)
        elif isinstance(event, Propose):
            entries = tuple(Entry(NO_TERM, NO_INDEX, EntryType.NORMAL, payload) for payload in event.payloads)
        message = Message(MessageType.PROPOSE, own, self.raft.leader, entries=entries)
        self.updates.append(Update(send=(message,)))


def parse_changes(words: Iterable[str]) -> tuple[SingleChange, ...]:
    """Changes in the reference's short hand."""
    return tuple(SingleChange(CHANGE_TYPES[word[0]], NodeId(int(word[1:]))) for word in words)


class World:
    """Runs directives; `nodes` are numbered from 1 in the order they were added."""

    def __init__(self) -> None:
        self.nodes: dict[int, Node] = {}
        self.wire: list[Letter] = []

    def run(self, directive: Directive) -> None:
        """Carry out one directive; those that only print do nothing."""
        if directive.name in ("log-level", "raft-log", "raft-state", "status"):
            return
        getattr(self, "_do_" + directive.name.replace("-", "_"))(directive)

    def inflight(self) -> list[str]:
        """The wire, in the reference's words."""
        texts: list[str] = []
        for letter in self.wire:
            if isinstance(letter, StorageAnswer):
                texts.extend(persisted_texts(letter.to, letter.done))
            elif isinstance(letter, ApplyAnswer):
                texts.append(applied_text(letter.to, letter.entries))
            else:
                texts.append(message_text(letter))
        return texts

    # Nodes

    def _do_add_nodes(self, directive: Directive) -> None:
        index = directive.number("index", 0)
        conf = ConfState(
            voters=tuple(NodeId(node) for node in directive.ids("voters")),
            learners=tuple(NodeId(node) for node in directive.ids("learners")),
        )
        for _ in range(directive.nodes()[0]):
            self._add_node(directive, SnapshotMeta(Index(index), Term(1) if index else NO_TERM, conf))

    def _add_node(self, directive: Directive, snapshot: SnapshotMeta) -> None:
        node_id = NodeId(len(self.nodes) + 1)
        is_async = directive.flag("async-storage-writes")
        config = RaftConfig(
            node_id=node_id,
            election_timeout_ticks=ELECTION_TICKS,
            heartbeat_ticks=1,
            pre_vote=directive.flag("prevote"),
            check_quorum=directive.flag("checkquorum"),
            max_entries_bytes=NO_LIMIT,
            max_inflight_messages=directive.number("inflight", NO_LIMIT),
            max_inflight_bytes=NO_LIMIT,
            max_uncommitted_bytes=NO_LIMIT,
            max_applying_bytes=directive.number("max-committed-size-per-ready", NO_LIMIT),
            step_down_on_removal=directive.flag("step-down-on-removal"),
            disable_conf_change_validation=directive.flag("disable-conf-change-validation"),
            apply_unstable=not is_async,
            lease_reads=directive.options.get("read-only") == ("lease-based",),
        )
        initial = InitialState(
            conf_state=snapshot.conf_state,
            snapshot_index=snapshot.index,
            snapshot_term=snapshot.term,
            applied_index=snapshot.index,
        )
        node = self.nodes[node_id] = Node(Raft(config, initial), is_async, [snapshot], Disk(snapshot.index))
        if snapshot.index:
            node.step(SnapshotAvailable(snapshot))

    # Events

    def _do_campaign(self, directive: Directive) -> None:
        self.nodes[directive.nodes()[0]].step(Campaign())

    def _do_forget_leader(self, directive: Directive) -> None:
        self.nodes[directive.nodes()[0]].step(ForgetLeader())

    def _do_propose(self, directive: Directive) -> None:
        self.nodes[int(directive.words[0])].step(Propose((directive.words[1].encode(),)))

    def _do_propose_conf_change(self, directive: Directive) -> None:
        transition = TRANSITIONS[directive.options.get("transition", ("auto",))[0]]
        change = ConfChange(parse_changes(" ".join(directive.lines).split()), transition)
        event = ProposeConfChange(encode_conf_change(change), v2=not directive.flag("v1"))
        self.nodes[directive.nodes()[0]].step(event)

    def _do_report_unreachable(self, directive: Directive) -> None:
        node, other = directive.nodes()
        self.nodes[node].step(Unreachable(NodeId(other)))

    def _do_transfer_leadership(self, directive: Directive) -> None:
        self.nodes[directive.number("from", 0)].transfer_leadership(NodeId(directive.number("to", 0)))

    def _do_send_snapshot(self, directive: Directive) -> None:
        sender, to = directive.nodes()
        node = self.nodes[sender]
        self.wire.append(
            Message(
                MessageType.SNAPSHOT,
                NodeId(sender),
                NodeId(to),
                node.raft.term,
                snapshot=node.history[-1],
            )
        )

    def _do_compact(self, directive: Directive) -> None:
        node, index = directive.nodes()
        self.nodes[node].disk.compact(index)
        self.nodes[node].step(Compact(Index(index)))

    def _do_set_randomized_election_timeout(self, directive: Directive) -> None:
        node = self.nodes[directive.nodes()[0]]
        node.raft._core.randomized_timeout_ticks = directive.number("timeout", 0)

    def _do_tick_election(self, directive: Directive) -> None:
        for _ in range(ELECTION_TICKS):
            self.nodes[directive.nodes()[0]].step(Tick())

    def _do_tick_heartbeat(self, directive: Directive) -> None:
        self.nodes[directive.nodes()[0]].step(Tick())

    # Work

    def _do_process_ready(self, directive: Directive) -> None:
        for node in directive.nodes():
            self._process_ready(node)

    def _do_process_append_thread(self, directive: Directive) -> None:
        for node in directive.nodes():
            self._process_append(node)

    def _do_process_apply_thread(self, directive: Directive) -> None:
        for node in directive.nodes():
            self._process_apply(node)

    def _do_deliver_msgs(self, directive: Directive) -> None:
        kind = directive.options.get("type", ("",))[0]
        for node in directive.nodes():
            self._deliver(node, kind, drop=False)
        for node in directive.ids("drop"):
            self._deliver(node, kind, drop=True)

    def _do_stabilize(self, directive: Directive) -> None:
        chosen = directive.nodes() or tuple(self.nodes)
        busy = True
        while busy:
            busy = False
            for node in chosen:
                if self.nodes[node].updates:
                    self._process_ready(node)
                    busy = True
            for node in chosen:
                busy |= self._deliver(node, "", drop=False)
            for node in chosen:
                while self.nodes[node].append_work:
                    self._process_append(node)
                    busy = True
            for node in chosen:
                while self.nodes[node].apply_work:
                    self._process_apply(node)
                    busy = True

    def _process_ready(self, number: int) -> None:
        node = self.nodes[number]
        updates, node.updates = node.updates, []
        persists = tuple(update.persist for update in updates if update.persist is not None)
        promises = tuple(message for update in updates for message in update.after_persist)
        committed = tuple(entry for update in updates for entry in update.committed)
        self.wire.extend(message for update in updates for message in update.send)
        done = None
        if persists:
            to_self = tuple(message for persist in persists for message in persist.done.messages)
            done = replace(persists[-1].done, messages=to_self)
        if node.is_async:
            if done is not None:
                node.append_work.append(AppendWork(persists, promises, done))
            if committed:
                node.apply_work.append(committed)
            return
        node.disk.write(persists)
        self.wire.extend(promises)
        self._apply(node, committed)
        if done is not None:
            node.step(done)
        if committed:
            node.step(Applied(committed[-1].index))

    def _process_append(self, number: int) -> None:
        node = self.nodes[number]
        if not node.append_work:
            return
        work = node.append_work.popleft()
        node.disk.write(work.persists)
        self.wire.extend(work.promises)
        for message in work.done.messages:
            self.wire.append(StorageAnswer(number, Persisted(work.done.term, messages=(message,))))
        if work.done.last_index or work.done.snapshot_index:
            self.wire.append(StorageAnswer(number, replace(work.done, messages=())))

    def _process_apply(self, number: int) -> None:
        node = self.nodes[number]
        if not node.apply_work:
            return
        entries = node.apply_work.popleft()
        self._apply(node, entries)
        self.wire.append(ApplyAnswer(number, entries))

    def _apply(self, node: Node, entries: tuple[Entry, ...]) -> None:
        for entry in entries:
            if entry.type is not EntryType.NORMAL:
                node.step(ConfChangeApplied(entry.data))
            meta = SnapshotMeta(entry.index, entry.term, node.raft.conf_state)
            node.history.append(meta)
            node.step(SnapshotAvailable(meta))

    def _deliver(self, number: int, kind: str, *, drop: bool) -> bool:
        taken = [letter for letter in self.wire if letter.to == number and kind in ("", _name(letter))]
        self.wire = [letter for letter in self.wire if letter not in taken]
        if drop:
            return bool(taken)
        node = self.nodes[number]
        for letter in taken:
            if isinstance(letter, StorageAnswer):
                node.step(letter.done)
            elif isinstance(letter, ApplyAnswer):
                node.step(Applied(letter.entries[-1].index))
            else:
                node.step(Receive(letter))
        return bool(taken)


def _name(letter: Letter) -> str:
    return MESSAGE_NAMES[letter.type] if isinstance(letter, Message) else letter.name
