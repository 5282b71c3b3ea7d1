"""Renaming servers: what a thing would be if the servers had other names.

The core treats all servers alike, so renaming every server in a state gives a state with the same future, renamed.
`Names` renames messages, entries, memberships and facts, and says what one server looks like under a renaming.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from parleyd.raft.membership import ConfChange, SingleChange, decode_conf_change, encode_conf_change
from parleyd.raft.messages import Message
from parleyd.raft.progress import Progress
from parleyd.raft.readqueue import ReadQueue, ReadRequest
from parleyd.raft.types import ConfState, Entry, EntryType, HardState, NodeId, SnapshotMeta
from parleyd.raft.update import Persist

if TYPE_CHECKING:
    from tests.simulation.exhaustion.server import Fact, Server, Stimulus, Write

Look = tuple[object, ...]
"""What a server looks like: equal for servers that will do the same."""


class Names:
    """A renaming of the servers; NO_NODE keeps its name."""

    def __init__(self, new: Mapping[NodeId, NodeId]) -> None:
        self.new = {NodeId(0): NodeId(0), **new}
        self.is_identity = all(old == name for old, name in new.items())

    def nodes(self, nodes: tuple[NodeId, ...]) -> tuple[NodeId, ...]:
        """A set of servers, sorted as all are."""
        return tuple(sorted(self.new[node] for node in nodes))

    def change(self, change: ConfChange) -> ConfChange:
        """A change of the membership."""
        changes = tuple(SingleChange(one.type, self.new[one.node]) for one in change.changes)
        return replace(change, changes=changes)

    def data(self, kind: EntryType, data: bytes) -> bytes:
        """The data of an entry, which names servers only if it is a change of the membership."""
        if kind is EntryType.NORMAL or not data:
            return data
        return encode_conf_change(self.change(decode_conf_change(data)))

    def entry(self, entry: Entry) -> Entry:
        """An entry of the log."""
        return entry if entry.type is EntryType.NORMAL else replace(entry, data=self.data(entry.type, entry.data))

    def entries(self, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        """Several of them."""
        return tuple(map(self.entry, entries))

    def membership(self, conf: ConfState) -> ConfState:
        """Who votes and who learns."""
        return ConfState(
            self.nodes(conf.voters),
            self.nodes(conf.learners),
            self.nodes(conf.voters_outgoing),
            self.nodes(conf.learners_next),
            conf.auto_leave,
        )

    def snapshot(self, snapshot: SnapshotMeta | None) -> SnapshotMeta | None:
        """What a snapshot is known by."""
        if snapshot is None:
            return None
        renamed = replace(snapshot, conf_state=self.membership(snapshot.conf_state))
        history = getattr(snapshot, "history", ())
        return replace(renamed, history=self.entries(history)) if history else renamed  # type: ignore[call-arg]

    def message(self, message: Message) -> Message:
        """A message between two servers."""
        return replace(
            message,
            sender=self.new[message.sender],
            to=self.new[message.to],
            entries=self.entries(message.entries),
            snapshot=self.snapshot(message.snapshot),
        )

    def stimulus(self, stimulus: Stimulus) -> Stimulus:
        """Something that happens to a server."""
        return replace(
            stimulus,
            node=self.new[stimulus.node],
            message=stimulus.message and self.message(stimulus.message),
            change=stimulus.change and self.change(stimulus.change),
            target=self.new[stimulus.target],
        )

    def fact(self, fact: Fact) -> Fact:
        """Something that was seen."""
        new, value = self.new, fact.value
        match fact.kind:
            case "vote":
                return replace(fact, key=(new[NodeId(fact.key[0])], fact.key[1]), value=new[value])
            case "leader":
                return replace(fact, value=new[value])
            case "elected":
                return replace(fact, value=(new[value[0]], *value[1:]))
            case "entry":
                before, kind, data = value
                return replace(fact, value=(before, kind, self.data(EntryType(kind), data)))
            case "applied":
                return replace(fact, value=self.entries(value))
            case _:
                return fact

    def _hard_state(self, state: HardState | None) -> HardState | None:
        return state and replace(state, voted_for=self.new[state.voted_for])

    def _persist(self, persist: Persist) -> Persist:
        return replace(
            persist,
            hard_state=self._hard_state(persist.hard_state),
            entries=self.entries(persist.entries),
            snapshot=self.snapshot(persist.snapshot),
            done=replace(persist.done, messages=tuple(map(self.message, persist.done.messages))),
        )

    def _write(self, write: Write) -> Look:
        # The core answers in the order of the names; on the network there is no order.
        promises = sorted(map(self.message, write.promises), key=lambda message: message.to)
        return (self._persist(write.persist), tuple(promises))

    def _progress(self, progress: Progress) -> Look:
        p = progress
        return (
            *(p.match_index, p.next_index, p.state, p.paused_by_flow, p.pending_snapshot, p.commit_sent),
            *(p.is_learner, p.recent_active, tuple(p.inflights._window)),
        )

    def _request(self, request: ReadRequest) -> Look:
        return (self.new[request.requester], request.context)

    def _reads(self, reads: ReadQueue) -> Look:
        return (
            reads._sequence,
            tuple(
                (token, self._request(one.request), one.index, self.nodes(tuple(one.acks)))
                for token, one in reads.rounds.items()
            ),
            tuple(map(self._request, reads.postponed)),
            tuple(reads.forwarded),
        )

    def look(self, server: Server) -> Look:
        """All of a server that its future depends on, and all that was ever applied to its state machine."""
        core, disk = server.raft._core, server.disk
        log, told = core.log, server.raft._told_role
        return (
            *(self.new[core.id], core.role, core.current_term, self.new[core.voted_for], self.new[core.leader]),
            *(log.commit_index, log.applied_index, log.stable_index, log._persisting_index, log._handed_index),
            *(log._start, log._start_term, log._applying_bytes, log._paused, log._snapshot_handed),
            *(self.snapshot(log.pending_snapshot), self.entries(tuple(log._entries))),
            *(core.pending_conf_index, core.uncommitted_bytes, self.new[core.transferee]),
            *(core.election_elapsed, core.heartbeat_elapsed, core.randomized_timeout_ticks),
            *(self.membership(core.conf_state), self.snapshot(core.snapshot_available), self._reads(core.reads)),
            tuple(sorted((self.new[voter], granted) for voter, granted in core.votes.items())),
            tuple(sorted(((self.new[node], self._progress(one)) for node, one in core.progress.items()), key=_first)),
            *(self._hard_state(server.raft._told_hard_state), told.role, told.term, self.new[told.leader]),
            *(self._hard_state(disk.hard_state), disk.start, disk.start_term, self.entries(disk.entries)),
            *(tuple(map(self._write, disk.queue)), tuple(map(self._write, disk.cached)), self.snapshot(disk.state)),
            self.entries(server.history),
        )


def _first(pair: tuple[NodeId, Look]) -> NodeId:
    return pair[0]
