"""How much of the applied log stays on a node, and where it may be compacted.

The log is compacted by count and by bytes: when it holds more than what is to be retained for lagging nodes, everything
older is dropped, but never beyond what a checkpoint has made durable in the state machine's own file, because the log
is what replays the rest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from parleyd.raft.types import Entry, Index, Term


@dataclass(frozen=True, slots=True)
class LogBounds:
    """How much of the applied log is kept for nodes that lag."""

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
        """`kept`: the entries already applied and still in the log at the start."""
        self._bounds = bounds
        self._kept: deque[_Kept] = deque()
        self._kept_bytes = 0
        self.applied(kept)

    @property
    def should_compact(self) -> bool:
        """More is kept than needed, by enough that compaction is worth a checkpoint."""
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
        """The last entry that may go: older than what is retained, and durable in the state; None for none."""
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
        """Entries up to `index` are gone from disk."""
        while self._kept and self._kept[0].index <= index:
            self._kept_bytes -= self._kept.popleft().size_bytes

    def start_over(self) -> None:
        """A snapshot replaced state and log: nothing older is kept any more."""
        self._kept.clear()
        self._kept_bytes = 0
