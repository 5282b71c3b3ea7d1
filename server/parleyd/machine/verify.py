"""Compares a state file with exactly the schema that its level has, before it may replace this node's state.

A snapshot comes from a peer. A trigger, a view or a table that is not Parley's would be carried out by every later
apply. So the file's schema must equal, text by text, what the tables of its level make.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import apsw

from parleyd.machine.errors import MachineDamagedError
from parleyd.machine.files import (
    CHECKPOINTS_TABLE,
    check_version,
    damage_text,
    level_in_header,
    storage_faults,
)
from parleyd.machine.reader import position
from parleyd.machine.registry import tables_of_level
from parleyd.machine.state import META_TABLE
from parleyd.page_checksums import checksum_vfs

_SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_schema"

Schema = frozenset[tuple[Any, ...]]


def schema_of_level(level: int) -> Schema:
    """Return the schema of a state of `level`: what creating it and raising it level by level makes."""
    with closing(apsw.Connection(":memory:", vfs=checksum_vfs())) as connection:
        connection.execute(CHECKPOINTS_TABLE)
        connection.execute(META_TABLE)
        for one in range(1, level + 1):
            connection.execute(tables_of_level(one))
        return _schema_of(connection)


def verify_state_file(path: Path) -> tuple[int, int, bytes]:
    """Return the position of a received file, if it is a sound state of this release with exactly its level's schema.

    It reads the whole file. Raises MachineDamagedError, MachineReleaseError or FormatRefusedError.
    """
    with storage_faults(f"verifying {path}"):
        uri = f"file:{quote(str(path))}?mode=ro&immutable=1"
        flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        with closing(apsw.Connection(uri, flags=flags, vfs=checksum_vfs())) as connection:
            connection.pragma("trusted_schema", False)
            _check_schema(connection, path)
            check_version(connection, path)
            verdict = connection.execute("PRAGMA quick_check(1)").get
            if verdict != "ok":
                raise MachineDamagedError(damage_text(path, f"SQLite's check reports: {verdict}"))
            return position(connection)


def _check_schema(connection: apsw.Connection, path: Path) -> None:
    """Refuse a schema that is not exactly that of its level, before anything is read that it may have replaced."""
    level = level_in_header(connection, path)
    foreign = _schema_of(connection) ^ schema_of_level(level)
    if foreign:
        names = ", ".join(sorted({name for _, name, _, _ in foreign})[:8])
        raise MachineDamagedError(f"{path}: its schema is not exactly that of level {level}: {names}")


def _schema_of(connection: apsw.Connection) -> Schema:
    return frozenset(connection.execute(_SCHEMA).fetchall())
