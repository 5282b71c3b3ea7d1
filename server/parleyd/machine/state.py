"""The state that one transaction works on: its position and counters, and each feature's rows.

Invariants: before SQL changes a cached table, the caller calls `flush` and removes the rows concerned from the cache.
After a rollback, the caller calls `forget_all`. Ids are never used twice, so no id leads to a cached row that SQL
removed.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Protocol, cast

import apsw

from parleyd.machine.effects import Effect
from parleyd.machine.errors import MachineDamagedError
from parleyd.machine.features.accounts import Accounts
from parleyd.machine.features.channels import Channels
from parleyd.machine.features.conversations import Conversations
from parleyd.machine.features.devices import Devices
from parleyd.machine.features.messages import Messages
from parleyd.machine.features.receipts import Receipts
from parleyd.machine.features.sessions import Sessions
from parleyd.machine.features.settings import Settings
from parleyd.machine.features.stored_bytes import StoredBytes
from parleyd.machine.files import damage_text
from parleyd.machine.registry import tables_of_level
from parleyd.machine.rows import trim


class FeatureRows(Protocol):
    """The rows that a feature caches. `caches` are the same objects for ever; the oldest keys may go at any time."""

    @property
    def caches(self) -> tuple[dict[Any, Any], ...]: ...

    def forget_all(self) -> None:
        """Read everything from the file again."""


class WrittenRows(FeatureRows, Protocol):
    """Rows that are changed in memory and written at the end of the transaction. SQL alone changes the others."""

    def flush(self) -> None:
        """Write what was changed."""


class _AllRows:
    """The rows of all features: in order those that are written, and those that SQL alone changes."""

    def __init__(self, *, written: tuple[WrittenRows, ...], by_sql: tuple[FeatureRows, ...]) -> None:
        self._written = written
        self._all: tuple[FeatureRows, ...] = (*written, *by_sql)
        self.caches = tuple(cache for rows in self._all for cache in rows.caches)

    def flush(self) -> None:
        for rows in self._written:
            rows.flush()

    def forget_all(self) -> None:
        for rows in self._all:
            rows.forget_all()


@dataclass(slots=True)
class Meta:
    """The one row of position and counters; columns in the table's order."""

    applied_index: int
    applied_term: int
    membership: bytes
    state_hash: bytes
    level: int
    generation: int
    now_ms: int
    last_account_id: int
    last_session_id: int
    last_device_id: int
    last_conversation_id: int
    last_message_id: int
    message_count: int


META_TABLE = """
CREATE TABLE meta(
    id INTEGER PRIMARY KEY CHECK (id = 1),
    applied_index INTEGER NOT NULL,
    applied_term INTEGER NOT NULL,
    membership BLOB NOT NULL,
    state_hash BLOB NOT NULL,
    level INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    now_ms INTEGER NOT NULL,
    last_account_id INTEGER NOT NULL,
    last_session_id INTEGER NOT NULL,
    last_device_id INTEGER NOT NULL,
    last_conversation_id INTEGER NOT NULL,
    last_message_id INTEGER NOT NULL,
    message_count INTEGER NOT NULL
) STRICT;
"""
_COLUMNS = tuple(field.name for field in fields(Meta))
_VALUES = attrgetter(*_COLUMNS)
_TYPES = [bytes if field.type == "bytes" else int for field in fields(Meta)]
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM meta"  # noqa: S608 - column names only
_UPDATE = f"UPDATE meta SET {', '.join(f'{name} = ?' for name in _COLUMNS)}"  # noqa: S608 - same


class State:
    """The view of one open transaction: rows by feature, and the effects of what was applied."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self.meta = self._load_meta()
        self.level = self.meta.level
        self.stamp_ms = 0  # of the entry that is applied; the replicated time may be higher
        self.effects: list[Effect] = []
        self.accounts = Accounts(self)
        self.sessions = Sessions(self)
        self.devices = Devices(self)
        self.conversations = Conversations(self)
        self.channels = Channels(self)
        self.messages = Messages(self)
        self.receipts = Receipts(self)
        self.settings = Settings(self)
        self.stored_bytes = StoredBytes(self)
        self._rows = _AllRows(
            written=(self.messages, self.devices, self.conversations, self.receipts, self.stored_bytes),
            by_sql=(self.channels, self.accounts, self.sessions, self.settings),
        )

    def ids(self, query: str, bindings: tuple[int, ...]) -> list[int]:
        """Return the ids that a query selects in its first column."""
        return [cast("int", row[0]) for row in self.connection.execute(query, bindings).fetchall()]

    def flush(self) -> None:
        """Write the changed rows, so that SQL sees them."""
        self._rows.flush()

    def write_meta(self) -> None:
        """Write position and counters."""
        self.connection.execute(_UPDATE, _VALUES(self.meta))

    def begin_level(self, level: int) -> None:
        """Change the tables to those of the next level, within the transaction of the entry that raises it."""
        self.flush()
        self.connection.execute(tables_of_level(level))
        self.connection.pragma("user_version", level)
        self.meta.level = level
        self._rows.forget_all()

    def trim(self) -> None:
        """Bound the caches; called between transactions, when nothing waits to be written."""
        trim(self._rows.caches)

    def forget_all(self) -> None:
        """Read everything from the file again, after a rollback; the caller removes the effects."""
        self.meta = self._load_meta()
        self._rows.forget_all()

    def _load_meta(self) -> Meta:
        rows: list[tuple[Any, ...]] = self.connection.execute(_SELECT).fetchall()
        # SQLite does not check types when it reads: a misplaced page of another table gives any rows.
        if len(rows) != 1 or [type(value) for value in rows[0]] != _TYPES:
            raise MachineDamagedError(damage_text("state", "it does not contain which entries it covers"))
        return Meta(*rows[0])
