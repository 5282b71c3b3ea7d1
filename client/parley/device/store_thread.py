"""The thread that works on clients' files. One client has one of its own; the clients of a group share one.

The thread takes the stores that have work in the order in which they asked. A store does all that is queued for it in
one transaction. So one busy account delays the others by one transaction. Beside that, the thread looks every `poll_s`
seconds at the files that other processes may have changed: at MOST_LOOKED of them, one after the other.
"""

import queue
import threading
import time
from typing import Protocol

MOST_LOOKED = 16


class Worked(Protocol):
    """A store, as the thread sees it. Each method is called on the thread."""

    is_called: bool
    """True while the store is in the queue of the thread."""

    def turn(self, *, look: bool) -> bool:
        """Do what is queued. With `look`, see whether another process changed the file. Return false at the end."""


class StoreThread:
    """Runs stores until it is closed."""

    def __init__(self, poll_s: float = 0.03) -> None:
        """Make the thread. It begins with the first store."""
        self._poll_s = poll_s
        self._called: queue.SimpleQueue[Worked | None] = queue.SimpleQueue()
        self._open: dict[Worked, None] = {}  # in the order in which they are looked at; only the thread uses it
        self._thread: threading.Thread | None = None

    def call(self, store: Worked) -> None:
        """Let the store have its turn soon. Call this on the event loop, after something was queued in the store."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._main, name="parley-store", daemon=True)
            self._thread.start()
        if not store.is_called:
            store.is_called = True
            self._called.put(store)

    def end(self) -> None:
        """Let the thread end after the turns that are due. Stores must be closed, or closing, before."""
        if self._thread is not None:
            self._called.put(None)

    def join(self) -> None:
        """Wait until the thread has ended. This blocks."""
        if self._thread is not None:
            self._thread.join()

    def _main(self) -> None:
        look_at = time.monotonic() + self._poll_s
        is_ending = False
        while not (is_ending and self._called.empty()):
            try:
                store = self._called.get(timeout=max(0.0, look_at - time.monotonic()))
                if store is None:
                    is_ending = True
                else:
                    self._turn(store, look=False)
            except queue.Empty:
                pass
            if time.monotonic() >= look_at:
                for store in list(self._open)[:MOST_LOOKED]:
                    self._turn(store, look=True)
                look_at = time.monotonic() + self._poll_s

    def _turn(self, store: Worked, *, look: bool) -> None:
        if look:
            self._open.pop(store, None)  # to the end of the order
        if store.turn(look=look):
            self._open[store] = None
        else:
            self._open.pop(store, None)
