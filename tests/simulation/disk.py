"""A simulated disk: what survives a crash, and what does not.

Writes are queued in order and become durable together, some time later. A write that needs no sync may be done
without being durable. A crash keeps some prefix of what was not synced and loses the rest.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

from server.raft.config import InitialState
from server.raft.messages import Message
from server.raft.types import NO_INDEX, NO_TERM, ConfState, Entry, HardState, Index, SnapshotMeta, Term
from server.raft.update import Persist
from tests.simulation.checker import require


@dataclass(frozen=True, slots=True)
class State:
    """The state machine at one index."""

    index: Index
    term: Term
    digest: bytes
    conf_state: ConfState

    def meta(self) -> SnapshotMeta:
        """The snapshot that this state would be."""
        return SnapshotMeta(self.index, self.term, self.conf_state)


@dataclass(slots=True)
class Write:
    """A write on its way, with the promises that wait for it; `body` is what a snapshot write installs."""

    persist: Persist
    promises: tuple[Message, ...]
    body: State | None


@dataclass
class Disk:
    """`state` is the durable state machine, which lags behind the running one."""

    state: State
    hard_state: HardState = field(default_factory=HardState)
    start: Index = NO_INDEX
    start_term: Term = NO_TERM
    entries: list[Entry] = field(default_factory=list)
    queue: deque[Write] = field(default_factory=deque)
    cached: list[Write] = field(default_factory=list)

    def sync(self, count: int) -> list[Write]:
        """Carry out the first `count` queued writes; durable only if one of them asks for it."""
        done = [self.queue.popleft() for _ in range(min(count, len(self.queue)))]
        self.cached.extend(done)
        if any(write.persist.must_sync for write in done):
            self._flush()
        return done

    def _flush(self) -> None:
        for write in self.cached:
            self._write(write)
        self.cached.clear()

    def _write(self, write: Write) -> None:
        persist = write.persist
        if persist.hard_state is not None:
            require(persist.hard_state.current_term >= self.hard_state.current_term, "the durable term goes back")
            require(persist.hard_state.commit_index >= self.hard_state.commit_index, "the durable commit goes back")
            self.hard_state = persist.hard_state
        if persist.snapshot is not None and write.body is not None:
            self.start, self.start_term = persist.snapshot.index, persist.snapshot.term
            self.entries = []
            self.state = write.body
        if persist.entries:
            first = persist.entries[0].index
            require(self.start < first <= self.start + len(self.entries) + 1, "a write would leave a hole in the log")
            del self.entries[first - self.start - 1 :]
            self.entries.extend(persist.entries)

    def crash(self, rng: random.Random) -> int:
        """Lose what was not durable, except for a random prefix of it; returns how many writes were lost."""
        pending = [*self.cached, *self.queue]
        kept = rng.randint(0, len(pending))
        self.cached, self.queue = pending[:kept], deque()
        self._flush()
        return len(pending) - kept

    def compact(self, index: Index) -> Index:
        """Cut the log up to `index`, never above the durable state; returns where it was cut."""
        index = min(index, self.state.index, Index(self.start + len(self.entries)))
        if index > self.start:
            self.start_term = self.entries[index - self.start - 1].term
            del self.entries[: index - self.start]
            self.start = index
        return index

    def initial_state(self) -> InitialState:
        """What a restarting server finds."""
        return InitialState(
            hard_state=self.hard_state,
            conf_state=self.state.conf_state,
            snapshot_index=self.start,
            snapshot_term=self.start_term,
            entries=tuple(self.entries),
            applied_index=self.state.index,
        )
