"""The replicated state machine: committed entries in, results and effects out, a pure function of state and entry.

One apply is one SQLite transaction, and the position in the log is written in it: after any crash the file is the
state as of exactly the entry it names. Nothing here reads a clock or draws a number; the time is what the proposer
wrote, and never runs backwards.

A command that fails in an unforeseen way must not stop every node in turn. The transaction is rolled back and applied
again carefully, each command under a savepoint, so that only the failing one changes nothing, on every node alike. What
the disk does is another matter: it differs between nodes, so it stops this one.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import apsw

from parleyd.invariants import check_invariant
from parleyd.machine import accounts, members, messages
from parleyd.machine import commands as c
from parleyd.machine.errors import MachineDamagedError, MachineError, MachineInvariantError, MachineStorageError
from parleyd.machine.records import (
    AccountDeleted,
    CommittedEntry,
    Effect,
    MemberRow,
    Members,
    MembersChanged,
    MembershipChange,
    MessageRecord,
    MessageStored,
    ReceiptMoved,
    Recipient,
    SessionClosed,
)
from parleyd.machine.row_cache import RowCache
from parleyd.machine.schema import STATE_HASH_BYTES, create_state, open_writer, storage_faults

UNDECODABLE = "this node's release cannot read the command; nothing was changed"
UNFORESEEN = "applying the command failed in an unforeseen way, on every node alike; nothing was changed"

# Faults of the statement, not of the disk: the same on every node.
_DETERMINISTIC_SQLITE_ERRORS = (apsw.ConstraintError, apsw.MismatchError, apsw.TooBigError)
# What was written was valid text: text that is none comes from this node's disk.
_LOCAL_ERRORS = (apsw.Error, OSError, MemoryError, RecursionError, MachineError, UnicodeDecodeError)


@dataclass(frozen=True, slots=True)
class CommandFailure:
    """A command that failed in an unforeseen way, for this node's log; `where` has no content of messages."""

    index: int
    position: int
    where: str


@dataclass(frozen=True, slots=True)
class ApplyOutcome:
    """What came of some entries; `results` are aligned with entries and their commands."""

    applied_index: int
    results: tuple[tuple[c.CommandResult, ...], ...]
    effects: tuple[Effect, ...]
    failures: tuple[CommandFailure, ...] = ()


class _UnforeseenError(Exception):
    """A command failed; everything since the last commit has to be applied again carefully."""


