"""The tables of the client's file, and how it is opened.

`outbox` holds what this device sends, `inbox` what it received. `accounts`, `conversations` and `members` (with their
marks) hold what the cluster reported about them. `reads` holds the read positions, `drafts` the drafts, `meta` single
values (device id, token, stream cursor, position). `lost` holds what the cluster lost when it was restored.
`user_version` is the number of the format (file_format.py).
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import apsw

from parley.device import mentioned
from parley.device.file_format import LOST, LOST_INDEXES, bring_up_to_date, check_owner
from parley.device.profile import FileLock
from parley.errors import StoreError

T = TypeVar("T")

SCHEMA = (
    """CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID""",
    # target_kind: 1 account name, 2 account id, 3 conversation id. The target of a number is never rewritten.
    # known_index: the highest index that was seen when the message was queued, at least 1. It says whose name the
    # target was. told: 1 if a person was told that the message was refused, or that its outcome is not known.
    """CREATE TABLE outbox (
        local_id INTEGER PRIMARY KEY AUTOINCREMENT,
        target_kind INTEGER NOT NULL, target TEXT NOT NULL, body TEXT NOT NULL, created_at_ms INTEGER NOT NULL,
        status INTEGER NOT NULL, number INTEGER NOT NULL DEFAULT 0,
        message_id INTEGER NOT NULL DEFAULT 0, conversation_id INTEGER NOT NULL DEFAULT 0,
        sent_at_ms INTEGER NOT NULL DEFAULT 0, detail TEXT NOT NULL DEFAULT '', revision INTEGER NOT NULL,
        known_index INTEGER NOT NULL DEFAULT 1, told INTEGER NOT NULL DEFAULT 0,
        urgent INTEGER NOT NULL DEFAULT 0)""",
    # One each: SQLite does not see that status = 1 is covered by an index WHERE status IN (1, 2).
    "CREATE INDEX outbox_waiting ON outbox (local_id) WHERE status = 1",
    "CREATE INDEX outbox_sending ON outbox (local_id) WHERE status = 2",
    "CREATE UNIQUE INDEX outbox_number ON outbox (number) WHERE number > 0",
    "CREATE INDEX outbox_accepted ON outbox (conversation_id, message_id) WHERE message_id > 0",
    "CREATE INDEX outbox_revision ON outbox (revision)",
    # place: the order of arrival, which a reader follows. Ids are comparable within one conversation only.
    # mentions_me: 1 if a text of somebody else names the own account (mentioned.py).
    f"""CREATE TABLE inbox (
        place INTEGER PRIMARY KEY AUTOINCREMENT,
        conversation_id INTEGER NOT NULL, id INTEGER NOT NULL, kind INTEGER NOT NULL, sender_id INTEGER NOT NULL,
        body TEXT NOT NULL, sent_at_ms INTEGER NOT NULL, mine INTEGER NOT NULL, subjects TEXT NOT NULL,
        urgent INTEGER NOT NULL DEFAULT 0, {mentioned.COLUMN}, UNIQUE (conversation_id, id))""",
    mentioned.INDEX,
    """CREATE TABLE accounts (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL COLLATE NOCASE, display_name TEXT NOT NULL,
        deleted INTEGER NOT NULL, revision INTEGER NOT NULL)""",
    "CREATE INDEX accounts_name ON accounts (name)",
    "CREATE INDEX accounts_revision ON accounts (revision)",
    # peer_id: of a direct conversation the other account, or the own one in a conversation with oneself; otherwise 0.
    # counts: of a large channel, the latest ReceiptCounts as a JSON array, in the order of its fields.
    """CREATE TABLE conversations (
        id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, title TEXT NOT NULL, member_count INTEGER NOT NULL,
        peer_id INTEGER NOT NULL, revision INTEGER NOT NULL, topic TEXT NOT NULL DEFAULT '',
        public INTEGER NOT NULL DEFAULT 0, archived INTEGER NOT NULL DEFAULT 0,
        open_history INTEGER NOT NULL DEFAULT 0, counts TEXT NOT NULL DEFAULT '',
        muted INTEGER NOT NULL DEFAULT 0, put_away_up_to INTEGER NOT NULL DEFAULT 0,
        removed_up_to INTEGER NOT NULL DEFAULT 0)""",
    "CREATE INDEX conversations_peer ON conversations (peer_id) WHERE peer_id > 0",
    "CREATE INDEX conversations_revision ON conversations (revision)",
    """CREATE TABLE members (
        conversation_id INTEGER NOT NULL, account_id INTEGER NOT NULL, role INTEGER NOT NULL,
        delivered_up_to INTEGER NOT NULL, read_up_to INTEGER NOT NULL, revision INTEGER NOT NULL,
        first_message_id INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (conversation_id, account_id)) WITHOUT ROWID""",
    "CREATE INDEX members_revision ON members (revision)",
    """CREATE TABLE reads (
        conversation_id INTEGER PRIMARY KEY, up_to INTEGER NOT NULL, sent_up_to INTEGER NOT NULL)""",
    # What the cluster lost when it was restored, by names, because ids mean others then. generation: the life that had
    # it. conversation_id, after_id: where it stands in the present life. target_kind 0: it cannot be sent again.
    # origin: LostOrigin of model.py.
    LOST,
    *LOST_INDEXES,
    """CREATE TABLE drafts (
        target_kind INTEGER NOT NULL, target TEXT NOT NULL COLLATE NOCASE, body TEXT NOT NULL,
        PRIMARY KEY (target_kind, target)) WITHOUT ROWID""",
)
BUSY_S = 10.0
"""How long an operation waits for another process that uses the file."""
RECEIVED_TABLES = ("inbox", "accounts", "conversations", "members", "reads")


def open_database(path: Path) -> apsw.Connection:
    """Open the file with the pragmas that durability needs, and make the tables on first use.

    Raises StoreError for a file of another format or program. Blocks while another thread or process opens the file.
    """
    with _turn_to_open(path):
        return _open(path)


@contextmanager
def _turn_to_open(path: Path) -> Iterator[None]:
    """Let one at a time open a file.

    Of two that make one file, SQLite refuses one at once, whatever its busy timeout is, because both want the WAL. Or
    one takes the file that the other has just made for one that lost its content.
    """
    with FileLock(path.with_name("open.lock")) as lock:
        if not lock.acquire_within(BUSY_S):
            raise StoreError(
                f"Another process has been opening the file {path} for {BUSY_S:.0f} s. Nothing was changed. End "
                "that process, or try again."
            )
        yield


def _open(path: Path) -> apsw.Connection:
    existed = path.exists()
    connection = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(int(BUSY_S * 1000))
        check_owner(connection, path)
        path.chmod(0o600)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("BEGIN IMMEDIATE")
        bring_up_to_date(connection, path, SCHEMA, existed=existed)
        connection.execute("COMMIT")
    except BaseException:
        connection.close(True)  # takes back what was not committed
        raise
    return connection


def fetch(connection: apsw.Connection, columns: str, rest: str, bindings: tuple[Any, ...] = ()) -> list[list[Any]]:
    """Return the rows of `SELECT columns rest` in the order of `rest`, fetched in a single step.

    Each step of SQLite releases the interpreter's lock and takes it back. A busy event loop delays that. A page of rows
    fetched one by one would wait that long for every row.
    """
    sql = f"SELECT json_group_array(json(r)) FROM (SELECT json_array({columns}) AS r {rest})"  # noqa: S608 - our own text
    rows: list[list[Any]] = json.loads(cast(str, connection.execute(sql, bindings).fetchall()[0][0]))
    return rows


def next_revision(connection: apsw.Connection) -> int:
    """Return a number above all revisions so far. The transaction excludes other writers."""
    highest = connection.execute(
        """SELECT max(coalesce((SELECT max(revision) FROM outbox), 0),
                      coalesce((SELECT max(revision) FROM accounts), 0),
                      coalesce((SELECT max(revision) FROM conversations), 0),
                      coalesce((SELECT max(revision) FROM members), 0))"""
    ).fetchall()[0][0]
    return int(cast(int, highest)) + 1


def forget_received(connection: apsw.Connection) -> None:
    """Remove everything that the cluster reported to this device. The stream then begins without a cursor."""
    for table in RECEIVED_TABLES:
        connection.execute(f"DELETE FROM {table}")  # noqa: S608 - names from the line above
    for key in ("cursor", "shown_place", "pruned_place"):
        set_meta(connection, key, None)


def check_row(row: Sequence[Any], kinds: Sequence[type]) -> Sequence[Any]:
    """Return the row. Raises ValueError if a value has another type: SQLite stores any type in any column."""
    for value, kind in zip(row, kinds, strict=True):
        _check_value(value, kind)
    return row


def _check_value(value: Any, kind: type) -> None:
    if type(value) is not kind:
        raise ValueError(f"a value is {type(value).__name__}, not {kind.__name__}")


def get_meta(connection: apsw.Connection, key: str, default: T) -> T:
    """Return one value of the meta table, or the default. Raises ValueError if it has another type than that."""
    rows = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchall()
    if not rows:
        return default
    _check_value(rows[0][0], type(default))
    return cast(T, rows[0][0])


def set_meta(connection: apsw.Connection, key: str, value: Any) -> None:
    """Store one value. None removes it."""
    if value is None:
        connection.execute("DELETE FROM meta WHERE key = ?", (key,))
    else:
        connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))
