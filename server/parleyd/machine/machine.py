"""The replicated state machine: committed entries in, results and effects out, a pure function of state and entry.

One apply is one SQLite transaction, and it writes the position in the log too. After a crash the file is the state as
of exactly that entry. Nothing here reads a clock or draws a number. The proposer writes the time, and it never goes
backwards. Each entry is applied by the rules of the level at which it was proposed.

A command that fails unexpectedly must not stop every node. The transaction is rolled back and applied again, each
command under a savepoint. Then only the failing command changes nothing, equally on all nodes. A disk fault differs
between nodes, so it stops this one.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from parley_proto.v1 import state_pb2 as pb
from parleyd.invariants import check_invariant
from parleyd.machine.effects import Effect
from parleyd.machine.entries import DecodedEntry, decode_entries, next_hash
from parleyd.machine.errors import (
    MachineError,
    MachineInvariantError,
    MachineReleaseError,
    MachineStorageError,
)
from parleyd.machine.feature import Command, result
from parleyd.machine.features import members
from parleyd.machine.features.stored_bytes import STORED_BYTES_LEVEL
from parleyd.machine.files import WRITER_CACHE_BYTES, create_state, open_writer, release_text, storage_faults
from parleyd.machine.levels import MAX_LEVEL, MIN_LEVEL
from parleyd.machine.limits import FIRST_MESSAGE_ID
from parleyd.machine.records import CommittedEntry, MemberRow, Members, MembershipChange, StateHash
from parleyd.machine.registry import COMMANDS, tables_of_level
from parleyd.machine.state import META_TABLE, State

LONG_WAL_PAGES = 2000
HASH_INTERVAL = 256  # nodes compare the state hash at multiples of this index

# Faults of the statement, not of the disk: the same on every node.
_DETERMINISTIC_SQLITE_ERRORS = (apsw.ConstraintError, apsw.MismatchError, apsw.TooBigError)
# All text was valid when it was written. Invalid text is damage on this node's disk.
_LOCAL_ERRORS = (apsw.Error, OSError, MemoryError, RecursionError, MachineError, UnicodeDecodeError)


@dataclass(frozen=True, slots=True)
class CommandFailure:
    """A command that failed unexpectedly, for this node's log; `where` contains no message content."""

    index: int
    position: int
    where: str


@dataclass(frozen=True, slots=True)
class ApplyOutcome:
    """The outcome of some entries; `results` are aligned with entries and their commands."""

    applied_index: int
    results: tuple[tuple[pb.CommandResult, ...], ...]
    effects: tuple[Effect, ...]
    level: int  # the cluster's level after them
    failures: tuple[CommandFailure, ...] = ()
    hashes: tuple[StateHash, ...] = ()  # those at multiples of HASH_INTERVAL


_Run = Callable[[int, int, pb.Command], pb.CommandResult]


class _UnforeseenError(Exception):
    """A command failed; everything since the last commit has to be applied again under savepoints."""


