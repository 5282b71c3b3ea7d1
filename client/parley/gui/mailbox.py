"""Events on their way from the SDK's thread to the window's thread: in order, coalesced, and bounded.

A newer state replaces an older one. Messages are never replaced: `has_capacity()` tells the sender to wait while too
many are queued. The window is woken once when the mailbox fills, not once per event.
"""

import threading
from collections.abc import Callable

from parley.gui.events import Arrived, Changed, Event, OwnListed, StateChanged

MAX_MESSAGES = 5000


class Mailbox:
    """A queue with one writer thread and one reader thread."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` is called on the writer's thread when the mailbox stops being empty."""
        self._wake = wake
        self._lock = threading.Lock()
        self._events: list[Event] = []
        self._messages = 0

    def has_capacity(self) -> bool:
        """Return false while the reader is far behind."""
        return self._messages < MAX_MESSAGES

    def put(self, event: Event) -> None:
        """Add an event. Never blocks."""
        with self._lock:
            was_empty = not self._events
            if isinstance(event, StateChanged) and self._events and isinstance(self._events[-1], StateChanged):
                self._events[-1] = event
            else:
                self._events.append(event)
            if isinstance(event, Arrived | OwnListed):
                self._messages += len(event.messages)
            elif isinstance(event, Changed):
                self._messages += len(event.changes.outgoing)
        if was_empty:
            self._wake()

    def take(self) -> list[Event]:
        """Remove and return all events."""
        with self._lock:
            taken, self._events, self._messages = self._events, [], 0
        return taken
