"""Writes to a terminal that may take nothing for a while, such as one behind a connection that hangs.

A thread writes, so the loop never waits for the terminal. A screen asks `is_ready` before it draws. While something
waits to be written, it does not draw. So what waits is bounded by one drawing and a few changes of modes.
"""

import asyncio
import io
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from prompt_toolkit.output import Output
from prompt_toolkit.output.defaults import create_output
from prompt_toolkit.output.vt100 import Vt100_Output

END_S = 1.0


class TerminalWriter(io.RawIOBase):
    """The bytes for a terminal, which are written later and in order. After a failure they are dropped."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._waiting: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._is_writing = False
        self._wanted: set[Callable[[], object]] = set()
        self._thread: threading.Thread | None = None
        self.has_failed = False

    @classmethod
    def of(cls, stream: TextIO) -> tuple["TerminalWriter", Output]:
        """Return a writer to the terminal of this stream, and the output that uses it."""
        output, writer = create_output(stream), cls(stream.fileno())
        raw: io.RawIOBase = writer
        if isinstance(output, Vt100_Output):
            output.stdout = io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, errors="replace")
        return writer, output

    # ---- what io asks for

    def writable(self) -> bool:
        """Return true."""
        return True

    def fileno(self) -> int:
        """Return the descriptor of the terminal."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether the descriptor is a terminal."""
        return os.isatty(self._descriptor)

    def write(self, data: memoryview, /) -> int:  # type: ignore[override]
        """Take bytes. They are written later."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_all, name="parley-terminal", daemon=True)
                self._thread.start()
            if not self.has_failed:
                self._waiting.append(bytes(data))
                self._changed.notify()
        return len(data)

    # ---- what the screen asks for

    def is_ready(self, wanted: Callable[[], object]) -> bool:
        """Return whether everything was written. If not, `wanted` is called in the thread once it was."""
        with self._changed:
            if not self._is_busy:
                return True
            self._wanted.add(wanted)
            return False

    async def written(self, within_s: float = END_S) -> bool:
        """Wait until everything was written. Return false if the terminal did not take it in this time."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        if self.is_ready(lambda: loop.call_soon_threadsafe(done.set)):
            return True
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await done.wait()
        return done.is_set()

    async def is_finished(self) -> bool:
        """Wait as above. Return false, too, if the terminal failed."""
        return await self.written() and not self.has_failed

    # ---- the thread

    @property
    def _is_busy(self) -> bool:
        return bool(self._waiting) or self._is_writing

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                data, self._is_writing = b"".join(self._waiting), True
                self._waiting.clear()
            has_failed = not _write(self._descriptor, data)
            with self._changed:
                self._is_writing, self.has_failed = False, has_failed
                if has_failed:
                    self._waiting.clear()
                wanted = set() if self._waiting else self._wanted
                self._wanted = self._wanted - wanted
            for call in wanted:
                with suppress(RuntimeError):  # the loop has ended
                    call()


def _write(descriptor: int, data: bytes) -> bool:
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except OSError:
            return False  # the terminal was closed, which the input tells, too
    return True


def abandon(terminal: int, *others: int) -> None:
    """Let descriptors of a terminal that takes nothing lead nowhere, so that the command ends without waiting for it.

    Those of `others` that belong to something else, such as a file, stay.
    """
    null, device = os.open(os.devnull, os.O_WRONLY), os.fstat(terminal).st_rdev
    for descriptor in (terminal, *others):
        if os.fstat(descriptor).st_rdev == device:
            os.dup2(null, descriptor)
    os.close(null)
