"""The log of one server, in memory since its last compaction (Raft §5.3).

Invariants: entries are contiguous. Terms never fall along the log. applied <= handed <= commit <= last. Committed
entries are never overwritten. Three marks describe the position of storage and state machine. Entries up to
`stable_index` are durable here. Entries up to the persist mark were requested to be made durable. Entries up to the
handed mark were given to the state machine. A snapshot that is not durable yet replaces the whole log, and all other
output waits for it.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from operator import attrgetter

from parleyd.invariants import check_invariant
from parleyd.raft.errors import InvariantError
from parleyd.raft.types import Entry, EntryType, Index, SnapshotMeta, Term

_TERM = attrgetter("term")


def size_of(entries: tuple[Entry, ...] | list[Entry]) -> int:
    """Return the bytes of data in `entries`; a leader's no-op has none."""
    return sum(len(entry.data) for entry in entries)


class RaftLog:
    """A list of entries with an offset. The cost of an operation depends on what it touches, never on the whole log."""

    __slots__ = (
        "_applying_bytes",
        "_entries",
        "_handed_index",
        "_max_applying_bytes",
        "_paused",
        "_persisting_index",
        "_snapshot_handed",
        "_start",
        "_start_term",
        "applied_index",
        "apply_unstable",
        "commit_index",
        "pending_snapshot",
        "stable_index",
    )

    def __init__(
        self,
        *,
        start: Index,
        start_term: Term,
        entries: tuple[Entry, ...],
        commit_index: Index,
        applied_index: Index,
        max_applying_bytes: int,
        apply_unstable: bool,
    ) -> None:
        self._start = start
        self._start_term = start_term
        self._entries = list(entries)
        for offset, entry in enumerate(entries, start + 1):
            check_invariant(
                entry.index == offset, f"the log on disk has entry {entry.index} where {offset} belongs", InvariantError
            )
        check_invariant(
            all(first.term <= second.term for first, second in pairwise(entries)),
            "terms in the log on disk fall",
            InvariantError,
        )
        self.applied_index = max(applied_index, start)
        self.commit_index = max(commit_index, self.applied_index)
        check_invariant(
            self.commit_index <= self.last_index,
            f"the log on disk ends at {self.last_index}, below what was committed or applied ({self.commit_index}): "
            "acknowledged entries are missing here; rejoin this node as a new one",
            InvariantError,
        )
        self.stable_index = self.last_index
        self._persisting_index = self.last_index
        self._handed_index = self.applied_index
        self._applying_bytes = 0
        self._max_applying_bytes = max_applying_bytes
        self._paused = False
        self.apply_unstable = apply_unstable
        self.pending_snapshot: SnapshotMeta | None = None
        self._snapshot_handed = False

    # Reading

    @property
    def first_index(self) -> Index:
        """Return the first index that has an entry, or will have."""
        return Index(self._start + 1)

    @property
    def last_index(self) -> Index:
        """Return the last index; the snapshot's if there are no entries."""
        return Index(self._start + len(self._entries))

    @property
    def last_term(self) -> Term:
        """Return the term of the last entry."""
        return self._entries[-1].term if self._entries else self._start_term

    def term(self, index: Index) -> Term | None:
        """Return the term of the entry at `index`; None if it is compacted or not there yet."""
        position = index - self._start - 1
        if 0 <= position < len(self._entries):
            return self._entries[position].term
        return self._start_term if position == -1 else None

    def matches(self, index: Index, term: Term) -> bool:
        """Return whether the entry at `index` is of `term`: the logs agree up to it then (log matching)."""
        return self.term(index) == term

    def slice(self, low: Index, high: Index, max_bytes: int) -> tuple[Entry, ...]:
        """Return entries from `low` to `high` inclusive, at most `max_bytes` of data but at least one entry."""
        entries = self._entries[low - self._start - 1 : high - self._start]
        total = 0
        for count, entry in enumerate(entries):
            total += len(entry.data)
            if total > max_bytes and count:
                return tuple(entries[:count])
        return tuple(entries)

    def is_up_to_date(self, last_index: Index, last_term: Term) -> bool:
        """Return whether a log with this end is at least as complete as this one (§5.4.1)."""
        own_term = self.last_term
        return last_term > own_term or (last_term == own_term and last_index >= self.last_index)

    def last_index_at_or_below_term(self, index: Index, term: Term) -> tuple[Index, Term]:
        """Return the highest entry not after `index` whose term is not above `term`: entries between cannot match.

        This skips a whole term per message instead of one entry (§5.3, end). For a compacted index the term is unknown,
        and the result has term 0.
        """
        if index < self._start or index > self.last_index:
            return index, Term(0)
        position = bisect_right(self._entries, term, hi=index - self._start, key=_TERM)
        if position:
            return Index(self._start + position), self._entries[position - 1].term
        if self._start_term <= term:
            return self._start, self._start_term
        return Index(max(self._start - 1, 0)), Term(0)

    def has_conf_change_between(self, after: Index, up_to: Index) -> bool:
        """Return whether a membership entry is above `after` and not above `up_to`."""
        entries = self._entries[max(after - self._start, 0) : up_to - self._start]
        return any(entry.type is not EntryType.NORMAL for entry in entries)

    # Writing

    def append(self, entries: tuple[Entry, ...]) -> None:
        """Add entries right after the last one."""
        self._entries.extend(entries)

    def accept(self, prev_index: Index, prev_term: Term, entries: tuple[Entry, ...]) -> Index | None:
        """Take a leader's entries after `prev`, replacing those that conflict (§5.3); None if `prev` does not match.

        Returns the last index that now equals the leader's. Existing entries stay: a late, shorter message must not
        remove what a later one brought.
        """
        if not self.matches(prev_index, prev_term):
            return None
        for position, entry in enumerate(entries):
            if not self.matches(entry.index, entry.term):
                self._replace_from(entry.index, entries[position:] if position else entries)
                break
        return Index(prev_index + len(entries))

    def _replace_from(self, index: Index, entries: tuple[Entry, ...]) -> None:
        check_invariant(
            index > self.commit_index,
            f"entry {index} conflicts with a committed entry (commit index {self.commit_index}): this node and the "
            "leader disagree about acknowledged data",
            InvariantError,
        )
        if index <= self.last_index:
            del self._entries[index - self._start - 1 :]
            before = Index(index - 1)
            self.stable_index = min(self.stable_index, before)
            self._persisting_index = min(self._persisting_index, before)
        self._entries.extend(entries)

    def commit_to(self, index: Index) -> bool:
        """Move the commit index forward to `index`; never back."""
        if index <= self.commit_index:
            return False
        check_invariant(
            index <= self.last_index,
            f"entry {index} is committed but this log ends at {self.last_index}: acknowledged entries were lost here; "
            "rejoin this node as a new one",
            InvariantError,
        )
        self.commit_index = index
        return True

    def restore(self, snapshot: SnapshotMeta) -> None:
        """Replace the whole log by a snapshot, to be made durable with the next persist."""
        self._entries = []
        self._start, self._start_term = snapshot.index, snapshot.term
        self.commit_index = snapshot.index
        self.stable_index = snapshot.index
        self._persisting_index = snapshot.index
        self.pending_snapshot = snapshot
        self._snapshot_handed = False

    def compact(self, index: Index) -> None:
        """Drop entries up to `index`, which the durable state covers."""
        if index <= self._start:
            return
        check_invariant(
            index <= self.applied_index,
            f"compaction up to {index} would drop entries above {self.applied_index}",
            InvariantError,
        )
        term = self.term(index)
        check_invariant(term is not None, f"compaction up to {index} is past the end of the log", InvariantError)
        del self._entries[: index - self._start]
        self._start, self._start_term = index, Term(term or 0)
        self.stable_index = max(self.stable_index, index)

    # Storage and state machine

    def take_unpersisted(self) -> tuple[Entry, ...]:
        """Return the entries that were not yet requested to be made durable, once."""
        if self._persisting_index == self.last_index:
            return ()
        entries = tuple(self._entries[self._persisting_index - self._start :])
        self._persisting_index = self.last_index
        return entries

    def take_snapshot(self) -> SnapshotMeta | None:
        """Return the snapshot to be made durable, once."""
        if self.pending_snapshot is None or self._snapshot_handed:
            return None
        self._snapshot_handed = True
        return self.pending_snapshot

    def stable_to(self, index: Index, term: Term) -> None:
        """Record that storage has the entry at `index` of `term`; ignore one that was replaced meanwhile."""
        if index > self.stable_index and self.matches(index, term):
            self.stable_index = index

    def snapshot_stable(self, index: Index) -> None:
        """Record that the pending snapshot at `index` is installed, in log and state machine."""
        if self.pending_snapshot is not None and self.pending_snapshot.index == index:
            self.pending_snapshot = None

    def take_committed(self) -> tuple[Entry, ...]:
        """Return committed entries for the state machine, once, within the limit of unapplied bytes."""
        if self._paused or self.pending_snapshot is not None:
            return ()
        high = self.commit_index if self.apply_unstable else min(self.commit_index, self.stable_index)
        if high <= self._handed_index:
            return ()
        room = self._max_applying_bytes - self._applying_bytes
        entries = self.slice(Index(self._handed_index + 1), high, room)
        self._handed_index = entries[-1].index
        self._applying_bytes += size_of(entries)
        self._paused = self._applying_bytes >= self._max_applying_bytes or self._handed_index < high
        return entries

    def applied_to(self, index: Index) -> int:
        """Record that the state machine is at `index`; return the bytes of data applied since the last call."""
        if index <= self.applied_index:
            return 0
        check_invariant(
            index <= self.commit_index,
            f"entry {index} was applied but only {self.commit_index} is committed",
            InvariantError,
        )
        low = max(self.applied_index - self._start, 0)
        applied_bytes = size_of(self._entries[low : max(index - self._start, 0)])
        self.applied_index = index
        self._handed_index = max(self._handed_index, index)
        # The sizes of entries that a snapshot replaced during their apply are gone: all is applied then.
        caught_up = index >= self._handed_index
        self._applying_bytes = 0 if caught_up else max(self._applying_bytes - applied_bytes, 0)
        self._paused = self._applying_bytes >= self._max_applying_bytes
        return applied_bytes
