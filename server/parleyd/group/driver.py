"""Carries out what the consensus core decides, in the order its rules ask for (server/parleyd/raft/update.py).

The driver is synchronous and does no I/O: it calls `DriverCallbacks` to start work and is told when work is done.
The asyncio shell (replica.py) and the simulator both put real or simulated threads behind those callbacks. It keeps:

- one durable write at a time; everything that arrives meanwhile goes into the next one (group commit);
- a message that promises something leaves only after the write that makes it true;
- one apply at a time, in log order; a membership entry is applied alone, and the new membership starts with it;
- a received snapshot is installed only when no write and no apply is under way, because it replaces both files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from parleyd.invariants import check_invariant
from parleyd.raft.errors import InvariantError
from parleyd.raft.events import Applied, ConfChangeApplied, Event, Propose, ProposeConfChange
from parleyd.raft.messages import Message
from parleyd.raft.raft import Raft
from parleyd.raft.types import ConfState, Entry, EntryType, Index, NodeId, SnapshotMeta
from parleyd.raft.update import Persist, Proposed, ReadReady, RoleChange, Update


class DriverCallbacks(Protocol):
    """What the driver asks for; every `start_` is answered later by the driver's method of the same idea."""

    def send(self, messages: Sequence[Message]) -> None:
        """Queue messages for other nodes; may drop them."""

    def start_write(self, writes: Sequence[Persist]) -> None:
        """Make `writes` durable in order, then call `Driver.written`. Failure is fatal to the node."""

    def start_apply(self, entries: Sequence[Entry], conf_state: ConfState | None) -> None:
        """Apply entries, then call `Driver.applied`. `conf_state`: the membership that starts with the only entry."""

    def start_install(self, snapshot: SnapshotMeta, write: Persist) -> None:
        """Replace state and log by the received snapshot, then call `Driver.installed`."""

    def role_changed(self, change: RoleChange) -> None:
        """Role, term or leader is another now."""

    def reads_ready(self, reads: Sequence[ReadReady], dropped: Sequence[bytes]) -> None:
        """Reads whose index is known, and reads that must be asked for again."""

    def snapshot_needed(self, nodes: Sequence[NodeId]) -> None:
        """Followers need state older than the log: make a snapshot and step SnapshotAvailable."""


@dataclass(frozen=True, slots=True)
class _PendingWrite:
    persist: Persist
    after: tuple[Message, ...]


class Driver:
    """Owns one Raft core; every call comes from the one task that runs the node."""

    def __init__(self, raft: Raft, callbacks: DriverCallbacks, *, max_apply_entries: int = 512) -> None:
        self.raft = raft
        self._callbacks = callbacks
        self._max_apply_entries = max_apply_entries
        self._pending: deque[_PendingWrite] = deque()
        self._writing: tuple[_PendingWrite, ...] = ()
        self._installing: _PendingWrite | None = None
        self._to_apply: deque[Entry] = deque()
        self._applying: tuple[Entry, ...] = ()

    @property
    def is_writing(self) -> bool:
        """A durable write is under way; proposals made now would wait for the next one anyway."""
        return bool(self._writing)

    def step(self, event: Event) -> None:
        """Feed one event to the core and take over what follows from it. Call `pump` after a run of steps."""
        self._absorb(self.raft.step(event))

    def propose(self, payloads: Sequence[bytes]) -> Proposed:
        """Offer log entries to the core and say what it did with them."""
        update = self.raft.step(Propose(tuple(payloads)))
        self._absorb(update)
        if update.proposed is None:
            raise InvariantError("the core answers every proposal")
        return update.proposed

    def propose_change(self, data: bytes) -> Proposed:
        """Offer one encoded membership change to the core and say what it did with it."""
        update = self.raft.step(ProposeConfChange(data))
        self._absorb(update)
        if update.proposed is None:
            raise InvariantError("the core answers every proposal")
        return update.proposed

    def pump(self) -> None:
        """Start what can start now."""
        self._start_next_write()
        self._start_next_apply()

    def written(self) -> None:
        """The write under way is durable: its promises may leave."""
        done, self._writing = self._writing, ()
        for write in done:
            self._callbacks.send(write.after)
            self.step(write.persist.done)

    def applied(self) -> None:
        """The entries under way are applied."""
        done, self._applying = self._applying, ()
        self.step(Applied(done[-1].index))

    def installed(self) -> None:
        """The snapshot under way has replaced state and log."""
        write, self._installing = self._installing, None
        if write is None or write.persist.snapshot is None:
            raise InvariantError("installed() answers start_install()")
        snapshot = write.persist.snapshot
        # Entries handed out before the snapshot came are part of it.
        while self._to_apply and self._to_apply[0].index <= snapshot.index:
            self._to_apply.popleft()
        self._callbacks.send(write.after)
        self.step(write.persist.done)

    def _absorb(self, update: Update) -> None:
        # The write is queued before anything else can go wrong: `send` never depends on it, `after_persist` always.
        if update.persist is not None:
            self._pending.append(_PendingWrite(update.persist, update.after_persist))
        else:
            check_invariant(not update.after_persist, "after_persist needs a persist to wait for", InvariantError)
        if update.send:
            self._callbacks.send(update.send)
        self._to_apply.extend(update.committed)
        if update.role is not None:
            self._callbacks.role_changed(update.role)
        if update.reads or update.dropped_reads:
            self._callbacks.reads_ready(update.reads, update.dropped_reads)
        if update.need_snapshot_for:
            self._callbacks.snapshot_needed(update.need_snapshot_for)

    def _start_next_write(self) -> None:
        if self._writing or self._installing or not self._pending:
            return
        snapshot = self._pending[0].persist.snapshot
        if snapshot is not None:
            if not self._applying:
                self._installing = self._pending.popleft()
                self._callbacks.start_install(snapshot, self._installing.persist)
            return
        batch: list[_PendingWrite] = []
        while self._pending and self._pending[0].persist.snapshot is None:
            batch.append(self._pending.popleft())
        self._writing = tuple(batch)
        self._callbacks.start_write([write.persist for write in batch])

    def _start_next_apply(self) -> None:
        snapshot_waits = bool(self._pending) and self._pending[0].persist.snapshot is not None
        if self._applying or self._installing or snapshot_waits or not self._to_apply:
            return
        first = self._to_apply[0]
        if first.type is EntryType.NORMAL:
            self._applying = self._take_normal_entries()
            self._callbacks.start_apply(self._applying, None)
            return
        self._applying = (self._to_apply.popleft(),)
        self.step(ConfChangeApplied(first.data))
        self._callbacks.start_apply(self._applying, self.raft.conf_state)

    def _take_normal_entries(self) -> tuple[Entry, ...]:
        taken: list[Entry] = []
        while self._to_apply and len(taken) < self._max_apply_entries and self._to_apply[0].type is EntryType.NORMAL:
            taken.append(self._to_apply.popleft())
        return tuple(taken)

    @property
    def applied_index(self) -> Index:
        """Highest index the state machine has applied, as the core knows it."""
        return self.raft.applied_index
