"""The file of the replicated state: how it is created and opened, and the meaning of its faults.

The tables belong to the features and to a level. The level is also in `user_version`, so that a release that is too old
refuses the file before it reads it. Only `checkpoints` belongs to this node and not to the replicated state. Each page
has a checksum (page_checksums.py), which is compared at every read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw

from parleyd.formats import unreleased_format
from parleyd.machine.errors import MachineDamagedError, MachineReleaseError, MachineStorageError
from parleyd.machine.levels import MAX_LEVEL, MIN_LEVEL, RELEASES
from parleyd.page_checksums import (
    ChecksumsUnavailableError,
    checksum_vfs,
    is_page_damage,
    page_damage_text,
    reserve_checksums,
    verifies_pages,
)

STATE_HASH_BYTES = 16
APPLICATION_ID = 0x5041524C  # "PARL"; a file of the unreleased 0.1 does not have it

_JOURNAL_SIZE_LIMIT_BYTES = 64 << 20
WRITER_CACHE_BYTES = 64 << 20
READER_CACHE_BYTES = 8 << 20

CHECKPOINTS_TABLE = """
CREATE TABLE checkpoints(
    id INTEGER PRIMARY KEY CHECK (id = 1),
    count INTEGER NOT NULL
) STRICT;
INSERT INTO checkpoints(id, count) VALUES(1, 0);
"""


def create_state(path: Path, fill: Callable[[apsw.Connection], None], level: int) -> None:
    """Make the state of a new cluster by `fill`, which makes the tables of `level`. A crash leaves no state."""
    if path.exists():
        raise MachineStorageError(f"{path} exists already; a new state is never written over an old one")
    temporary = path.with_name(path.name + ".tmp")
    with storage_faults(f"creating {path}"):
        for suffix in ("", "-wal", "-shm", "-journal"):
            temporary.with_name(temporary.name + suffix).unlink(missing_ok=True)
        with closing(apsw.Connection(str(temporary), vfs=checksum_vfs())) as connection:
            reserve_checksums(connection)
            connection.execute("BEGIN")
            connection.execute(CHECKPOINTS_TABLE)
            fill(connection)
            connection.pragma("application_id", APPLICATION_ID)
            connection.pragma("user_version", level)
            connection.execute("COMMIT")
        fsync_path(temporary)
        os.replace(temporary, path)
        fsync_path(path.parent)


def open_writer(path: Path, vfs: str | None = None, cache_bytes: int = WRITER_CACHE_BYTES) -> apsw.Connection:
    """Open the only connection that writes and checkpoints; the checksum VFS uses `vfs`, if given."""
    with storage_faults(f"opening {path}"):
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs or checksum_vfs())
        try:
            connection.set_busy_timeout(5_000)
            check_release(connection, path)  # first, because a file of another release is not changed
            connection.pragma("journal_mode", "wal")
            connection.pragma("synchronous", "normal")
            connection.pragma("journal_size_limit", _JOURNAL_SIZE_LIMIT_BYTES)
            _configure(connection, cache_bytes)
            if not verifies_pages(connection):
                # The first page shows the VFS that there are checksums. If a crash tore it, it is in the log.
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            check_pages(connection, path)
        except BaseException:
            connection.close(True)
            raise
    return connection


def open_reader(path: Path) -> apsw.Connection:
    """Open a connection that only reads, beside the writer."""
    with storage_faults(f"opening {path}"):
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, vfs=checksum_vfs())
        try:
            connection.set_busy_timeout(5_000)
            _configure(connection, READER_CACHE_BYTES)
            check_version(connection, path)
        except BaseException:
            connection.close(True)
            raise
    return connection


@contextmanager
def storage_faults(what: str) -> Iterator[None]:
    """Convert faults of the disk that SQLite and the system report."""
    try:
        yield
    except (apsw.CorruptError, apsw.NotADBError, apsw.SQLError, UnicodeDecodeError) as error:
        raise MachineDamagedError(damage_text(what, str(error))) from error
    except apsw.CantOpenError as error:
        raise MachineDamagedError(damage_text(what, f"{error} (missing, or not readable for this user)")) from error
    except ChecksumsUnavailableError as error:
        raise MachineStorageError(f"{what}: {error}") from error
    except (apsw.Error, OSError, MemoryError) as error:
        if is_page_damage(error):
            raise MachineDamagedError(damage_text(what, page_damage_text("state.sqlite"))) from error
        raise MachineStorageError(
            f"{what}: {error}. The node stops. Everything acknowledged is in the log and will be applied again. "
            "Repair the disk (space, permissions, health) and start the node."
        ) from error


def damage_text(where: object, what: str) -> str:
    """Return the text for a damaged state file: the fault, its effect, and how to rejoin."""
    return (
        f"{where}: {what}. This node's state cannot be trusted; the other members still hold the data. Remove this "
        "member from the cluster (parley cluster remove NAME), move its data directory away, start it with --join, and "
        "admit it (parley cluster add NAME HOST:PORT): it joins as a new member and gets everything from the leader."
    )


def _configure(connection: apsw.Connection, cache_bytes: int) -> None:
    connection.pragma("cache_size", -(cache_bytes >> 10))  # a negative number is KiB
    connection.pragma("temp_store", "memory")
    connection.pragma("trusted_schema", False)


def check_version(connection: apsw.Connection, path: Path) -> None:
    """Refuse a state that this release cannot read, a file that is no state, and pages without checksums."""
    check_release(connection, path)
    check_pages(connection, path)


def check_release(connection: apsw.Connection, path: Path) -> None:
    """Refuse a state of another release that this one cannot read, and a file that is no state."""
    application_id = connection.pragma("application_id")
    has_position = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'meta'"
    if application_id == 0 and connection.execute(has_position).get is not None:
        raise unreleased_format(path)
    if application_id != APPLICATION_ID:
        raise MachineDamagedError(damage_text(path, "this file is not a state of Parley"))
    level = connection.pragma("user_version")
    if not MIN_LEVEL <= level <= MAX_LEVEL:
        raise MachineReleaseError(release_text(path, level, _release_of(connection, level)))
    stored = connection.execute("SELECT level FROM meta LIMIT 2").fetchall()
    # No row, or several, is for whoever reads the position to refuse.
    if len(stored) == 1 and stored[0][0] != level:
        text = f"its header says level {level}, and its content level {stored[0][0]}"
        raise MachineDamagedError(damage_text(path, text))


def level_in_header(connection: apsw.Connection, path: Path) -> int:
    """Return the level of a received state, and read no table: it may not be what its name says."""
    if connection.pragma("application_id") != APPLICATION_ID:
        check_release(connection, path)  # it says which file it is instead
    level = int(connection.pragma("user_version"))
    if not MIN_LEVEL <= level <= MAX_LEVEL:
        raise MachineReleaseError(release_text(path, level))
    return level


def check_pages(connection: apsw.Connection, path: Path) -> None:
    """Refuse a state whose pages would be read without a check of their checksums."""
    if not verifies_pages(connection):
        raise MachineDamagedError(damage_text(path, "its first page does not say that pages have checksums"))


def _release_of(connection: apsw.Connection, level: int) -> str:
    """Return the release that the state has for its level; every release keeps the table `raised_levels`."""
    try:
        return str(connection.execute("SELECT release FROM raised_levels WHERE level = ?", (level,)).get or "")
    except apsw.Error:
        return ""


def release_text(where: object, level: int, release: str = "") -> str:
    """Return the text for data of a level that this release does not support; `release` is the first one that does."""
    newest = RELEASES[MAX_LEVEL]
    needed = f"Parley {release} or newer" if release else f"the release of the other members, which supports {level}"
    return (
        f"{where} has level {level}, and this release supports levels {MIN_LEVEL} to {MAX_LEVEL} "
        f"(Parley {newest}). Nothing is wrong with the data, and nothing was written. Start this node with {needed}"
    )


def fsync_path(path: Path) -> None:
    """Make a file's content or a folder's entries durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
