"""Reads from the applied state, beside the writer: what one node knows at the index it has applied.

The questions are the features' (features/*.py, "queries"). Each sees one consistent state and holds no transaction
afterwards, so the writer's WAL can always be reused. Every answer is bounded by a limit that the caller gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import apsw

from parleyd.machine.errors import MachineDamagedError
from parleyd.machine.files import check_version, damage_text, open_reader, storage_faults
from parleyd.page_checksums import checksum_vfs

Row = tuple[Any, ...]  # the edge to SQLite; every column's type is fixed by its STRICT table


@dataclass(frozen=True, slots=True)
class Summary:
    """The state as a whole at one moment. `message_count` counts over the cluster's life."""

    applied_index: int
    generation: int
    level: int
    message_count: int
    state_hash: bytes


def position(connection: apsw.Connection) -> tuple[int, int, bytes]:
    """Applied index, its term, and the membership stored there, read within the caller's transaction."""
    row = connection.execute("SELECT applied_index, applied_term, membership FROM meta").fetchone()
    if row is None:
        raise MachineDamagedError(damage_text("state", "it does not say which entries it covers"))
    applied_index, applied_term, membership = row
    return applied_index, applied_term, membership


def verify_state_file(path: Path) -> tuple[int, int, bytes]:
    """Check that a received file is a sound state of this release before it replaces the old one; reads all of it."""
    with storage_faults(f"verifying {path}"):
        uri = f"file:{quote(str(path))}?mode=ro&immutable=1"
        flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        with closing(apsw.Connection(uri, flags=flags, vfs=checksum_vfs())) as connection:
            check_version(connection, path)
            verdict = connection.execute("PRAGMA quick_check(1)").get
            if verdict != "ok":
                raise MachineDamagedError(damage_text(path, f"SQLite's check says: {verdict}"))
            return position(connection)


class StateReader:
    """One read-only connection, used by one thread at a time."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._inside = False

    @classmethod
    def open(cls, path: Path) -> StateReader:
        """Open beside a running StateMachine."""
        return cls(open_reader(path))

    def close(self) -> None:
        """Let go of the file; safe to call twice."""
        self._connection.close()

    def rows(self, query: str, bindings: tuple[int | str | bytes, ...] = ()) -> list[Row]:
        """All rows of one statement, which is one consistent state by itself."""
        with storage_faults("reading the state"):
            return self._connection.execute(query, bindings).fetchall()

    @contextmanager
    def consistent(self) -> Iterator[None]:
        """All statements inside see one state. Inside another such block it adds nothing."""
        if self._inside:
            yield
            return
        with storage_faults("reading the state"):
            self._connection.execute("BEGIN")
            self._inside = True
            try:
                yield
            finally:
                self._inside = False
                if self._connection.in_transaction:  # SQLite ends it by itself when it cannot read a page
                    self._connection.execute("COMMIT")

    def applied_index(self) -> int:
        """The entry that this state covers."""
        return int(self.rows("SELECT applied_index FROM meta")[0][0])

    def level(self) -> int:
        """The level of the state."""
        return int(self.rows("SELECT level FROM meta")[0][0])

    def summary(self) -> Summary:
        """The state as a whole."""
        query = "SELECT applied_index, generation, level, message_count, state_hash FROM meta"
        return Summary(*self.rows(query)[0])
