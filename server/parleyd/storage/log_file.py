"""The SQLite file of the Raft log: its tables, its settings, its format, and the meaning of its errors.

Every commit is synced (synchronous=FULL), and no error of SQLite leaves this module untranslated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from parleyd.formats import Format
from parleyd.storage.errors import StorageError, damaged
from parleyd.storage.files import io_errors
from parleyd.storage.format_table import create_format, open_format

PAGE_BYTES = 4096
_AUTOCHECKPOINT_PAGES = 1000
_JOURNAL_SIZE_LIMIT_BYTES = 32 << 20
_CACHE_KIB = 8 << 10
_FORMAT: Format[apsw.Connection] = Format()

_SCHEMA = """
CREATE TABLE entries(
    idx INTEGER PRIMARY KEY,
    term INTEGER NOT NULL,
    type INTEGER NOT NULL,
    data BLOB NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;
CREATE TABLE state(
    id INTEGER PRIMARY KEY CHECK (id = 1),
    current_term INTEGER NOT NULL,
    voted_for INTEGER NOT NULL,
    commit_index INTEGER NOT NULL,
    snapshot_index INTEGER NOT NULL,
    snapshot_term INTEGER NOT NULL,
    conf_state BLOB NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;
"""


def configure(connection: apsw.Connection) -> None:
    connection.set_busy_timeout(0)
    connection.pragma("page_size", PAGE_BYTES)
    connection.pragma("locking_mode", "exclusive")  # no shared-memory file, and no second process
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    connection.set_wal_hook(_checkpoint_when_long)
    connection.pragma("journal_size_limit", _JOURNAL_SIZE_LIMIT_BYTES)
    connection.pragma("cache_size", -_CACHE_KIB)
    connection.pragma("temp_store", "memory")
    connection.pragma("trusted_schema", False)


def open_log_format(connection: apsw.Connection, path: Path, level: int) -> None:
    if connection.pragma("user_version") == 0 and not connection.table_exists(None, "state"):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_SCHEMA)
        create_format(connection, _FORMAT.current)
        connection.execute("COMMIT")
    else:
        open_format(connection, path, _FORMAT, level)


def _checkpoint_when_long(connection: apsw.Connection, _name: str, pages: int) -> int:
    """Checkpoint a long WAL, as SQLite does by itself, but report a failure to the commit that met it."""
    if pages >= _AUTOCHECKPOINT_PAGES:
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    return apsw.SQLITE_OK


@contextmanager
def translated_errors(path: Path, what: str) -> Iterator[None]:
    """Map SQLite's errors to ours."""
    try:
        with io_errors(f"{path}: {what}"):
            yield
    except (apsw.CorruptError, apsw.NotADBError, apsw.SQLError, ValueError) as error:
        raise damaged(path, f"{what}: {error}") from error
    except (apsw.Error, MemoryError) as error:
        raise StorageError(
            f"{path}: {what} failed: {error}. The node stops, because a failed write must not be repeated. All "
            "acknowledged data is safe. Repair the disk (space, permissions, health) and start the node."
        ) from error
