"""Sends what was typed in a chat, in order. While a text filter is asked, the person goes on typing."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

from parley import Outgoing, ParleyClient, ParleyError, Target
from parley.terminal import text
from parley.terminal.own_messages import OwnMessages

MAX_QUEUED = 100


class SendQueue:
    """Stores messages in the outbox: at once, or from a task while run() runs.

    The queue holds MAX_QUEUED texts. When it is full, send() waits, and so the chat takes no more lines.
    """

    def __init__(
        self,
        client: ParleyClient,
        own: OwnMessages,
        show_edited: Callable[[Outgoing], None],
        quiet: Callable[[str], None],
    ) -> None:
        """`show_edited` shows a message that was changed, `quiet` prints a remark."""
        self._client = client
        self._own = own
        self._show_edited = show_edited
        self._quiet = quiet
        self._queue: asyncio.Queue[Callable[[], Awaitable[None]]] | None = None
        self._bodies: list[str] = []
        self.grew = asyncio.Event()
        """Set when there are own messages to show."""

    @property
    def unsent(self) -> tuple[str, ...]:
        """Return the texts that are not in the outbox yet, in the order of typing."""
        return tuple(self._bodies)

    async def send(self, target: Target, body: str, *, urgent: bool = False) -> None:
        """Send a message. What goes wrong is raised, or printed while run() runs."""

        async def store() -> None:
            self._own.track((await self._client.send(target, body, urgent=urgent)).view)
            self.grew.set()

        await self._do(body, store)

    async def edit(self, local_id: int, body: str) -> None:
        """Change a waiting message."""

        async def store() -> None:
            self._show_edited(await self._client.edit(local_id, body))

        await self._do(body, store)

    async def _do(self, body: str, store: Callable[[], Awaitable[None]]) -> None:
        if self._queue is None:
            await store()
            return
        self._bodies.append(body)
        await self._queue.put(store)

    async def run(self) -> NoReturn:
        """Store what send() and edit() are given, one after the other."""
        self._queue = asyncio.Queue(MAX_QUEUED)
        while True:
            store = await self._queue.get()
            try:
                await store()
            except ParleyError as error:
                self._own.failures.add(error)
                self._quiet(f"{error.text} The text was: {text.indented(self._bodies[0])}")
            self._bodies.pop(0)
            self._queue.task_done()

    async def drain(self) -> None:
        """Wait until everything that was typed is stored or refused."""
        if self._queue is not None:
            await self._queue.join()
