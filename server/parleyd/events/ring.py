"""The last events of this node in memory, for whoever asks and for whoever follows.

Any thread may add and read. Bound: CAPACITY events; the oldest go first, and a reader is told how many it missed.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from parleyd.events.event import Event

CAPACITY = 2_048


@dataclass(frozen=True, slots=True)
class Reading:
    """Events in their order. `missed`: how many before them are not in memory any more."""

    events: tuple[Event, ...]
    missed: int = 0


class EventRing:
    """The last events of this process."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._events: deque[Event] = deque(maxlen=capacity)
        self._last = 0
        self.round = 0  # how often all readers were asked to end
        self._lock = threading.Lock()
        self._listeners: set[Callable[[], None]] = set()

    @property
    def last_number(self) -> int:
        """Return the number of the latest event, 0 before the first."""
        return self._last

    def add(self, event: Event) -> None:
        """Add the next event, and tell the listeners, on this thread."""
        with self._lock:
            self._events.append(event)
            self._last = event.number
        self._tell()

    def end_round(self) -> None:
        """Ask all who listen now to end once they have read what is here: the node stops, or begins anew."""
        self.round += 1
        self._tell()

    def _tell(self) -> None:
        with self._lock:
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener()

    def read(self, after: int = 0, limit: int = CAPACITY) -> Reading:
        """Return up to `limit` events with numbers above `after`, the oldest first."""
        with self._lock:
            known = self._last - len(self._events)  # numbers have no gaps
            skipped = max(0, after - known)
            return Reading(tuple(islice(self._events, skipped, skipped + limit)), max(0, known - after))

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after each event, on any thread, until the returned function is called."""
        with self._lock:
            self._listeners.add(listener)

        def end() -> None:
            with self._lock:
                self._listeners.discard(listener)

        return end
