"""The window of append messages to one follower that are not acknowledged, bounded by count and by bytes.

The window is full when either bound is reached. The last message may exceed the byte bound, so that a single large
message can always be sent.
"""

from __future__ import annotations

from collections import deque

from parleyd.invariants import check_invariant
from parleyd.raft.errors import InvariantError
from parleyd.raft.types import Index


class Inflights:
    """Messages sent and not acknowledged, oldest first, each identified by the index of its last entry."""

    __slots__ = ("_max_bytes", "_max_messages", "_window", "bytes")

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._window: deque[tuple[Index, int]] = deque()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._window)

    def full(self) -> bool:
        """Return whether no further message may be sent."""
        return len(self._window) >= self._max_messages or self.bytes >= self._max_bytes

    def add(self, last_index: Index, size_bytes: int) -> None:
        """Record a message that ends at `last_index`; messages are added in the order of their indexes."""
        check_invariant(not self.full(), "a message was sent beyond a full in-flight window", InvariantError)
        self._window.append((last_index, size_bytes))
        self.bytes += size_bytes

    def free_up_to(self, index: Index) -> None:
        """Forget the messages that an acknowledgement of `index` covers."""
        window = self._window
        while window and window[0][0] <= index:
            self.bytes -= window.popleft()[1]

    def clear(self) -> None:
        self._window.clear()
        self.bytes = 0
