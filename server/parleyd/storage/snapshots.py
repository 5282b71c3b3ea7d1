"""Complete copies of the state machine: made beside the running writer, received in chunks, installed atomically.

Installing replaces state.sqlite together with its write-ahead log. No single system call can do that. SQLite would
replay an old WAL over a new file and mix the two. The steps, each durable before the next:

1. The received file is complete, verified and fsynced, under a temporary name.
2. It is renamed to `state.sqlite.installing`. From here on the new state counts.
3. The old `-wal` and `-shm` are removed. The old file may be useless then, but it does not count any more.
4. `state.sqlite.installing` is renamed to `state.sqlite`.

A crash before 2 leaves the old state unchanged. After 2, `finish_install` repeats 3 and 4 at the next start, before
anything opens the database. The Raft log is reset afterwards; recovery.py handles a crash in between.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import apsw

from parleyd.page_checksums import (
    ChecksumsUnavailableError,
    checksum_vfs,
    is_page_damage,
    page_damage_text,
    reserve_checksums,
)
from parleyd.raft.types import SnapshotMeta
from parleyd.storage.errors import CopyFailedError, SnapshotTransferError, StorageError, damaged
from parleyd.storage.files import fsync_path, io_errors, rename_durably

TEMPORARY_SUFFIX = ".tmp"
INSTALLING_SUFFIX = ".installing"
PAGES_PER_STEP = 1024
HASH_CHUNK_BYTES = 1 << 20
FREE_BYTES_TO_KEEP = 64 << 20


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """A finished snapshot on disk; the caller removes it when no transfer needs it any more."""

    path: Path
    meta: SnapshotMeta
    total_bytes: int
    sha256: bytes

    def remove(self) -> None:
        """Delete the file. What cannot be deleted now is cleared at the next start."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def write_snapshot(source_db: Path, target: Path, describe: Callable[[apsw.Connection], SnapshotMeta]) -> SnapshotFile:
    """Copy the state as of one moment to `target` while its writer continues; raises CopyFailedError.

    A disk that has no room for a copy is no reason to stop: what the node has is untouched. One read transaction spans
    the copy, so the copy is consistent. The writer's WAL cannot be reused until the copy is done. `describe` reads
    index, term and membership inside the same transaction.
    """
    temporary = target.with_name(target.name + TEMPORARY_SUFFIX)
    with _copy_errors(source_db, target), _cleaned_up(temporary):
        meta = _copy(source_db, temporary, describe)
        temporary.chmod(0o600)
        digest, total_bytes = _sha256(temporary)
        fsync_path(temporary)
        rename_durably(temporary, target)
    return SnapshotFile(path=target, meta=meta, total_bytes=total_bytes, sha256=digest)


def read_chunks(path: Path, chunk_bytes: int) -> Iterator[bytes]:
    """Return the content of a snapshot in order; at most one chunk is in memory. Raises CopyFailedError."""
    try:
        with path.open("rb") as file:
            while chunk := file.read(chunk_bytes):
                yield chunk
    except OSError as error:
        raise CopyFailedError(f"reading the copy {path} failed: {error}") from error


class SnapshotReceiver:
    """Collects one incoming snapshot. `finish` returns a verified file, `abort` leaves no file.

    SnapshotTransferError means that this transfer is unusable (its bytes, or no space for them) and the node works.
    StorageError means a disk fault.
    """

    def __init__(
        self, folder: Path, total_bytes: int, sha256: bytes, keep_free_bytes: int = FREE_BYTES_TO_KEEP
    ) -> None:
        self._total_bytes = total_bytes
        self._sha256 = sha256
        self._received_bytes = 0
        self._hash = hashlib.sha256()
        with io_errors(f"receiving a snapshot into {folder}"):
            room = shutil.disk_usage(folder).free - keep_free_bytes
            if total_bytes > room:
                raise SnapshotTransferError(
                    f"a snapshot of {total_bytes} bytes does not fit: {max(room, 0)} bytes are free in {folder} "
                    f"beside the {keep_free_bytes} kept for running. The old state is untouched; make room."
                )
            self._path = folder / f"incoming-{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            self._file = os.fdopen(descriptor, "wb", buffering=0)

    def write(self, chunk: bytes) -> None:
        """Take the next bytes in order."""
        self._received_bytes += len(chunk)
        if self._received_bytes > self._total_bytes:
            self.abort()
            raise SnapshotTransferError(f"the snapshot is longer than the {self._total_bytes} bytes announced")
        self._hash.update(chunk)
        view = memoryview(chunk)
        with self._disk():
            while view:
                view = view[self._file.write(view) :]

    def finish(self) -> Path:
        """Verify the file, make it durable, and return it for `install`."""
        if self._received_bytes != self._total_bytes:
            self.abort()
            raise SnapshotTransferError(f"the snapshot ended after {self._received_bytes} of {self._total_bytes} bytes")
        if self._hash.digest() != self._sha256:
            self.abort()
            raise SnapshotTransferError("the snapshot does not match its SHA-256: altered on its way or at its source")
        with self._disk():
            os.fsync(self._file.fileno())
            self._file.close()
            received = self._path.with_suffix(".received")
            rename_durably(self._path, received)
        return received

    def abort(self) -> None:
        """Discard the transfer; safe to call at any time, also after `finish`, whose file stays."""
        self._file.close()
        with io_errors(f"removing {self._path}"):
            self._path.unlink(missing_ok=True)

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            with io_errors(f"writing {self._path}"):
                yield
        except StorageError as error:
            self.abort()
            if is_full_disk(error):
                raise SnapshotTransferError(
                    "the disk is full. The incomplete snapshot was removed. Free some space."
                ) from error
            raise


