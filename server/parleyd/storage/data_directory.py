"""The folder of a node: locked for one process, and cleared of unfinished work when it is opened.

data/
  lock             flock of the running process
  identity.json    the node's identity
  raft.sqlite      log, term and vote
  state.sqlite     the state machine
  operator.token   a secret for scripts on this machine, new at each start
  fenced.json      the reason, while this node's state is not trusted
  restore-unfinished  while a restore writes the files; no node starts with it
  place.json       where the directory is, so that a copy is told from it (place.py)
  lost-entries     which entries of the log the disk has lost; no node starts with it
  administrator-claim.json  from `parleyd admin create`, until the cluster has it
  journal.ring     the node's Raft history (events/journal.py), which nothing needs
  snapshots/       copies of state.sqlite that are being sent or received
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import apsw

from parleyd.raft.types import SnapshotMeta
from parleyd.storage import lost_entries, restore_mark
from parleyd.storage.administrator_claim import REFUSED_SUFFIX
from parleyd.storage.disk_space import DiskSpace
from parleyd.storage.errors import DirectoryBusyError
from parleyd.storage.files import fsync_path, io_errors, make_folder_durably
from parleyd.storage.identity import refuse_other_formats
from parleyd.storage.snapshots import TEMPORARY_SUFFIX, SnapshotFile, finish_install, write_snapshot

_SQLITE_HEADER_BYTES = 100


class DataDirectory:
    """A locked data directory. Opening it completes what a crash interrupted: an installation, or files half made."""

    def __init__(self, path: Path, lock_descriptor: int, space: DiskSpace) -> None:
        self.path = path
        self.space = space
        self._lock_descriptor: int | None = lock_descriptor

    @classmethod
    def open(cls, path: Path, reserve_bytes: int = 0, *, restoring: bool = False) -> DataDirectory:
        """Create the folder if it is missing, lock it for this process, and remove unfinished work.

        `reserve_bytes` of its disk are kept free of copies. Raises FormatRefusedError for the directory of another
        release, StorageDamagedError if its log is known to lack entries, and IdentityError for an unfinished restore
        unless `restoring`, before anything in it is changed.
        """
        with io_errors(f"opening the data directory {path}"):
            make_folder_durably(path, 0o700)
            path.chmod(0o700)  # it contains password hashes and all messages
            descriptor = _lock_file(path / "lock")
        directory = cls(path, descriptor, DiskSpace(path, reserve_bytes))
        try:
            refuse_other_formats(directory.identity)
            lost_entries.refuse(directory.lost_entries)
            if not restoring:
                restore_mark.refuse_unfinished(directory.restore_mark, directory.identity)
            directory._tidy()
        except BaseException:
            directory.close()
            raise
        return directory

    @property
    def raft_db(self) -> Path:
        return self.path / "raft.sqlite"

    @property
    def state_db(self) -> Path:
        return self.path / "state.sqlite"

    @property
    def identity(self) -> Path:
        return self.path / "identity.json"

    @property
    def operator_token(self) -> Path:
        return self.path / "operator.token"

    @property
    def fence(self) -> Path:
        return self.path / "fenced.json"

    @property
    def lost_entries(self) -> Path:
        return self.path / "lost-entries"

    @property
    def restore_mark(self) -> Path:
        return self.path / "restore-unfinished"

    @property
    def snapshots(self) -> Path:
        return self.path / "snapshots"

    def reusable_bytes(self) -> int:
        """Return the size of the free pages in the state's file as of its last checkpoint; 0 if it cannot be read."""
        try:
            with self.state_db.open("rb") as file:
                header = file.read(_SQLITE_HEADER_BYTES)
        except OSError:
            return 0
        if len(header) < _SQLITE_HEADER_BYTES:
            return 0
        page_bytes = int.from_bytes(header[16:18], "big")
        return int.from_bytes(header[36:40], "big") * (65536 if page_bytes == 1 else page_bytes)

    def copy_state(self, name: str, describe: Callable[[apsw.Connection], SnapshotMeta]) -> SnapshotFile:
        """Copy the state to the file `name` in the folder of copies; raises CopyFailedError if there is no room."""
        wal = self.state_db.with_name(self.state_db.name + "-wal")
        size = sum(path.stat().st_size for path in (self.state_db, wal) if path.exists())
        self.space.check_room_for_copy(size)
        return write_snapshot(self.state_db, self.snapshots / name, describe)

    def discard_incomplete_bootstrap(self) -> None:
        """Remove log and state of an interrupted bootstrap: the identity is written last and is missing then."""
        with io_errors(f"clearing {self.path}"):
            for database in (self.raft_db, self.state_db):
                for suffix in ("", "-wal", "-shm", "-journal"):
                    database.with_name(database.name + suffix).unlink(missing_ok=True)
            fsync_path(self.path)

    def close(self) -> None:
        """Unlock the folder; safe to call twice."""
        if self._lock_descriptor is not None:
            os.close(self._lock_descriptor)
            self._lock_descriptor = None

    def __enter__(self) -> DataDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _tidy(self) -> None:
        finish_install(self.state_db)
        with io_errors(f"tidying {self.path}"):
            self.snapshots.mkdir(mode=0o700, exist_ok=True)
            # Snapshots are made or received again whenever one is needed. None is used by a later process.
            for leftover in self.snapshots.iterdir():
                leftover.unlink()
            # `parleyd admin create` may write beside this process: its files come and go.
            for leftover in (*self.path.glob(f"*{TEMPORARY_SUFFIX}*"), *self.path.glob(f"*{REFUSED_SUFFIX}")):
                leftover.unlink(missing_ok=True)
            for kept in self.path.iterdir():
                _make_private(kept)
            fsync_path(self.path)


def _make_private(path: Path) -> None:
    """Take a file from other users, who got it by the umask of an earlier release's process."""
    with suppress(FileNotFoundError):
        if path.is_file() and path.stat().st_mode & 0o077:
            path.chmod(0o600)


class FolderLock:
    """Keeps nodes from starting with a folder, until it is closed."""

    def __init__(self, folder: Path) -> None:
        """Raise DirectoryBusyError if a process runs on it."""
        with io_errors(f"locking {folder}"):
            self._descriptor = _lock_file(folder / "lock")

    def close(self) -> None:
        """Unlock the folder."""
        os.close(self._descriptor)


def _lock_file(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
    except OSError as error:
        owner = os.read(descriptor, 32).decode(errors="replace").strip()
        os.close(descriptor)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise DirectoryBusyError(
                f"{path.parent}: another parleyd (process {owner or 'unknown'}) runs on this data directory. Two "
                "at once would destroy it, so this one does not start; the data is untouched. Stop the "
                "other one, or give this node a data directory of its own."
            ) from error
        raise
    return descriptor
