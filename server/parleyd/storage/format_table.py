"""The format of a SQLite file and the release that wrote it: one row with a checksum, in its own table.

A file is changed to a newer format in one transaction with this row. After a crash the file is in the old format or in
the new one.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import apsw

from parleyd.formats import FIRST_FORMAT, UNRELEASED_FORMAT, Format, newer_format, own_release, unreleased_format
from parleyd.storage.errors import damaged

HAS_FORMAT_TABLE = 2  # user_version; one flipped bit does not make it that of Parley 0.1

_SCHEMA = """
CREATE TABLE format(
    id INTEGER PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL,
    release TEXT NOT NULL,
    checksum INTEGER NOT NULL
) STRICT
"""


@dataclass(frozen=True, slots=True)
class FileFormat:
    """A format, and the release that first wrote this file in it."""

    version: int
    release: str


def create_format(connection: apsw.Connection, version: int) -> None:
    """Mark a new file, within the caller's transaction."""
    connection.execute(_SCHEMA)
    connection.pragma("user_version", HAS_FORMAT_TABLE)
    _write(connection, version)


def open_format(connection: apsw.Connection, path: Path, known: Format[apsw.Connection], level: int) -> int:
    """Make the changes that are due at this cluster level; return the format that the file then has.

    Raises FormatRefusedError for another release's file, and StorageDamagedError for a file without an intact mark.
    """
    found = read_format(connection, path, known.current)
    if found.version > known.current:
        raise newer_format(path, found.release, found.version, known.current)
    due = known.due(found.version, level)
    if not due:
        return found.version
    connection.execute("BEGIN IMMEDIATE")
    for migration in due:
        migration.change(connection)
    _write(connection, due[-1].version)
    connection.execute("COMMIT")
    return due[-1].version


def read_format(connection: apsw.Connection, path: Path, newest: int = FIRST_FORMAT) -> FileFormat:
    """Read the mark and compare it with its checksum; `newest` is the newest format that this release knows."""
    marked, mark = connection.table_exists(None, "format"), connection.pragma("user_version")
    if mark == UNRELEASED_FORMAT and not marked:
        raise unreleased_format(path)
    if not marked:
        raise damaged(path, f"its format is not known (mark {mark})")
    match connection.execute("SELECT version, release, checksum FROM format").fetchall():
        case [(int(version), str(release), checksum)] if checksum == _checksum(version, release):
            found = FileFormat(version, release)
        case rows:
            raise damaged(path, f"its format does not match its checksum ({rows})")
    # A later release may need another mark. Its row says so. Called damage, it would have every node removed.
    if mark != HAS_FORMAT_TABLE and found.version <= newest:
        raise damaged(path, f"its format is not known (mark {mark})")
    return found


def _write(connection: apsw.Connection, version: int) -> None:
    release = own_release()
    connection.execute(
        "INSERT OR REPLACE INTO format(id, version, release, checksum) VALUES(1, ?, ?, ?)",
        (version, release, _checksum(version, release)),
    )


def _checksum(version: int, release: str) -> int:
    return zlib.crc32(f"{version} {release}".encode())
