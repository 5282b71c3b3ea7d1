"""Looks at a data directory and changes nothing in it, beside a running node or without one.

No database is opened as SQLite opens one: that would make files, and recover or checkpoint a log. The files are opened
as immutable, which takes no lock, makes no file and leaves the write-ahead log out. So what is read may be some seconds
old, and a page that the node writes at this moment may look damaged: then the file is read again. The lock is looked up
in the system's list. Taking it, even for a moment, would keep a node from starting.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from time import sleep
from urllib.parse import quote

import apsw

from parleyd.doctor.facts import DirectoryLook, PagesLook
from parleyd.formats import FormatRefusedError
from parleyd.machine.errors import MachineError
from parleyd.machine.files import check_release
from parleyd.page_checksums import CHECKSUM_BYTES, ChecksumsUnavailableError, checksum_vfs
from parleyd.storage import fence, identity, lost_entries, place
from parleyd.storage.errors import StorageError
from parleyd.storage.format_table import read_format
from parleyd.storage.log_file import PAGE_BYTES
from parleyd.storage.wal_check import find_wal_damage

MAX_PAGES = 4_096
MAX_PAGES_S = 2.0
ATTEMPTS = 4
RETRY_S = 0.05
_HEADER_BYTES = 100
_LOCKS = Path("/proc/locks")


def look_at_directory(path: Path, *, locks: Path = _LOCKS) -> DirectoryLook:
    """Return what a data directory says of itself."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return DirectoryLook(str(path), exists=False)
    except OSError as error:
        return DirectoryLook(str(path), error=f"{path} cannot be read: {error.strerror}.")
    if not stat.S_ISDIR(status.st_mode):
        return DirectoryLook(str(path), error=f"{path} is not a folder.")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return DirectoryLook(str(path), error=f"This user may not read and write {path}.")
    holder = holder_of(path / "lock", locks)
    name, identity_error = _read_identity(path / "identity.json")
    found_fence = fence.load(path / "fenced.json")
    return DirectoryLook(
        str(path),
        is_private=not status.st_mode & 0o077,
        is_own=os.geteuid() in (0, status.st_uid),
        holder_pid=holder,
        identity_name=name,
        identity_error=identity_error,
        place_error=_error_of(lambda: place.refuse_copy(path)),
        log_error=_log_error(path / "raft.sqlite", is_running=holder != 0),
        state_error=_state_error(path / "state.sqlite"),
        fence="" if found_fence is None else found_fence.reason,
        lost_entries=_error_of(lambda: lost_entries.refuse(path / "lost-entries")),
    )


def holder_of(lock: Path, locks: Path = _LOCKS) -> int:
    """Return the process that has locked a file, by the system's list of locks; 0 if none has.

    Some file systems have another device number in the list than in the file's status. Then the process has to be the
    one that wrote its number into the file.
    """
    try:
        status, listed, writer = lock.stat(), locks.read_text(), lock.read_text(errors="replace").strip()
    except OSError:
        return 0
    device, inode = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}", str(status.st_ino)
    for line in listed.splitlines():
        match line.split():
            case [_, "FLOCK", _, "WRITE", pid, file, *_]:
                found_device, _, found_inode = file.rpartition(":")
                if found_inode == inode and (found_device == device or pid == writer):
                    return int(pid)
    return 0


def _read_identity(path: Path) -> tuple[str, str]:
    """Return the name and the error."""
    try:
        known = identity.load(path)
    except (StorageError, FormatRefusedError) as error:
        return "", str(error)
    return ("", "") if known is None else (known.name, "")


def _log_error(path: Path, *, is_running: bool) -> str:
    """Return what is wrong with the log. A running node writes its write-ahead log, so only a stopped one's is read."""
    damage = None if is_running else find_wal_damage(path.with_name(path.name + "-wal"), PAGE_BYTES)
    if damage is not None:
        return f"{path}: {damage}."
    return _look_into(path, None, lambda connection: read_format(connection, path))


def _state_error(path: Path) -> str:
    try:
        vfs = checksum_vfs()
    except ChecksumsUnavailableError as error:
        return str(error)
    return _look_into(path, vfs, lambda connection: check_release(connection, path))


def _look_into(path: Path, vfs: str | None, check: Callable[[apsw.Connection], object]) -> str:
    """Return the error of a check of a database, which is repeated: a node may be writing."""
    if not path.exists() or path.stat().st_size < _HEADER_BYTES:
        return ""  # everything that was written is in the write-ahead log yet
    error = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            sleep(RETRY_S)
        error = _error_of(lambda: _open_and(path, vfs, check))
        if not error:
            break
    return error


def _open_and(path: Path, vfs: str | None, check: Callable[[apsw.Connection], object]) -> None:
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    with closing(apsw.Connection(f"file:{quote(str(path))}?immutable=1", flags=flags, vfs=vfs)) as connection:
        check(connection)


def _error_of(check: Callable[[], object]) -> str:
    try:
        check()
    except (StorageError, FormatRefusedError, MachineError) as error:
        return str(error)
    except (apsw.Error, OSError) as error:
        return f"it cannot be read: {error}."
    return ""


def look_at_pages(path: Path, clock: Callable[[], float] = time.monotonic) -> PagesLook | None:
    """Compare pages of a state's file with their checksums: at most MAX_PAGES, spread evenly, for MAX_PAGES_S.

    Return None if there is no file.
    """
    try:
        # The file system brings the function that computes a checksum.
        with path.open("rb") as file, closing(apsw.Connection(":memory:", vfs=checksum_vfs())) as checker:
            header = file.read(_HEADER_BYTES)
            page_bytes = int.from_bytes(header[16:18], "big")
            page_bytes = 65_536 if page_bytes == 1 else page_bytes
            total = path.stat().st_size // page_bytes if page_bytes else 0
            if header[20:21] != bytes([CHECKSUM_BYTES]) or not total:
                return PagesLook(error="state.sqlite has no pages with checksums.") if header else None
            ends_at = clock() + MAX_PAGES_S
            checked, damaged = 0, []
            for number in range(0, total, -(-total // MAX_PAGES)):
                if clock() > ends_at:
                    break
                checked += 1
                if not _matches(file.fileno(), number, page_bytes, checker):
                    damaged.append(number + 1)
            return PagesLook(checked, total, tuple(damaged))
    except FileNotFoundError:
        return None
    except (OSError, apsw.Error, ChecksumsUnavailableError) as error:
        return PagesLook(error=f"state.sqlite cannot be compared with its checksums: {error}.")


def _matches(descriptor: int, number: int, page_bytes: int, checker: apsw.Connection) -> bool:
    """Return whether a page matches its checksum, now or at another attempt: a node may be writing it."""
    for attempt in range(ATTEMPTS):
        if attempt:
            sleep(RETRY_S)
        page = os.pread(descriptor, page_bytes, number * page_bytes)
        if len(page) < page_bytes or checker.execute("SELECT verify_checksum(?)", (page,)).get == 1:
            return True
    return False
