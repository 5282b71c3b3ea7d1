"""The tables of the client's file, and how it is opened.

`outbox` holds what this device sends, `inbox` what it received, `marks` how far others have come, `reads` how far
the person here has read, `drafts` what is half
typed, `meta` single values (device id, token, cursors). The format is numbered by user_version (file_format.py).
"""

import json
from pathlib import Path
from typing import Any, cast

import apsw

from parley.device.file_format import bring_up_to_date

SCHEMA = (
    """CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE outbox (
        local_id INTEGER PRIMARY KEY AUTOINCREMENT,
        recipient TEXT NOT NULL, body TEXT NOT NULL, created_at_ms INTEGER NOT NULL,
        status INTEGER NOT NULL, number INTEGER NOT NULL DEFAULT 0,
        message_id INTEGER NOT NULL DEFAULT 0, conversation_id INTEGER NOT NULL DEFAULT 0,
        sent_at_ms INTEGER NOT NULL DEFAULT 0, detail TEXT NOT NULL DEFAULT '', revision INTEGER NOT NULL)""",
    # One each: SQLite does not see that status = 1 is covered by an index WHERE status IN (1, 2).
    "CREATE INDEX outbox_waiting ON outbox (local_id) WHERE status = 1",
    "CREATE INDEX outbox_sending ON outbox (local_id) WHERE status = 2",
    "CREATE UNIQUE INDEX outbox_number ON outbox (number) WHERE number > 0",
    "CREATE INDEX outbox_revision ON outbox (revision)",
    """CREATE TABLE inbox (
        id INTEGER PRIMARY KEY, conversation_id INTEGER NOT NULL, sender TEXT NOT NULL, peer TEXT NOT NULL,
        body TEXT NOT NULL, sent_at_ms INTEGER NOT NULL, mine INTEGER NOT NULL)""",
    """CREATE TABLE marks (
        conversation_id INTEGER NOT NULL, account_id INTEGER NOT NULL,
        delivered_up_to INTEGER NOT NULL, read_up_to INTEGER NOT NULL, revision INTEGER NOT NULL,
        PRIMARY KEY (conversation_id, account_id)) WITHOUT ROWID""",
    """CREATE TABLE reads (
        conversation_id INTEGER PRIMARY KEY, up_to INTEGER NOT NULL, sent_up_to INTEGER NOT NULL)""",
    "CREATE TABLE drafts (peer TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID",
)


def open_database(path: Path) -> apsw.Connection:
    """Opens the file with the pragmas the promises rest on and makes the tables on first use."""
    connection = apsw.Connection(str(path))
    path.chmod(0o600)
    connection.set_busy_timeout(10_000)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        bring_up_to_date(connection, path, SCHEMA)
        connection.execute("COMMIT")
    except BaseException:
        connection.close(True)  # takes back what was not committed
        raise
    return connection


def fetch(connection: apsw.Connection, columns: str, rest: str, bindings: tuple[Any, ...] = ()) -> list[list[Any]]:
    """Rows of `SELECT columns rest`, in the order `rest` asks for, fetched in a single step.

    SQLite's steps each give up and take back the interpreter's lock, which a busy event loop hands over slowly: a page
    of rows taken one by one would wait that long for every row.
    """
    sql = f"SELECT json_group_array(json(r)) FROM (SELECT json_array({columns}) AS r {rest})"  # noqa: S608 - our own text
    rows: list[list[Any]] = json.loads(cast(str, connection.execute(sql, bindings).fetchall()[0][0]))
    return rows


def get_meta(connection: apsw.Connection, key: str) -> Any:
    """One value of the meta table, or None."""
    rows = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchall()
    return rows[0][0] if rows else None


def set_meta(connection: apsw.Connection, key: str, value: Any) -> None:
    """Stores one value; None removes it."""
    if value is None:
        connection.execute("DELETE FROM meta WHERE key = ?", (key,))
    else:
        connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))
