"""Reads from the applied state, beside the writer, as of the index that this node has applied.

The queries belong to the features (features/*.py, "queries"). Each sees one consistent state and keeps no transaction
afterwards, so the writer's WAL can always be reused. The caller limits the size of every answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from parleyd.machine.errors import MachineDamagedError
from parleyd.machine.files import damage_text, open_reader, storage_faults

Row = tuple[Any, ...]  # values from SQLite; every column's type is fixed by its STRICT table


@dataclass(frozen=True, slots=True)
class Summary:
    """The state at one moment. `message_count` counts over the cluster's whole life."""

    applied_index: int
    generation: int
    level: int
    message_count: int
    state_hash: bytes


def position(connection: apsw.Connection) -> tuple[int, int, bytes]:
    """Return applied index, its term, and the stored membership, read within the caller's transaction."""
    row = connection.execute("SELECT applied_index, applied_term, membership FROM meta").fetchone()
    if row is None:
        raise MachineDamagedError(damage_text("state", "it does not contain which entries it covers"))
    applied_index, applied_term, membership = row
    return applied_index, applied_term, membership


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
        """Close the file; safe to call twice."""
        self._connection.close()

    def interrupt(self) -> None:
        """End the statement that runs now, if there is one; any thread."""
        with suppress(apsw.ConnectionClosedError):
            self._connection.interrupt()

    def rows(self, query: str, bindings: tuple[int | str | bytes, ...] = ()) -> list[Row]:
        """Return all rows of one statement, which sees one consistent state."""
        with storage_faults("reading the state"):
            return self._connection.execute(query, bindings).fetchall()

    def rows_within(
        self,
        query: str,
        bindings: tuple[int | str | bytes, ...],
        max_bytes: int,
        size: Callable[[Row], int],
    ) -> list[Row]:
        """Return the first rows of one statement, at most `max_bytes` of them by `size`, but at least one.

        Rows beyond the bound are not read.
        """
        found: list[Row] = []
        left = max_bytes
        with storage_faults("reading the state"), closing(self._connection.cursor()) as cursor:
            for row in cursor.execute(query, bindings):
                left -= size(row)
                if found and left < 0:
                    break
                found.append(row)
        return found

    @contextmanager
    def consistent(self) -> Iterator[None]:
        """Let all statements inside see one state. Inside another such block it has no effect."""
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
                if self._connection.in_transaction:  # SQLite ends it by itself if it cannot read a page
                    self._connection.execute("COMMIT")

    def applied_index(self) -> int:
        """Return the entry that this state covers."""
        return int(self.rows("SELECT applied_index FROM meta")[0][0])

    def level(self) -> int:
        """Return the level of the state."""
        return int(self.rows("SELECT level FROM meta")[0][0])

    def last_message_id(self) -> int:
        """Return the highest message id that was given out."""
        return int(self.rows("SELECT last_message_id FROM meta")[0][0])

    def summary(self) -> Summary:
        """Return the counters of the state."""
        query = "SELECT applied_index, generation, level, message_count, state_hash FROM meta"
        return Summary(*self.rows(query)[0])
