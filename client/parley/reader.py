"""An iterator over new messages, each once.

A message counts as shown when the reader asks for the next one, or is closed without an error. If a program dies
while it handles a message, it receives this message again. The reader reads from the file, so a slow reader delays
nothing and loses nothing.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import apsw

from parley.device import inbox
from parley.device.store import Store
from parley.log import logger
from parley.model import Message

PAGE = 256


class MessageReader:
    """An asynchronous iterator over messages. With `async with`, an error makes the last message come again."""

    def __init__(self, store: Store, start: int, *, own: bool, durable: bool, on_close: Callable[[], None]) -> None:
        """Begin above `start`, a place of the inbox. Only a `durable` reader moves the mark that survives a restart."""
        self._store = store
        self._cursor = start
        self._own = own
        self._durable = durable
        self._on_close = on_close
        self._page: deque[tuple[int, Message]] = deque()
        self._handed: int | None = None
        self._shown = start
        self._noting = False
        self._grew = asyncio.Event()
        self._closed = False
        self.missed = 0
        """At most so many messages were removed from this device before this reader got them; the history has them."""

    @property
    def durable(self) -> bool:
        """Return false if another process is the durable reader. This reader then only returns new messages."""
        return self._durable

    def grew(self) -> None:
        """Record that new messages are in the inbox."""
        self._grew.set()

    def drop(self, removed: Mapping[int, int]) -> None:
        """Drop what the account has removed, by conversation up to which message. The file has it no more."""
        if removed:
            self._page = deque(
                (place, message)
                for place, message in self._page
                if message.id > removed.get(message.conversation_id, 0)
            )

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        while (message := await self.next_stored()) is None:
            if self._closed:
                raise StopAsyncIteration
            await self._grew.wait()
        return message

    async def next_stored(self) -> Message | None:
        """Return the next message that is in the inbox already, or None. This waits for no other."""
        self._done()
        if not self._page and not self._closed:
            self._grew.clear()
            self._page.extend(await self._store.read(self._next_page))
        if not self._page:
            return None
        place, message = self._page.popleft()
        self._cursor = self._handed = place
        return message

    def close(self, *, done: bool = True) -> None:
        """End the iteration. With `done` the message returned last counts as shown."""
        if self._closed:
            return
        if done:
            self._done()
        self._closed = True
        self._page.clear()
        self._grew.set()
        self._on_close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(done=kind is None)

    def _next_page(self, connection: apsw.Connection) -> list[tuple[int, Message]]:
        pruned = inbox.pruned_place(connection)
        if self._cursor < pruned:
            logger().warning("reader_missed_messages", at_most=pruned - self._cursor)
            self.missed += pruned - self._cursor
            self._cursor = pruned
        return inbox.after(connection, self._cursor, PAGE, own=self._own)

    def _done(self) -> None:
        """Record that the message returned last was handled. At most one such write is queued."""
        if self._handed is not None and self._durable:
            self._shown = self._handed
            if not self._noting:
                self._noting = True
                self._store.post(self._note_shown)
        self._handed = None

    def _note_shown(self, connection: apsw.Connection) -> None:
        self._noting = False  # before reading what was shown: a later message then queues a note of its own
        inbox.mark_shown(connection, self._shown)
