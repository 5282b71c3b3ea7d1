"""The audit log: who changed what about accounts, rights, members and settings. Level 3.

Each row has the hash of the row before it in its own hash, so no row can be changed, removed or moved unnoticed by
whoever has a later hash. `record` makes all rows. A feature calls it where something has changed, so a command that is
repeated, or refused, leaves no row. The rows have no passwords, codes, tokens or messages.

The log is bounded by `max_audit_rows` and `max_audit_bytes`. The oldest rows go first. The hash of the last one that
went is kept, so the rest can still be checked from its first row on.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, cast

from parleyd.machine.audit_actions import AuditAction
from parleyd.machine.feature import Feature
from parleyd.machine.limits import MAX_ID

if TYPE_CHECKING:
    from parleyd.machine.reader import Row, StateReader
    from parleyd.machine.state import State

AUDIT_LEVEL: Final = 3
ROW_BYTES: Final = 160
"""What a row counts besides its texts."""
ROWS_REMOVED_PER_ROW: Final = 64
"""So a bound that was lowered is reached step by step, and no entry of the log takes long."""
FIRST_HASH: Final = bytes(32)
"""Stands before the first row."""

# Actors that are no accounts. No account name has brackets.
CLUSTER: Final = "(cluster)"
NODE: Final = "(node)"  # whoever has the data directory of a node
OPERATOR: Final = "(operator)"  # of `parleyd restore` and `parleyd recover`

TABLES = """
CREATE TABLE audit(
    number INTEGER PRIMARY KEY,
    log_index INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    object TEXT NOT NULL,
    detail TEXT NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE TABLE audit_ends(
    id INTEGER PRIMARY KEY CHECK (id = 1),
    last_number INTEGER NOT NULL,
    last_hash BLOB NOT NULL,
    removed_number INTEGER NOT NULL,
    removed_hash BLOB NOT NULL,
    bytes INTEGER NOT NULL
) STRICT;
INSERT INTO audit_ends(id, last_number, last_hash, removed_number, removed_hash, bytes)
    VALUES(1, 0, zeroblob(32), 0, zeroblob(32), 0);
"""
_COLUMNS: Final = "number, log_index, at_ms, actor, action, object, detail, hash"
_ENDS: Final = "SELECT last_number, last_hash, removed_number, removed_hash, bytes FROM audit_ends"


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One row. `index` is the entry of the log that made it, `at_ms` the time of the cluster then."""

    number: int
    index: int
    at_ms: int
    actor: str
    action: str
    object: str
    detail: str
    hash: bytes


def row_hash(previous: bytes, number: int, index: int, at_ms: int, texts: tuple[str, ...]) -> bytes:
    """Return the hash of a row: docs/PROTOCOL.md describes its form. `texts` are actor, action, object and detail."""
    digest = sha256(previous)
    digest.update(struct.pack(">QQq", number, index, at_ms))
    for text in texts:
        encoded = text.encode()
        digest.update(struct.pack(">I", len(encoded)) + encoded)
    return digest.digest()


def record(
    state: State,
    actor: str,
    action: AuditAction,
    about: str = "",
    detail: str = "",
    *,
    index: int | None = None,
    at_ms: int | None = None,
) -> None:
    """Add a row. Without `index` and `at_ms` it is of the command that is applied now."""
    if state.meta.level < AUDIT_LEVEL:
        return
    index = state.meta.applied_index + 1 if index is None else index
    at_ms = state.meta.now_ms if at_ms is None else at_ms
    last, previous, removed, removed_hash, size = cast(
        "tuple[int, bytes, int, bytes, int]", state.connection.execute(_ENDS).fetchone()
    )
    texts = (actor, action.value, about, detail)
    number = last + 1
    hashed = row_hash(previous, number, index, at_ms, texts)
    state.connection.execute(
        f"INSERT INTO audit({_COLUMNS}) VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
        (number, index, at_ms, *texts, hashed),
    )
    size += _size(texts)
    max_rows, max_bytes = state.settings.value("max_audit_rows"), state.settings.value("max_audit_bytes")
    for _ in range(ROWS_REMOVED_PER_ROW):
        if number - removed <= max_rows and size <= max_bytes:
            break
        removed += 1
        query = "SELECT actor, action, object, detail, hash FROM audit WHERE number = ?"
        oldest = cast("tuple[Any, ...]", state.connection.execute(query, (removed,)).fetchone())
        state.connection.execute("DELETE FROM audit WHERE number = ?", (removed,))
        size -= _size(oldest[:4])
        removed_hash = oldest[4]
    state.connection.execute(
        "UPDATE audit_ends SET last_number = ?, last_hash = ?, removed_number = ?, removed_hash = ?, bytes = ?",
        (number, hashed, removed, removed_hash, size),
    )


def _size(texts: tuple[str, ...]) -> int:
    return ROW_BYTES + sum(len(text.encode()) for text in texts)


FEATURE = Feature("audit", tables={AUDIT_LEVEL: TABLES})


# ---- queries


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Some rows in their order. `previous_hash` is that of the row before the first of them.

    `removed_number` is the last row that is not kept any more; `last_number` and `last_hash` are of the newest row.
    """

    rows: tuple[AuditRow, ...]
    previous_hash: bytes
    removed_number: int
    last_number: int
    last_hash: bytes


def page(reader: StateReader, after_number: int, limit: int, max_bytes: int) -> AuditPage:
    """Return the rows after a number, at most `limit`, and at most `max_bytes` but for the first one."""
    with reader.consistent():
        if reader.level() < AUDIT_LEVEL:
            return AuditPage((), FIRST_HASH, 0, 0, FIRST_HASH)
        [(last, last_hash, removed, removed_hash, _)] = reader.rows(_ENDS)
        if after_number <= removed:
            after_number, previous = removed, removed_hash
        elif after_number >= last:
            return AuditPage((), last_hash, removed, last, last_hash)
        else:
            [(previous,)] = reader.rows("SELECT hash FROM audit WHERE number = ?", (after_number,))
        query = f"SELECT {_COLUMNS} FROM audit WHERE number > ? ORDER BY number LIMIT ?"  # noqa: S608 - constants only
        rows = reader.rows_within(query, (min(after_number, MAX_ID), limit), max_bytes, _row_size)
        return AuditPage(tuple(AuditRow(*row) for row in rows), previous, removed, last, last_hash)


def _row_size(row: Row) -> int:
    return _size(row[3:7])
