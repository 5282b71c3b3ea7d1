"""Writes lines to a descriptor from a thread of its own, so that a reader that stops reading stops nobody else.

Bound: `max_bytes` wait at most. What comes above that is dropped and counted, and the count is reported when there is
room again. The thread writes to the descriptor itself: a buffered stream has a lock, and a thread that is blocked with
it at the end of the process makes the interpreter abort.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable

MAX_QUEUED_BYTES = 4 << 20
_WRITE_BYTES = 64 << 10


class LineWriter:
    """A bounded queue of lines and the thread that writes them. Any thread may put lines."""

    def __init__(
        self, descriptor: int, on_dropped: Callable[[int], None], *, max_bytes: int = MAX_QUEUED_BYTES
    ) -> None:
        """`on_dropped` gets the number of lines dropped since its last call, on the thread of this writer."""
        self._descriptor = descriptor
        self._on_dropped = on_dropped
        self._max_bytes = max_bytes
        self._lines: deque[bytes] = deque()
        self._queued_bytes = 0
        self._dropped = 0
        self._is_closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Queue one line, or drop it; never waits."""
        encoded = line.encode(errors="backslashreplace") + b"\n"
        with self._changed:
            if self._is_closed or self._queued_bytes + len(encoded) > self._max_bytes:
                self._dropped += 1
                return
            self._lines.append(encoded)
            self._queued_bytes += len(encoded)
            self._changed.notify()

    def close(self, timeout_s: float) -> None:
        """Write what is queued, for at most `timeout_s`; what is left then is lost."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(timeout_s)

    # ---- the thread

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._lines and not self._is_closed:
                    self._changed.wait()
                if not self._lines:
                    return
                chunk = self._take()
                dropped = 0 if self._is_closed else self._dropped
                self._dropped -= dropped
            self._write(chunk)
            if dropped:
                self._on_dropped(dropped)

    def _take(self) -> bytes:
        taken: list[bytes] = []
        size = 0
        while self._lines and size < _WRITE_BYTES:
            taken.append(self._lines.popleft())
            size += len(taken[-1])
        self._queued_bytes -= size
        return b"".join(taken)

    def _write(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                select.select([], [self._descriptor], [])
            except OSError:
                with self._changed:
                    # The reader is gone, or the disk of the log file is full. There is no other place to say so.
                    self._dropped += bytes(rest).count(b"\n")
                return