class StateMachine:
    """The one writer of state.sqlite, used by one thread at a time; its properties may be read by any."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._cache = RowCache(connection)
        self._failure: BaseException | None = None
        self._closed = False
        self._failures: list[CommandFailure] = []
        self._publish_position()

    @classmethod
    def create(cls, path: Path, bootstrap_members: Sequence[MemberRow], membership: bytes) -> StateMachine:
        """Make the empty state of a new cluster; equal members and membership give equal states."""
        create_state(path, bootstrap_members, membership)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path, vfs: str | None = None) -> StateMachine:
        """Open existing state. Raises MachineDamagedError for anything else."""
        connection = open_writer(path, vfs)
        try:
            with storage_faults(f"reading {path}"):
                return cls(connection)
        except BaseException:
            connection.close(True)
            raise

    @property
    def applied_index(self) -> int:
        """The last entry whose changes are committed here; not yet safe from power loss (see `checkpoint`)."""
        return self._position[0]

    @property
    def applied_term(self) -> int:
        """The term of that entry."""
        return self._position[1]

    @property
    def membership(self) -> bytes:
        """What the driver last had stored about the membership."""
        return self._position[2]

    @property
    def state_hash(self) -> bytes:
        """Rolling hash of all that was applied: equal on all nodes at an equal applied index."""
        return self._position[3]

    def members(self) -> Members:
        """The cluster's members and those that were; for the thread that applies."""
        self._check_usable()
        return members.read_members(self._connection)

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
            return ApplyOutcome(self.applied_index, (), ())
        with self._fatal("applying"):
            self._failures = []
            try:
                results = self._transaction(entries, self._run)
            except _UnforeseenError:
                self._connection.execute("ROLLBACK")
                self._cache.forget_all()
                results = self._transaction(entries, self._run_carefully)
            self._cache.trim()
            self._publish_position()
            effects, self._cache.effects = tuple(self._cache.effects), []
            return ApplyOutcome(self.applied_index, results, effects, tuple(self._failures))

    def checkpoint(self) -> int:
        """Make everything applied so far survive power loss; the log may be cut only below the returned index."""
        self._check_usable()
        with self._fatal("checkpointing"):
            # A commit under synchronous=FULL fsyncs the whole WAL, all earlier commits included, however many
            # readers keep the checkpoint that follows from going all the way. It has to change something, or SQLite
            # would have nothing to commit.
            self._connection.pragma("synchronous", "full")
            self._connection.execute("UPDATE checkpoints SET count = count + 1")
            self._connection.pragma("synchronous", "normal")
            applied_index = self.applied_index
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            return applied_index

    def close(self) -> None:
        """Close the file; after a failure nothing more is written. Safe to call again."""
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

    def _transaction(
        self, entries: Sequence[CommittedEntry], run: Callable[[int, int, c.Command], c.CommandResult]
    ) -> tuple[tuple[c.CommandResult, ...], ...]:
        cache = self._cache
        cache.effects = []
        self._connection.execute("BEGIN IMMEDIATE")
        results = tuple(self._apply_entry(entry, run) for entry in entries)
        try:
            cache.flush()
        except _DETERMINISTIC_SQLITE_ERRORS as error:
            raise _UnforeseenError from error
        cache.write_meta()
        self._connection.execute("COMMIT")
        return results

    def _apply_entry(
        self, entry: CommittedEntry, run: Callable[[int, int, c.Command], c.CommandResult]
    ) -> tuple[c.CommandResult, ...]:
        results: tuple[c.CommandResult, ...] = ()
        if entry.payload:
            batch = c.decode_batch(entry.payload)
            if batch is None:
                results = (c.refusal(c.FAILED, UNDECODABLE),)
            else:
                meta = self._cache.meta
                meta.now_ms = max(meta.now_ms, batch.proposed_at_ms)
                results = tuple(run(entry.index, place, command) for place, command in enumerate(batch.commands))
        meta = self._cache.meta
        meta.applied_index, meta.applied_term = entry.index, entry.term
        if entry.membership is not None:
            meta.membership = entry.membership.encoded
            members.change_members(self._cache, entry.membership)
        meta.state_hash = _next_hash(meta.state_hash, entry, results)
        return results

    def _run(self, index: int, place: int, command: c.Command) -> c.CommandResult:
        try:
            return _apply_command(self._cache, command)
        except Exception as error:
            if _is_local(error):
                raise
            raise _UnforeseenError from error

    def _run_carefully(self, index: int, place: int, command: c.Command) -> c.CommandResult:
        cache = self._cache
        cache.flush()
        cache.write_meta()
        effects_before = len(cache.effects)
        self._connection.execute("SAVEPOINT command")
        try:
            result = _apply_command(cache, command)
            cache.flush()
        except Exception as error:
            if _is_local(error):
                raise
            self._connection.execute("ROLLBACK TO command")
            cache.forget_all()
            del cache.effects[effects_before:]
            self._failures.append(CommandFailure(index, place, _where(error)))
            result = c.refusal(c.FAILED, UNFORESEEN)
        self._connection.execute("RELEASE command")
        return result

    def _publish_position(self) -> None:
        meta = self._cache.meta
        # One assignment, so that another thread never sees half of it.
        self._position = (meta.applied_index, meta.applied_term, meta.membership, meta.state_hash)

    # ---- failure

    def _check_usable(self) -> None:
        if self._failure is not None:
            raise MachineStorageError("the state machine already failed and applies nothing more") from self._failure

    @contextmanager
    def _fatal(self, what: str) -> Iterator[None]:
        """Whatever goes wrong inside ends this object; the next start begins from the last commit."""
        try:
            with storage_faults(what):
                yield
        except BaseException as error:
            self._failure = error
            raise


def _apply_command(cache: RowCache, command: c.Command) -> c.CommandResult:
    match command.WhichOneof("command"):
        case "send_messages":
            return messages.send_messages(cache, command.send_messages)
        case "mark_delivered":
            return messages.mark_delivered(cache, command.mark_delivered)
        case "mark_conversation_read":
            return messages.mark_conversation_read(cache, command.mark_conversation_read)
        case "register_account":
            return accounts.register_account(cache, command.register_account)
        case "open_session":
            return accounts.open_session(cache, command.open_session)
        case "close_session":
            return accounts.close_session(cache, command.close_session)
        case "delete_account":
            return accounts.delete_account(cache, command.delete_account)
        case "publish_member":
            return members.publish_member(cache, command.publish_member)
        case "set_role":
            return accounts.set_role(cache, command.set_role)
        case _:
            return c.refusal(c.FAILED, UNDECODABLE)


def _next_hash(previous: bytes, entry: CommittedEntry, results: tuple[c.CommandResult, ...]) -> bytes:
    digest = blake2b(previous, digest_size=STATE_HASH_BYTES)
    digest.update(b"%d %d %d " % (entry.index, entry.term, len(entry.payload)))
    digest.update(entry.payload)
    digest.update(c.canonical(results))
    if entry.membership is not None:
        digest.update(repr(entry.membership).encode())
    return digest.digest()


def _is_local(error: Exception) -> bool:
    """Whether other nodes may fare better: then it must not become a result."""
    return isinstance(error, _LOCAL_ERRORS) and not isinstance(error, _DETERMINISTIC_SQLITE_ERRORS)


def _where(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {frame.name}, {Path(frame.filename).name}:{frame.lineno}"


__all__ = [
    "AccountDeleted",
    "ApplyOutcome",
    "CommandFailure",
    "CommittedEntry",
    "Effect",
    "MachineDamagedError",
    "MachineError",
    "MachineStorageError",
    "MemberRow",
    "Members",
    "MembersChanged",
    "MembershipChange",
    "MessageRecord",
    "MessageStored",
    "ReceiptMoved",
    "Recipient",
    "SessionClosed",
    "StateMachine",
]
