"""Rows of one table that a transaction works on: read once, changed in memory, written once at its end.

A batch of sends touches the same few rows again and again, and SQLite reads each only once. The result of apply does
not depend on the content of the cache. A changed row stays cached until `flush` has written it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from itertools import islice
from typing import Any, Generic, TypeVar

import apsw

MAX_CACHED_ROWS = 16_384

Key = TypeVar("Key", bound=Hashable)
Row = TypeVar("Row")


class Rows(Generic[Key, Row]):
    """A write-back cache of one table by its primary key."""

    def __init__(
        self,
        connection: apsw.Connection,
        *,
        select: str,
        make: Callable[..., Row],
        update: str = "",
        values: Callable[[Row], tuple[Any, ...]] = lambda _: (),
    ) -> None:
        """Prepare the statements.

        `select` reads the columns of `make` for a key; `update` takes `values` of a changed row.
        """
        self._connection = connection
        self._select = select
        self._make = make
        self._update = update
        self._values = values
        self.known: dict[Key, Row] = {}
        self._changed: dict[Key, Row] = {}

    def find(self, key: Key) -> Row | None:
        """Return the row with that key, or None if there is none."""
        found = self.known.get(key)
        if found is None:
            bindings = key if isinstance(key, tuple) else (key,)
            row = self._connection.execute(self._select, bindings).get
            if row is not None:
                found = self.known[key] = self._make(*row)
        return found

    def added(self, key: Key, row: Row) -> None:
        """Cache a row that SQL has just inserted."""
        self.known[key] = row

    def changed(self, key: Key, row: Row) -> None:
        """Write the row at the next flush."""
        self.known[key] = row
        self._changed[key] = row

    def flush(self) -> None:
        """Write the changed rows, so that SQL sees them."""
        if self._changed:
            self._connection.executemany(self._update, [self._values(row) for row in self._changed.values()])
            self._changed = {}

    def forget(self, keys: Iterable[Key]) -> None:
        """Remove rows that SQL changed from the cache; they are flushed."""
        for key in keys:
            self.known.pop(key, None)

    def forget_all(self) -> None:
        """Read everything from the file again, after a rollback."""
        self.known.clear()
        self._changed.clear()


def trim(caches: Iterable[dict[Any, Any]]) -> None:
    """Remove the oldest keys of caches beyond their bound."""
    for cache in caches:
        excess = len(cache) - MAX_CACHED_ROWS
        if excess > 0:
            for key in list(islice(cache, excess)):
                del cache[key]