class StateMachine:
    """The only writer of state.sqlite, used by one thread at a time; any thread may read its properties."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._state = State(connection)
        self._failure: BaseException | None = None
        self._closed = False
        self._wal_pages = 0
        self._may_begin_wal = True
        connection.set_wal_hook(self._note_wal)
        self._failures: list[CommandFailure] = []
        self._hashes: list[StateHash] = []
        self._publish_position()

    @classmethod
    def create(cls, path: Path, bootstrap_members: Sequence[MemberRow], membership: bytes) -> StateMachine:
        """Make the empty state of a new cluster; equal bootstrap_members and membership give equal states."""
        level = first_level(bootstrap_members)
        create_state(path, lambda connection: _fill(connection, bootstrap_members, membership, level), level)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path, vfs: str | None = None, cache_bytes: int = WRITER_CACHE_BYTES) -> StateMachine:
        """Open existing state. Pages of `cache_bytes` stay in memory. Raises MachineDamagedError for any other file."""
        connection = open_writer(path, vfs, cache_bytes)
        try:
            with storage_faults(f"reading {path}"):
                return cls(connection)
        except BaseException:
            connection.close(True)
            raise

    @property
    def applied_index(self) -> int:
        """Return the last entry whose changes are committed here; a power loss may undo it (see `checkpoint`)."""
        return self._position[0]

    @property
    def applied_term(self) -> int:
        """Return the term of that entry."""
        return self._position[1]

    @property
    def membership(self) -> bytes:
        """Return the membership that the driver stored last."""
        return self._position[2]

    @property
    def state_hash(self) -> bytes:
        """Return the rolling hash of everything applied: equal on all nodes at an equal applied index."""
        return self._position[3]

    @property
    def level(self) -> int:
        """Return the cluster's level as of that entry: new entries are proposed at it."""
        return self._position[4]

    @property
    def generation(self) -> int:
        """Return the generation of the cluster; it grows when the cluster is restored from a backup."""
        return self._position[5]

    @property
    def now_ms(self) -> int:
        """Return the replicated time as of that entry, Unix time in milliseconds."""
        return self._position[6]

    @property
    def has_long_wal(self) -> bool:
        """Return whether `shorten_wal` is due."""
        return self._wal_pages >= LONG_WAL_PAGES

    @property
    def may_sync(self) -> bool:
        """Return whether the next apply may wait for the disk: the first one into an empty WAL syncs its header.

        A reader may put that off to a later one.
        """
        return self._may_begin_wal

    def members(self) -> Members:
        """Return the cluster's members and former members; for the thread that applies."""
        self._check_usable()
        return members.read(self._connection)

    def apply(self, entries: Sequence[CommittedEntry]) -> ApplyOutcome:
        """Apply the next committed entries in one transaction."""
        self._check_usable()
        expected = self.applied_index
        for entry in entries:
            expected += 1
            check_invariant(
                entry.index == expected,
                f"entry {entry.index} given to apply where {expected} is next",
                MachineInvariantError,
            )
        if not entries:
            return ApplyOutcome(self.applied_index, (), (), self.level)
        with self._fatal("applying"):
            decoded = decode_entries(entries)
            self._failures = []
            try:
                results = self._transaction(decoded, self._run)
            except _UnforeseenError:
                self._connection.execute("ROLLBACK")
                self._state.forget_all()
                results = self._transaction(decoded, self._run_carefully)
            self._state.trim()
            self._publish_position()
            self._may_begin_wal = False
            effects, self._state.effects = tuple(self._state.effects), []
            return ApplyOutcome(
                self.applied_index, results, effects, self.level, tuple(self._failures), tuple(self._hashes)
            )

    def shorten_wal(self) -> None:
        """Move the WAL's content to the database, as SQLite would do by itself within a commit.

        It syncs both files, so it has no place on an event loop. Its failure is reported: if it were ignored, the next
        one could sync again without an error and overwrite the database by data that is on no disk.
        """
        self._check_usable()
        self._wal_pages = 0  # if a reader keeps it from completing, the next commit says how long it still is
        self._may_begin_wal = True
        with self._fatal("checkpointing"), suppress(apsw.BusyError):
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def checkpoint(self) -> int:
        """Make all applied entries survive a power loss; the log may be compacted only below the returned index."""
        self._check_usable()
        with self._fatal("checkpointing"):
            # A commit under synchronous=FULL fsyncs the whole WAL, all earlier commits included, even if readers keep
            # the checkpoint that follows from completing. It has to change something, or SQLite would have nothing to
            # commit.
            self._connection.pragma("synchronous", "full")
            self._connection.execute("UPDATE checkpoints SET count = count + 1")
            self._connection.pragma("synchronous", "normal")
            applied_index = self.applied_index
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            self._may_begin_wal = True
            return applied_index

    def close(self) -> None:
        """Close the file; after a failure write nothing more. Safe to call again."""
        if self._closed:
            return
        if self._failure is not None:
            self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            self._connection.close(True)
            self._closed = True
            return
        with self._fatal("closing"):
            self._connection.close()
            self._closed = True
            self._failure = MachineStorageError("the state machine is closed")

    # ---- one transaction

    def _transaction(self, entries: Sequence[DecodedEntry], run: _Run) -> tuple[tuple[pb.CommandResult, ...], ...]:
        state = self._state
        state.effects = []
        self._hashes = []
        self._connection.execute("BEGIN IMMEDIATE")
        results = tuple(self._apply_entry(entry, run) for entry in entries)
        try:
            state.flush()
        except _DETERMINISTIC_SQLITE_ERRORS as error:
            raise _UnforeseenError from error
        state.write_meta()
        self._connection.execute("COMMIT")
        return results

    def _apply_entry(self, decoded: DecodedEntry, run: _Run) -> tuple[pb.CommandResult, ...]:
        entry, batch, state = decoded.entry, decoded.batch, self._state
        results: tuple[pb.CommandResult, ...] = ()
        if batch is not None:
            state.level = batch.level
            state.stamp_ms, state.messages.entry = batch.proposed_at_ms, entry
            state.meta.now_ms = max(state.meta.now_ms, batch.proposed_at_ms)
            results = tuple(run(entry.index, place, command) for place, command in enumerate(batch.commands))
            if state.level >= STORED_BYTES_LEVEL:
                state.stored_bytes.sweep()
        elif entry.payload:
            results = (result(pb.RESULT_CODE_UNKNOWN_COMMAND),)
        meta = state.meta  # a rollback may have replaced it
        meta.applied_index, meta.applied_term = entry.index, entry.term
        if entry.membership is not None:
            meta.membership = entry.membership.encoded
            members.change(state, entry.membership)
        meta.state_hash = next_hash(meta.state_hash, entry, results)
        if entry.index % HASH_INTERVAL == 0:
            self._hashes.append(StateHash(entry.index, meta.state_hash))
        return results

    def _run(self, index: int, place: int, command: pb.Command) -> pb.CommandResult:
        try:
            return _apply_command(self._state, command)
        except Exception as error:
            if _is_local(error):
                raise
            raise _UnforeseenError from error

    def _run_carefully(self, index: int, place: int, command: pb.Command) -> pb.CommandResult:
        state = self._state
        state.flush()
        state.write_meta()
        effects_before = len(state.effects)
        self._connection.execute("SAVEPOINT command")
        try:
            outcome = _apply_command(state, command)
            state.flush()
        except Exception as error:
            if _is_local(error):
                raise
            self._connection.execute("ROLLBACK TO command")
            state.forget_all()
            del state.effects[effects_before:]
            self._failures.append(CommandFailure(index, place, _where(error)))
            outcome = result(pb.RESULT_CODE_FAILED)
        self._connection.execute("RELEASE command")
        return outcome

    def _publish_position(self) -> None:
        meta = self._state.meta
        # One assignment, so that another thread never sees a part of it.
        self._position = (
            meta.applied_index,
            meta.applied_term,
            meta.membership,
            meta.state_hash,
            meta.level,
            meta.generation,
            meta.now_ms,
        )

    def _note_wal(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    # ---- failure

    def _check_usable(self) -> None:
        if self._failure is not None:
            raise MachineStorageError("the state machine already failed and applies nothing more") from self._failure

    @contextmanager
    def _fatal(self, what: str) -> Iterator[None]:
        """Make this object refuse all work after any error inside; the next start begins from the last commit."""
        try:
            with storage_faults(what):
                yield
        except BaseException as error:
            self._failure = error
            raise


def _apply_command(state: State, command: pb.Command) -> pb.CommandResult:
    """Apply one command by the rules of the entry's level, if its session is live and allowed to."""
    name = command.WhichOneof("command")
    known = None if name is None else COMMANDS.get(name)
    # An older release finds no command there. What is not of the entry's level has one result on all nodes.
    if name is None or known is None or not known.level <= state.level <= state.meta.level:
        return result(pb.RESULT_CODE_UNKNOWN_COMMAND)
    content: Any = getattr(command, name)
    if isinstance(known, Command):
        return known.apply(state, content)
    actor = state.sessions.actor(content.session_id)
    if actor is None:
        return result(pb.RESULT_CODE_SIGNED_OUT)
    if not actor.account.may(known.action):
        return result(pb.RESULT_CODE_NOT_ALLOWED)
    return known.apply(state, actor, content)


def first_level(bootstrap_members: Sequence[MemberRow]) -> int:
    """Return the level that a new cluster begins with: the lowest that all its first members support.

    It follows from what they published, not from the release that asks. Raises MachineReleaseError if there is none.
    """
    level = max((row.min_level for row in bootstrap_members), default=MIN_LEVEL)
    for row in bootstrap_members:
        if not row.min_level <= level <= row.max_level:
            raise MachineReleaseError(
                f"the first members have no level in common: {row.name} supports levels {row.min_level} to "
                f"{row.max_level}, another member needs {level} at least. Nothing was started. Start all first members "
                "with one release"
            )
    if not MIN_LEVEL <= level <= MAX_LEVEL:
        raise MachineReleaseError(release_text("the first state of this cluster", level))
    return level


def _fill(
    connection: apsw.Connection, bootstrap_members: Sequence[MemberRow], membership: bytes, first_level: int
) -> None:
    """Fill the empty state of a new cluster."""
    connection.execute(META_TABLE)
    for level in range(1, first_level + 1):
        connection.execute(tables_of_level(level))
    rows = sorted(bootstrap_members, key=lambda row: row.node_id)
    members.insert(connection, rows)
    first = CommittedEntry(
        0, 0, membership=MembershipChange(membership, tuple(row.node_id for row in rows), tuple(rows))
    )
    connection.execute(
        "INSERT INTO meta(id, applied_index, applied_term, membership, state_hash, level, generation, now_ms,"
        " last_account_id, last_session_id, last_device_id, last_conversation_id, last_message_id, message_count)"
        " VALUES(1, 0, 0, ?, ?, ?, 0, 0, 0, 0, 0, 0, ?, 0)",
        (membership, next_hash(b"", first, ()), first_level, FIRST_MESSAGE_ID - 1),
    )


def _is_local(error: Exception) -> bool:
    """Return whether other nodes may not have the error: then it must not become a result."""
    return isinstance(error, _LOCAL_ERRORS) and not isinstance(error, _DETERMINISTIC_SQLITE_ERRORS)


def _where(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {frame.name}, {Path(frame.filename).name}:{frame.lineno}"
