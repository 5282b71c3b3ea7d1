"""Decides which snapshots are made and offered, and which received ones are kept until they are installed.

A follower that needs entries that are not in the log any more gets a snapshot. It is made only then. Other followers
get the last one made, if it reaches the log's first entry and has them as members. A node cannot use a snapshot in
whose state it is no member. One snapshot is made at a time. After one that could not be made, for example on a full
disk, the next one waits, each time longer.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Generic, TypeVar

from parleyd.raft.membership import members_of
from parleyd.raft.types import Index, NodeId, SnapshotMeta, Term

MAX_RECEIVED = 4
RETRY_DELAY_MS = 1_000
MAX_RETRY_DELAY_MS = 10_000

T = TypeVar("T")


class SnapshotOffers:
    """The last snapshot made, and the nodes that wait while one is being made."""

    def __init__(self) -> None:
        self._made: SnapshotMeta | None = None
        self._is_making = False
        self._came_late: set[NodeId] = set()
        self._retry_delay_ms = RETRY_DELAY_MS
        self._retry_at_ms = -math.inf

    def offer(self, nodes: Collection[NodeId], first_index: Index) -> SnapshotMeta | None:
        """Return the snapshot for `nodes`, if the last one made is usable for them."""
        made = self._made
        if made is None or made.index < first_index - 1 or not {*nodes} <= {*members_of(made.conf_state)}:
            return None
        return made

    def begin(self, nodes: Iterable[NodeId], now_ms: float) -> bool:
        """Return whether to make a snapshot now; while one is being made, `nodes` wait for it.

        After a failure the answer is no for a while. The core asks again with the next answer of the follower.
        """
        if self._is_making:
            self._came_late.update(nodes)
            return False
        if now_ms < self._retry_at_ms:
            return False
        self._is_making = True
        return True

    def made(self, snapshot: SnapshotMeta) -> tuple[NodeId, ...]:
        """Record a new snapshot; return the nodes that waited for it."""
        self._made, self._is_making = snapshot, False
        self._retry_delay_ms, self._retry_at_ms = RETRY_DELAY_MS, -math.inf
        late, self._came_late = tuple(sorted(self._came_late)), set()
        return late

    def failed(self, now_ms: float) -> None:
        """Record that no snapshot could be made."""
        self._is_making = False
        self._came_late.clear()
        self._retry_at_ms = now_ms + self._retry_delay_ms
        self._retry_delay_ms = min(2 * self._retry_delay_ms, MAX_RETRY_DELAY_MS)


class ReceivedSnapshots(Generic[T]):
    """Snapshots that were received and wait to be installed, at most MAX_RECEIVED of them."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[Index, Term], T] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Return whether no further snapshot is taken."""
        return len(self._waiting) >= MAX_RECEIVED

    def keep(self, meta: SnapshotMeta, body: T) -> T | None:
        """Keep a snapshot; return the one that it replaces."""
        key = (meta.index, meta.term)
        replaced = self._waiting.pop(key, None)
        self._waiting[key] = body
        return replaced

    def take(self, meta: SnapshotMeta) -> T:
        """Return the snapshot that is installed now."""
        return self._waiting.pop((meta.index, meta.term))

    def pop(self, meta: SnapshotMeta) -> T | None:
        """Return and forget a snapshot that is not installed; None if there is none."""
        return self._waiting.pop((meta.index, meta.term), None)

    def discard(self, applied_index: Index) -> list[T]:
        """Return and forget the snapshots that the state has reached in another way."""
        return [self._waiting.pop(key) for key in [key for key in self._waiting if key[0] <= applied_index]]
