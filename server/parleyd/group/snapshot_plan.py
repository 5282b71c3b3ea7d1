"""Which snapshots are made and offered, and which received ones are kept until they are installed.

A follower that needs older entries than the log still has gets a snapshot, made only then. The last one made serves
others too, as long as it reaches to the log's first entry and has them for members: to a node that is no member in
its state a snapshot is of no use. One is made at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Generic, TypeVar

from parleyd.raft.membership import members_of
from parleyd.raft.types import Index, NodeId, SnapshotMeta, Term

MAX_RECEIVED = 4

T = TypeVar("T")


class SnapshotOffers:
    """The last snapshot made, and who came while one is being made."""

    def __init__(self) -> None:
        self._made: SnapshotMeta | None = None
        self._is_making = False
        self._came_late: set[NodeId] = set()

    def offer(self, nodes: Collection[NodeId], first_index: Index) -> SnapshotMeta | None:
        """The snapshot for `nodes`, if the last one made will do."""
        made = self._made
        if made is None or made.index < first_index - 1 or not {*nodes} <= {*members_of(made.conf_state)}:
            return None
        return made

    def begin(self, nodes: Iterable[NodeId]) -> bool:
        """Whether to make one now; if one is being made, `nodes` have to wait for it."""
        if self._is_making:
            self._came_late.update(nodes)
            return False
        self._is_making = True
        return True

    def made(self, snapshot: SnapshotMeta) -> tuple[NodeId, ...]:
        """One was made; returns who came meanwhile."""
        self._made, self._is_making = snapshot, False
        late, self._came_late = tuple(sorted(self._came_late)), set()
        return late


class ReceivedSnapshots(Generic[T]):
    """Snapshots that were received and wait to be installed, at most MAX_RECEIVED of them."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[Index, Term], T] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether no further one is taken."""
        return len(self._waiting) >= MAX_RECEIVED

    def keep(self, meta: SnapshotMeta, body: T) -> T | None:
        """Keep a snapshot; returns the one whose place it takes."""
        key = (meta.index, meta.term)
        replaced = self._waiting.pop(key, None)
        self._waiting[key] = body
        return replaced

    def take(self, meta: SnapshotMeta) -> T:
        """The snapshot that is installed now."""
        return self._waiting.pop((meta.index, meta.term))

    def discard(self, applied_index: Index) -> list[T]:
        """Those that the state has reached without them, or with a newer one; they do not wait any more."""
        return [self._waiting.pop(key) for key in [key for key in self._waiting if key[0] <= applied_index]]
