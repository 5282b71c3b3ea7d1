"""The source of events: it sees each line of the log before the log's level decides, and keeps those of kinds.py.

It costs a look into a table for each line. The message path logs nothing for each message.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, MutableMapping

from parleyd.events.event import Event, kept_fields
from parleyd.events.journal_writer import JournalWriter
from parleyd.events.kinds import KINDS
from parleyd.events.ring import EventRing


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class EventSource:
    """Numbers the events of this process and gives them to the ring and to the journal. Any thread may use it."""

    def __init__(self, wall_ms: Callable[[], int] = _wall_ms) -> None:
        self.ring = EventRing()
        self.start = wall_ms()
        self._wall_ms = wall_ms
        self._journal: JournalWriter | None = None
        self._lock = threading.Lock()

    def tap(self, _: object, __: str, line: MutableMapping[str, object]) -> MutableMapping[str, object]:
        """Keep a line of the log if it is an event; return it as it is. It is a processor of structlog."""
        kind = KINDS.get(str(line.get("event")))
        if kind is not None:
            self.record(str(line["event"]), line)
        return line

    def record(self, name: str, line: MutableMapping[str, object]) -> None:
        """Keep an event of a kind that stands in kinds.py."""
        kind = KINDS[name]
        fields = kept_fields(kind.fields, line)
        with self._lock:
            event = Event(self.start, self.ring.last_number + 1, self._wall_ms(), name, fields)
            self.ring.add(event)
            if self._journal is not None and kind.is_history:
                self._journal.put(event)

    def keep_journal(self, journal: JournalWriter) -> None:
        """Write the history into `journal` from now on, and what happened before into it first."""
        with self._lock:
            for event in self.ring.read().events:
                if KINDS[event.kind].is_history:
                    journal.put(event)
            self._journal = journal

    def close(self) -> None:
        """Write what the journal has to write, for a bounded time."""
        with self._lock:
            journal, self._journal = self._journal, None
        if journal is not None:
            journal.close()
