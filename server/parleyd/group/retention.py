"""Decides how much of the applied log stays on a node, and up to where it is compacted.

The log is compacted by count and by bytes: when it has more than is retained for lagging nodes, the older entries are
dropped. Entries that no checkpoint has made durable in the state machine's own file stay, because a start replays them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from parleyd.raft.types import Entry, Index, Term


@dataclass(frozen=True, slots=True)
class LogBounds:
    """How much of the applied log is kept for lagging nodes."""

    retain_entries: int
    retain_bytes: int


@dataclass(frozen=True, slots=True)
class _Kept:
    index: Index
    term: Term
    size_bytes: int


class LogRetention:
    """The entries that are applied and still in the log, by size; it does no I/O."""

    def __init__(self, bounds: LogBounds, kept: Sequence[Entry]) -> None:
        """Start with `kept`, the entries that are applied and still in the log."""
        self._bounds = bounds
        self._kept: deque[_Kept] = deque()
        self._kept_bytes = 0
        self.applied(kept)

    @property
    def should_compact(self) -> bool:
        """Return whether enough can be compacted to justify a checkpoint."""
        return (
            len(self._kept) > self._bounds.retain_entries * 3 // 2
            or self._kept_bytes > self._bounds.retain_bytes * 3 // 2
        )

    def applied(self, entries: Sequence[Entry]) -> None:
        """Count entries that are now applied and still in the log."""
        for entry in entries:
            self._kept.append(_Kept(entry.index, entry.term, len(entry.data)))
            self._kept_bytes += len(entry.data)

    def plan_compaction(self, durable_index: int) -> tuple[Index, Term] | None:
        """Return the last entry that may be compacted: not retained, and durable in the state; None for none."""
        count, size = len(self._kept), self._kept_bytes
        target: _Kept | None = None
        for kept in self._kept:
            if count <= self._bounds.retain_entries and size <= self._bounds.retain_bytes:
                break
            if kept.index > durable_index:
                break
            target = kept
            count -= 1
            size -= kept.size_bytes
        return None if target is None else (target.index, target.term)

    def compact(self, index: Index) -> None:
        """Record that entries up to `index` are removed from disk."""
        while self._kept and self._kept[0].index <= index:
            self._kept_bytes -= self._kept.popleft().size_bytes

    def start_over(self) -> None:
        """Forget all entries, because a snapshot replaced state and log."""
        self._kept.clear()
        self._kept_bytes = 0
