"""Carries out what the consensus core decides, in the order of its rules (server/parleyd/raft/update.py).

The driver is pure. It appends effects to the output of its group, and it receives an input when work is done. It
ensures:

- One durable write at a time. Everything that arrives meanwhile goes into the next one (group commit).
- A commit index alone is no write: a start learns it again from the leader. It goes into the next write.
- A message that promises something is sent only after the write that makes it true.
- One apply at a time, in log order. A membership entry is applied alone, and the new membership starts with it.
- A received snapshot is installed only when no write, apply or compaction is in progress, because it replaces both
  files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from parleyd.group.effects import (
    Effect,
    ElectionReason,
    ElectionStarted,
    RoleChanged,
    Send,
    StartApply,
    StartInstall,
    StartWrite,
    VoteGiven,
)
from parleyd.invariants import check_invariant
from parleyd.raft.errors import InvariantError
from parleyd.raft.events import Applied, ConfChangeApplied, Event, Propose, ProposeConfChange, Receive
from parleyd.raft.messages import Message
from parleyd.raft.raft import Raft
from parleyd.raft.types import NO_NODE, Entry, EntryType, HardState, Index, NodeId, Role, SnapshotMeta
from parleyd.raft.update import Persist, Proposed, ReadReady, RoleChange, Update

_CAMPAIGNING = (Role.PRE_CANDIDATE, Role.CANDIDATE)


@dataclass(frozen=True, slots=True)
class _PendingWrite:
    persist: Persist
    after: tuple[Message, ...]


class Driver:
    """Owns one Raft core.

    `role` is the last one that the core reported. `reads`, `dropped_reads` and `need_snapshot_for` collect values until
    the group takes them. The group sets `is_compacting` while the log's file is compacted. No snapshot may be installed
    then.
    """

    def __init__(self, raft: Raft, output: list[Effect], *, max_apply_entries: int = 512) -> None:
        self.raft = raft
        self.role = RoleChange(Role.FOLLOWER, raft.term, NO_NODE)
        self._vote = raft.term, raft.status().voted_for
        self.reads: list[ReadReady] = []
        self.dropped_reads: list[bytes] = []
        self.need_snapshot_for: list[NodeId] = []
        self.is_compacting = False
        self._output = output
        self._max_apply_entries = max_apply_entries
        self._pending: deque[_PendingWrite] = deque()
        self._writing: tuple[_PendingWrite, ...] = ()
        self._deferred: tuple[Persist, ...] = ()
        self._installing: _PendingWrite | None = None
        self._to_apply: deque[Entry] = deque()
        self._applying: tuple[Entry, ...] = ()

    @property
    def is_writing(self) -> bool:
        """Return whether a durable write is in progress: proposals made now would have to wait for the next one."""
        return bool(self._writing)

    @property
    def is_installing(self) -> bool:
        """Return whether a snapshot is replacing state and log."""
        return self._installing is not None

    @property
    def applied_index(self) -> Index:
        """Return the highest index that the state machine has applied and reported to the core."""
        return self.raft.applied_index

    def step(self, event: Event, reason: ElectionReason | None = None) -> None:
        """Give one event to the core and take over what follows from it. Call `pump` after a run of steps.

        `reason`: why an election begins if this event begins one; None if the kind of the event says it.
        """
        update = self.raft.step(event)
        if update.role is not None and update.role.role in _CAMPAIGNING and self.role.role is Role.FOLLOWER:
            told = ElectionReason.LEADER_TRANSFERS if isinstance(event, Receive) else ElectionReason.NO_LEADER_HEARD
            self._output.append(ElectionStarted(self.role.term, reason or told))
        self._absorb(update)

    def propose(self, payloads: Sequence[bytes]) -> Proposed:
        """Offer log entries to the core and return what it did with them."""
        update = self.raft.step(Propose(tuple(payloads)))
        self._absorb(update)
        if update.proposed is None:
            raise InvariantError("the core answers every proposal")
        return update.proposed

    def propose_change(self, data: bytes) -> Proposed:
        """Offer one encoded membership change to the core and return what it did with it."""
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
        """Record that the write in progress is durable: its messages may be sent."""
        done, self._writing = self._writing, ()
        for write in done:
            self._send(write.after)
            self.step(write.persist.done)

    def applied(self) -> tuple[Entry, ...]:
        """Record that the entries in progress are applied, and return them."""
        done, self._applying = self._applying, ()
        self.step(Applied(done[-1].index))
        return done

    def will_install(self, snapshot: SnapshotMeta) -> bool:
        """Return whether the core asked for `snapshot` to be installed, and that is not done yet."""
        waiting = (*self._pending, *((self._installing,) if self._installing else ()))
        return any(write.persist.snapshot == snapshot for write in waiting)

    def installed(self) -> SnapshotMeta:
        """Record that the snapshot in progress has replaced state and log, and return it."""
        write, self._installing = self._installing, None
        if write is None or write.persist.snapshot is None:
            raise InvariantError("installed() ends StartInstall")
        snapshot = write.persist.snapshot
        # Entries given out before the snapshot came are part of it.
        while self._to_apply and self._to_apply[0].index <= snapshot.index:
            self._to_apply.popleft()
        self._send(write.after)
        self.step(write.persist.done)
        return snapshot

    def _send(self, messages: tuple[Message, ...]) -> None:
        if messages:
            self._output.append(Send(messages))

    def _absorb(self, update: Update) -> None:
        # The write is queued before anything else can fail. `send` never depends on it, `after_persist` always does.
        if update.persist is not None:
            self._pending.append(_PendingWrite(update.persist, update.after_persist))
            self._report_vote(update.persist.hard_state)
        else:
            check_invariant(not update.after_persist, "after_persist needs a persist to wait for", InvariantError)
        self._send(update.send)
        self._to_apply.extend(update.committed)
        if update.role is not None:
            self.role = update.role
            self._output.append(RoleChanged(update.role))
        if update.reads or update.dropped_reads:
            self.reads.extend(update.reads)
            self.dropped_reads.extend(update.dropped_reads)
        if update.need_snapshot_for:
            self.need_snapshot_for.extend(update.need_snapshot_for)

    def _report_vote(self, state: HardState | None) -> None:
        if state is None or state.voted_for == NO_NODE or (state.current_term, state.voted_for) == self._vote:
            return
        self._vote = state.current_term, state.voted_for
        self._output.append(VoteGiven(*self._vote))

    def _start_next_write(self) -> None:
        while self._pending and not self._writing and not self._installing:
            snapshot = self._pending[0].persist.snapshot
            if snapshot is None:
                self._write_or_defer(self._take_writes())
            elif self._applying or self.is_compacting:
                return
            else:
                self._installing = self._pending.popleft()
                self._deferred = ()  # a snapshot is ahead of every commit index before it
                self._output.append(StartInstall(snapshot, self._installing.persist))

    def _take_writes(self) -> tuple[_PendingWrite, ...]:
        taken: list[_PendingWrite] = []
        while self._pending and self._pending[0].persist.snapshot is None:
            taken.append(self._pending.popleft())
        return tuple(taken)

    def _write_or_defer(self, writes: tuple[_PendingWrite, ...]) -> None:
        if any(write.persist.must_sync for write in writes):
            self._writing = writes
            persists, self._deferred = (*self._deferred, *(write.persist for write in writes)), ()
            self._output.append(StartWrite(persists))
            return
        for write in writes:  # only the commit index moves, and what these writes promise is durable already
            if write.persist.hard_state is not None:
                self._deferred = (write.persist,)
            self._send(write.after)
            self.step(write.persist.done)

    def _start_next_apply(self) -> None:
        snapshot_waits = bool(self._pending) and self._pending[0].persist.snapshot is not None
        if self._applying or self._installing or snapshot_waits or not self._to_apply:
            return
        first = self._to_apply[0]
        if first.type is EntryType.NORMAL:
            self._applying = self._take_normal_entries()
            self._output.append(StartApply(self._applying, None))
            return
        self._applying = (self._to_apply.popleft(),)
        self.step(ConfChangeApplied(first.data))
        self._output.append(StartApply(self._applying, self.raft.conf_state))

    def _take_normal_entries(self) -> tuple[Entry, ...]:
        taken: list[Entry] = []
        while self._to_apply and len(taken) < self._max_apply_entries and self._to_apply[0].type is EntryType.NORMAL:
            taken.append(self._to_apply.popleft())
        return tuple(taken)