def install(received: Path, state_db: Path) -> None:
    """Replace the state by a received snapshot; every connection to `state_db` must be closed.

    `received` must be complete and durable (`SnapshotReceiver.finish`) and on the same file system.
    """
    installing = state_db.with_name(state_db.name + INSTALLING_SUFFIX)
    with io_errors(f"installing a snapshot as {state_db}"):
        os.replace(received, installing)
        fsync_path(installing.parent)
    finish_install(state_db)


def finish_install(state_db: Path) -> bool:
    """Complete an installation that a crash interrupted; return whether there was one."""
    installing = state_db.with_name(state_db.name + INSTALLING_SUFFIX)
    with io_errors(f"installing a snapshot as {state_db}"):
        if not installing.exists():
            return False
        for suffix in ("-wal", "-shm", "-journal"):
            state_db.with_name(state_db.name + suffix).unlink(missing_ok=True)
        # If the rename were on disk before these removals, SQLite would replay the old WAL over the new file.
        fsync_path(state_db.parent)
        rename_durably(installing, state_db)
    return True


def _copy(source_db: Path, temporary: Path, describe: Callable[[apsw.Connection], SnapshotMeta]) -> SnapshotMeta:
    source = apsw.Connection(str(source_db), flags=apsw.SQLITE_OPEN_READONLY, vfs=checksum_vfs())
    try:
        source.set_busy_timeout(5_000)
        target = apsw.Connection(str(temporary), vfs=checksum_vfs())
        try:
            # The copy is useless until it is complete: no journal, and one fsync at the end instead.
            target.pragma("journal_mode", "off")
            target.pragma("synchronous", "off")
            reserve_checksums(target)
            source.execute("BEGIN")
            meta = describe(source)
            with target.backup("main", source, "main") as backup:
                while not backup.done:
                    backup.step(PAGES_PER_STEP)
            return meta
        finally:
            target.close()
    finally:
        source.close()


def _sha256(path: Path) -> tuple[bytes, int]:
    digest, total_bytes = hashlib.sha256(), 0
    for chunk in read_chunks(path, HASH_CHUNK_BYTES):
        digest.update(chunk)
        total_bytes += len(chunk)
    return digest.digest(), total_bytes


@contextmanager
def _copy_errors(source_db: Path, target: Path) -> Iterator[None]:
    """Convert what can go wrong with a copy. Only a damaged source stops the node."""
    try:
        yield
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise damaged(source_db, str(error)) from error
    except (apsw.Error, OSError, CopyFailedError, ChecksumsUnavailableError) as error:
        if is_page_damage(error):
            raise damaged(source_db, page_damage_text(source_db)) from error
        # SQLite's backup reports a full disk as "not an error".
        reason = "the disk is full" if is_full_disk(error) else str(error)
        raise CopyFailedError(f"making the copy {target} failed: {reason}. The state itself is untouched.") from error


def is_full_disk(error: BaseException | None) -> bool:
    """Return whether an error, or its cause, says that a disk or a quota is full."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, apsw.FullError) or (error is not None and is_full_disk(error.__cause__))


@contextmanager
def _cleaned_up(temporary: Path) -> Iterator[None]:
    """Remove every unfinished file, however the work ended."""
    try:
        for suffix in ("", "-wal", "-shm", "-journal"):
            temporary.with_name(temporary.name + suffix).unlink(missing_ok=True)
        yield
    finally:
        temporary.unlink(missing_ok=True)
