"""Events on their way from the SDK's thread to the window's: in order, coalesced, and bounded.

States replace each other, so a busy window never works through old ones. Messages do not: `has_capacity()` tells the
sender to wait while too many lie here. The wake-up is given once per filling, not once per event.
"""

import threading
from collections.abc import Callable

from parley.gui.events import Arrived, Changed, Event, OwnListed, StateChanged

MAX_MESSAGES = 5000


class Mailbox:
    """One writer thread, one reader thread."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` is called on the writer's thread when something lies here after nothing did."""
        self._wake = wake
        self._lock = threading.Lock()
        self._events: list[Event] = []
        self._messages = 0

    def has_capacity(self) -> bool:
        """False while the reader is far behind."""
        return self._messages < MAX_MESSAGES

    def put(self, event: Event) -> None:
        """Adds one; never blocks."""
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
        """Everything that lies here."""
        with self._lock:
            taken, self._events, self._messages = self._events, [], 0
        return taken
