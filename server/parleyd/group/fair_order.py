"""Self-clocked fair queueing: what many sources sent, in an order that gives each its share of the bytes.

Each item gets a finish tag: its size, counted from the finish tag of its source's previous item, or from that of the
item that was taken last, whichever is higher. The item with the lowest tag is next. So a source that sends little is
next after it comes, whatever the others have waiting, and the items of one source keep their order. (Golestani, "A
self-clocked fair queueing scheme for broadband applications", 1994.)
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable

ITEM_BYTES = 64  # an item of no bytes costs something too


class FairOrder:
    """Tokens that wait, by fair order. Sources without waiting tokens are not remembered."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Hashable]] = []
        self._finish: dict[Hashable, int] = {}
        self._taken = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, source: Hashable, token: int, size: int) -> None:
        """Add a token; tokens rise, so that equal tags keep the order of arrival."""
        finish = max(self._taken, self._finish.get(source, 0)) + size + ITEM_BYTES
        self._finish[source] = finish
        heapq.heappush(self._heap, (finish, token, source))

    def next(self) -> int:
        """Remove and return the next token."""
        self._taken, token, source = heapq.heappop(self._heap)
        if self._finish[source] == self._taken:
            del self._finish[source]
        return token
