"""Reads all of a backup: header, digests, every page of the state with its checksum, and SQLite's own check."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import apsw

from parley_proto.v1.admin_pb2 import BackupHeader
from parleyd.backup.backup_file import BackupFile, damaged
from parleyd.backup.errors import BackupError
from parleyd.machine.errors import MachineDamagedError, MachineStorageError
from parleyd.machine.verify import verify_state_file
from parleyd.page_checksums import checksum_vfs
from parleyd.storage.files import create_private
from parleyd.storage.snapshots import TEMPORARY_SUFFIX

Progress = Callable[[int, int], None]  # bytes done, bytes in all


def no_progress(_done: int, _all: int) -> None:
    """Tell nobody."""


def verify(path: Path, scratch: Path, progress: Progress = no_progress) -> BackupHeader:
    """Read all of a backup and return its header. The state is written into `scratch` for that, and removed.

    Raises BackupError. Raises OSError if a file cannot be read or written.
    """
    with BackupFile.open(path) as backup, _temporary(scratch) as state:
        extract(backup, state, progress)
        check_state(backup, state)
        return backup.header


def check_digests(path: Path, progress: Progress = no_progress) -> BackupHeader:
    """Read all of a backup without writing anything: header and digests. Raises BackupError and OSError."""
    with BackupFile.open(path) as backup:
        done = 0
        for data in backup.content():
            done += len(data)
            progress(done, backup.header.content_bytes)
        return backup.header


def extract(backup: BackupFile, target: Path, progress: Progress = no_progress) -> None:
    """Write the state of a backup to a new file, durably. Raises BackupDamagedError, and OSError."""
    size = backup.header.content_bytes
    free = shutil.disk_usage(target.parent).free
    if size > free:
        raise BackupError(
            f"the state in {backup.path} has {size} bytes, and {target.parent} has {free} bytes free. Nothing was "
            "changed. Make room there, or name a folder on another disk"
        )
    done = 0
    with create_private(target) as file:
        for data in backup.content():
            file.write(data)
            done += len(data)
            progress(done, size)
        file.flush()
        os.fsync(file.fileno())


def check_state(backup: BackupFile, state: Path) -> None:
    """Raise BackupDamagedError if the extracted state is not sound, or not what the header says."""
    header = backup.header
    try:
        index, term, _ = verify_state_file(state)
        with closing(_reader(state)) as connection:
            verdict = connection.execute("PRAGMA integrity_check(1)").get
            row = connection.execute("SELECT generation, level, state_hash FROM meta").fetchone()
    except MachineStorageError:
        raise
    except (MachineDamagedError, apsw.Error) as error:
        raise damaged(backup.path, f"its state is damaged ({_first_sentence(error)})") from error
    if verdict != "ok":
        raise damaged(backup.path, f"SQLite's check of its state reports: {verdict}")
    if (index, term, *(row or ())) != (header.index, header.term, header.generation, header.level, header.state_hash):
        raise damaged(backup.path, "its state is not the one that its header describes")


def _reader(state: Path) -> apsw.Connection:
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    return apsw.Connection(f"file:{quote(str(state))}?mode=ro&immutable=1", flags=flags, vfs=checksum_vfs())


def _first_sentence(error: Exception) -> str:
    """Return what is wrong, without the advice for a node's own state."""
    return str(error).partition(". ")[0]


@contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    path = folder / f".parley-verify-{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
