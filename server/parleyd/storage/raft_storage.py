"""The Raft log on disk: entries, term and vote in one SQLite file, many writes under one fsync.

Invariants:
- `append` returns only when all its writes are durable, in order. It stores all of them or none.
- Term, vote and commit index never go backwards. Entries at or below the commit index are never replaced.
- Live entries are contiguous, from the one after `snapshot` on. Each has a checksum over its index and its data.
- After the first failure the object refuses all work. The data of a failed write may be stored or lost, so it is never
  written again.

The commit index alone needs no fsync, because Raft finds it again. If only the commit index changed, it is written with
the next write. Compaction moves the start of the log at once. Later writes remove the rows before it, a few at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import apsw

from parleyd.formats import NO_LEVEL
from parleyd.invariants import check_invariant
from parleyd.raft.types import (
    NO_INDEX,
    NO_TERM,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Index,
    NodeId,
    SnapshotMeta,
    Term,
)
from parleyd.raft.update import Persist
from parleyd.storage.encoding import decode_conf_state, encode_conf_state, entry_checksum, state_checksum
from parleyd.storage.errors import StorageDamagedError, StorageError, StorageInvariantError, damaged
from parleyd.storage.files import fsync_path
from parleyd.storage.log_file import PAGE_BYTES, configure, open_log_format, translated_errors
from parleyd.storage.wal_check import find_wal_damage

ENTRY_OVERHEAD_BYTES = 32
GARBAGE_ROWS_PER_WRITE = 512


@dataclass(frozen=True, slots=True)
class LogContents:
    """The content of a log. `snapshot` identifies the entry before the first one, and the membership there."""

    hard_state: HardState
    entries: tuple[Entry, ...]
    snapshot: SnapshotMeta

    @property
    def last_index(self) -> Index:
        return self.entries[-1].index if self.entries else self.snapshot.index

    def term_at(self, index: Index) -> Term | None:
        """Return the term of the entry at `index`, or of the entry before the first one; None outside the log."""
        if index == self.snapshot.index:
            return self.snapshot.term
        position = index - self.snapshot.index - 1
        return self.entries[position].term if 0 <= position < len(self.entries) else None


class RaftStorage:
    """One connection, used by one thread at a time."""

    def __init__(self, path: Path, connection: apsw.Connection) -> None:
        self._path = path
        self._connection = connection
        self._failure: StorageError | None = None
        self._closed = False
        self._initialized = False
        self._hard_state = HardState()
        self._snapshot = SnapshotMeta(index=NO_INDEX, term=NO_TERM)
        self._state_waits = False
        self._last_index = NO_INDEX
        self._lowest_row = NO_INDEX  # 0: no rows at all
        self._live_bytes = 0

    @classmethod
    def open(cls, path: Path, vfs: str | None = None, level: int = NO_LEVEL) -> RaftStorage:
        """Open the log, or make an empty one. `initialize` or a first `append` gives it content.

        An older format is changed as far as the cluster's `level` allows. Raises FormatRefusedError for another
        release's file.
        """
        damage = find_wal_damage(path.with_name(path.name + "-wal"), PAGE_BYTES)
        if damage:
            raise damaged(path, damage)
        log: RaftStorage | None = None
        with translated_errors(path, "opening the log"):
            connection = apsw.Connection(str(path), vfs=vfs)
            try:
                configure(connection)
                open_log_format(connection, path, level)
                log = cls(path, connection)
                log._read_summary()
                # Begin a new WAL: what a torn write left must not be reported as damage at the next start.
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
                fsync_path(path.parent)
            except BaseException:
                # Closing would checkpoint and sync again what a failed sync may have lost.
                connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                connection.close(True)
                raise
        return log

    @property
    def initialized(self) -> bool:
        """Return whether term and vote were ever written here; False for a member: they are lost."""
        return self._initialized

    @property
    def first_index(self) -> Index:
        """Return the index of the lowest live entry, or of the next one if there is none."""
        return Index(self._snapshot.index + 1)

    @property
    def last_index(self) -> Index:
        return self._last_index

    def bytes_used(self) -> int:
        """Return the size of the live entries.

        Rows that wait for removal do not count, because their pages are used again.
        """
        return self._live_bytes

    def initialize(self, conf_state: ConfState) -> None:
        """Begin the log of a bootstrap member, with only the first membership before it."""
        with self._fatal("bootstrapping the log"):
            check_invariant(
                not self._initialized,
                f"{self._path} already has a log. Bootstrapping over it would lose a vote. Nothing was written.",
                StorageInvariantError,
            )
            self._snapshot = SnapshotMeta(index=NO_INDEX, term=NO_TERM, conf_state=conf_state)
            with self._transaction():
                self._write_state()

    def load(self) -> LogContents:
        """Read and verify the whole log; its size depends on how often the caller compacts.

        A log that was never initialized is damage here, because its vote is missing.
        """
        with self._fatal("reading the log"):
            if not self._initialized:
                raise damaged(self._path, "there is no term and no vote: the file is missing or was emptied")
            entries: list[Entry] = []
            rows = self._connection.execute(
                "SELECT idx, term, type, data, checksum FROM entries WHERE idx > ? ORDER BY idx",
                (self._snapshot.index,),
            )
            expected, term = self._snapshot.index + 1, self._snapshot.term
            for row in rows:
                entry = self._verified(expected, term, row)
                entries.append(entry)
                expected, term = expected + 1, entry.term
            contents = LogContents(self._hard_state, tuple(entries), self._snapshot)
            if self._hard_state.commit_index > contents.last_index:
                raise damaged(
                    self._path,
                    f"the log ends at entry {contents.last_index}, but entries up to {self._hard_state.commit_index} "
                    "were already committed here: its end is missing",
                )
            return contents

    def append(self, writes: Sequence[Persist]) -> None:
        """Carry out all writes in order, in one transaction under one fsync."""
        with self._fatal("writing the log"):
            if all(self._moves_commit_only(write) for write in writes):
                for write in writes:
                    self._take_hard_state(write.hard_state)
                return
            with self._transaction():
                for write in writes:
                    self._carry_out(write)
                self._drop_garbage()
                if self._state_waits:
                    self._write_state()

    def compact(self, meta: SnapshotMeta) -> None:
        """Remove the entries up to `meta.index`, which a durable state machine covers."""
        with self._fatal("compacting the log"):
            if meta.index <= self._snapshot.index:
                return
            row = self._connection.execute("SELECT term FROM entries WHERE idx = ?", (meta.index,)).fetchone()
            check_invariant(
                row == (meta.term,),
                f"compaction to {meta.index} of term {meta.term}, where the log has {row}",
                StorageInvariantError,
            )
            with self._transaction():
                self._live_bytes -= self._bytes_between(self._snapshot.index, meta.index)
                self._snapshot = meta
                self._drop_garbage()
                self._write_state()

    def close(self) -> None:
        """Write the pending commit index and close the file; after a failure write nothing more. Safe to call again."""
        if self._closed:
            return
        if self._failure is not None:
            # After a failed fsync, a checkpoint could report lost data as durable.
            self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            self._connection.close(True)
            self._closed = True
            return
        with self._fatal("closing the log"):
            if self._state_waits:
                with self._transaction():
                    self._write_state()
            self._connection.close()
            self._closed = True
            self._failure = StorageError(f"{self._path}: the log is closed")

    # ---- one write

    def _carry_out(self, write: Persist) -> None:
        if write.snapshot is not None:
            self._reset_to(write.snapshot)
        if write.entries:
            self._replace_tail(write.entries)
        self._take_hard_state(write.hard_state)

    def _take_hard_state(self, hard_state: HardState | None) -> None:
        if hard_state is None or hard_state == self._hard_state:
            return
        old = self._hard_state
        same_vote = hard_state.voted_for == old.voted_for or not old.voted_for
        check_invariant(
            hard_state.current_term > old.current_term or (hard_state.current_term == old.current_term and same_vote),
            f"hard state would go backwards: {old} -> {hard_state}",
            StorageInvariantError,
        )
        check_invariant(
            hard_state.commit_index >= old.commit_index,
            f"commit index would go back: {old} -> {hard_state}",
            StorageInvariantError,
        )
        self._hard_state = hard_state
        self._state_waits = True

    def _moves_commit_only(self, write: Persist) -> bool:
        new, old = write.hard_state, self._hard_state
        nothing_else = not write.entries and write.snapshot is None and self._initialized
        return nothing_else and (
            new is None or (new.current_term == old.current_term and new.voted_for == old.voted_for)
        )

    def _reset_to(self, meta: SnapshotMeta) -> None:
        check_invariant(
            meta.index >= self._snapshot.index,
            f"snapshot {meta.index} is before the log's start {self._snapshot}",
            StorageInvariantError,
        )
        self._connection.execute("DELETE FROM entries")
        self._lowest_row, self._last_index, self._live_bytes = NO_INDEX, meta.index, 0
        self._snapshot = meta
        self._state_waits = True

    def _replace_tail(self, entries: tuple[Entry, ...]) -> None:
        first = entries[0].index
        check_invariant(
            self._snapshot.index < first <= self._last_index + 1,
            f"entries from {first} on leave a gap: the log has {self.first_index} to {self._last_index}",
            StorageInvariantError,
        )
        if first <= self._last_index:
            check_invariant(
                first > self._hard_state.commit_index,
                f"entries from {first} on would replace committed ones (commit {self._hard_state.commit_index})",
                StorageInvariantError,
            )
            self._live_bytes -= self._bytes_between(Index(first - 1), self._last_index)
            self._connection.execute("DELETE FROM entries WHERE idx >= ?", (first,))
        check_invariant(
            all(entry.index == first + offset for offset, entry in enumerate(entries)),
            "entries are not contiguous",
            StorageInvariantError,
        )
        self._connection.executemany(
            "INSERT INTO entries(idx, term, type, data, checksum) VALUES(?, ?, ?, ?, ?)",
            [(e.index, e.term, int(e.type), e.data, entry_checksum(e.term, e.index, e.type, e.data)) for e in entries],
        )
        self._lowest_row = min(self._lowest_row, first) if self._lowest_row else first
        self._last_index = entries[-1].index
        self._live_bytes += sum(len(entry.data) + ENTRY_OVERHEAD_BYTES for entry in entries)

    def _write_state(self) -> None:
        hard_state, snapshot = self._hard_state, self._snapshot
        conf_state = encode_conf_state(snapshot.conf_state)
        self._connection.execute(
            "INSERT OR REPLACE INTO state(id, current_term, voted_for, commit_index, snapshot_index, snapshot_term,"
            " conf_state, checksum) VALUES(1, ?, ?, ?, ?, ?, ?, ?)",
            (
                hard_state.current_term,
                hard_state.voted_for,
                hard_state.commit_index,
                snapshot.index,
                snapshot.term,
                conf_state,
                state_checksum(hard_state, snapshot, conf_state),
            ),
        )
        self._initialized = True
        self._state_waits = False

    def _drop_garbage(self) -> None:
        """Remove a bounded number of rows before the log's start, because appends wait for it."""
        if not self._lowest_row or self._lowest_row > self._snapshot.index:
            return
        up_to = Index(min(self._snapshot.index, self._lowest_row + GARBAGE_ROWS_PER_WRITE - 1))
        self._connection.execute("DELETE FROM entries WHERE idx <= ?", (up_to,))
        self._lowest_row = Index(up_to + 1) if up_to < self._last_index else NO_INDEX

    def _bytes_between(self, after: Index, up_to: Index) -> int:
        size = f"coalesce(sum(length(data) + {ENTRY_OVERHEAD_BYTES}), 0)"
        query = f"SELECT {size} FROM entries WHERE idx > ? AND idx <= ?"  # noqa: S608 - no outside text in it
        return int(self._connection.execute(query, (after, up_to)).get)

    # ---- reading back

    def _read_summary(self) -> None:
        row = self._connection.execute("SELECT * FROM state").fetchone()
        lowest = self._connection.execute("SELECT min(idx) FROM entries").get
        highest = self._connection.execute("SELECT max(idx) FROM entries").get
        if row is None:
            if highest is not None:
                raise damaged(self._path, "there are entries, but term and vote are missing")
            return
        _, term, vote, commit, index, snapshot_term, conf_state, checksum = row
        self._hard_state = HardState(Term(term), NodeId(vote), Index(commit))
        snapshot = SnapshotMeta(Index(index), Term(snapshot_term))
        if state_checksum(self._hard_state, snapshot, conf_state) != checksum:
            raise damaged(self._path, "term and vote do not match their checksum")
        self._snapshot = SnapshotMeta(snapshot.index, snapshot.term, decode_conf_state(conf_state))
        # The commit index is written late. What a snapshot covers is committed.
        self._hard_state = HardState(Term(term), NodeId(vote), Index(max(commit, index)))
        self._initialized = True
        self._lowest_row = Index(lowest or NO_INDEX)
        self._last_index = Index(max(highest or NO_INDEX, snapshot.index))
        self._live_bytes = self._bytes_between(snapshot.index, self._last_index)

    def _verified(self, expected: int, previous_term: int, row: tuple[int, int, int, bytes, int]) -> Entry:
        index, term, type_, data, checksum = row
        if index != expected:
            raise damaged(self._path, f"entry {expected} is missing: {index} follows {expected - 1}")
        if entry_checksum(term, index, type_, data) != checksum:
            raise damaged(self._path, f"entry {index} does not match its checksum")
        if term < previous_term:
            raise damaged(self._path, f"entry {index} is of term {term}, the one before it of term {previous_term}")
        return Entry(Term(term), Index(index), EntryType(type_), data)

    # ---- failure

    @contextmanager
    def _fatal(self, what: str) -> Iterator[None]:
        """Make this object refuse all work after any error inside."""
        if self._failure is not None:
            raise StorageError(f"{what}: the log failed before and accepts nothing more") from self._failure
        try:
            with translated_errors(self._path, what):
                yield
        except StorageError as error:
            self._failure = error
            raise
        except BaseException as error:
            self._failure = StorageError(f"{what} was cut short: {error!r}")
            raise

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Open a transaction without a rollback at an error: closing the connection rolls back."""
        self._connection.execute("BEGIN IMMEDIATE")
        yield
        self._connection.execute("COMMIT")


__all__ = ["LogContents", "RaftStorage", "StorageDamagedError", "StorageError"]
