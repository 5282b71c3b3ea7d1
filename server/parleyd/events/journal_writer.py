"""Writes the journal from a thread of its own, so that a slow or full disk delays nobody and fails nothing.

Bound: MAX_WAITING events wait. What comes above that, and what the disk does not take, is counted. The count goes into
the journal with the next record that the disk takes. A file that cannot be opened or written is tried again later.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import structlog

from parleyd.events.event import Event
from parleyd.events.journal import JournalFile
from parleyd.formats import FormatRefusedError

MAX_WAITING = 1_024
RETRY_S = 30.0
CLOSE_WITHIN_S = 2.0
_EFFECT = "this node serves as before; parleyd journal lacks what happens meanwhile"


class JournalKeeper:
    """Writes events, and goes on without the file while it cannot. One thread uses it."""

    def __init__(self, path: Path, size_bytes: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._size_bytes = size_bytes
        self._monotonic = monotonic
        self._file: JournalFile | None = None
        self._retry_at = monotonic()
        self._missed = 0
        self._is_reported = False
        self._logger = structlog.get_logger("journal")

    def write(self, event: Event) -> None:
        """Write one event, or count it; raises nothing that a disk causes."""
        if self._file is None and self._monotonic() < self._retry_at:
            self._missed += 1
            return
        try:
            if self._file is None:
                self._file = JournalFile.open(self._path, self._size_bytes)
            if self._missed:
                self._file.append(
                    Event(event.start, 0, event.at_ms, "events_not_recorded", {"count": self._missed}),
                )
                self._missed = 0
            self._file.append(event)
        except (OSError, FormatRefusedError) as error:
            self._missed += 1
            self._give_up(error)
        else:
            if self._is_reported:
                self._is_reported = False
                self._logger.info("journal_writing_resumed", file=str(self._path))

    def missed(self, events: int) -> None:
        """Count events that came faster than the disk took them."""
        self._missed += events

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _give_up(self, error: Exception) -> None:
        self.close()
        self._retry_at = self._monotonic() + RETRY_S
        if not self._is_reported:
            self._is_reported = True
            self._logger.warning("journal_not_written", file=str(self._path), error=str(error), effect=_EFFECT)


class JournalWriter:
    """A bounded queue of events, and the thread that writes them. Any thread may put events."""

    def __init__(self, keeper: JournalKeeper, *, max_waiting: int = MAX_WAITING) -> None:
        self._keeper = keeper
        self._max_waiting = max_waiting
        self._waiting: deque[Event] = deque()
        self._dropped = 0
        self._is_closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def put(self, event: Event) -> None:
        """Queue one event, or count it; never waits for the disk."""
        with self._changed:
            if self._is_closed or len(self._waiting) >= self._max_waiting:
                self._dropped += 1
                return
            self._waiting.append(event)
            self._changed.notify()

    def close(self, timeout_s: float = CLOSE_WITHIN_S) -> None:
        """Write what is queued, for at most `timeout_s`; what is left then is lost."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._is_closed:
                    self._changed.wait()
                if not self._waiting:
                    break
                event = self._waiting.popleft()
                dropped, self._dropped = self._dropped, 0
            self._keeper.missed(dropped)
            self._keeper.write(event)
        self._keeper.close()
