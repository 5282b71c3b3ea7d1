"""A set of account ids that is read in ascending order, a page at a time."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Collection, Iterator

MAX_ID = (1 << 63) - 1
_FEW = 64


class SortedIds:
    """Ids in ascending order. The caller adds no id twice, and removes none that is not here."""

    def __init__(self) -> None:
        self._ids: list[int] = []

    def add(self, ids: Collection[int]) -> None:
        """Add ids. Many at once cost one sort."""
        if len(ids) > _FEW:
            self._ids = sorted([*self._ids, *ids])
            return
        for one in ids:
            insort(self._ids, one)

    def remove(self, ids: Collection[int]) -> None:
        """Remove ids. Many at once cost one pass."""
        if len(ids) > _FEW:
            removed = frozenset(ids)
            self._ids = [one for one in self._ids if one not in removed]
            return
        for one in ids:
            del self._ids[bisect_right(self._ids, one) - 1]

    def clear(self) -> None:
        """Remove all ids."""
        self._ids.clear()

    def after(self, one: int) -> Iterator[int]:
        """Return the ids above `one`, ascending. A page of them costs what it has."""
        for place in range(bisect_right(self._ids, one), len(self._ids)):
            yield self._ids[place]
