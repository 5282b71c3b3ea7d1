"""The lines that a person types in a chat, taken one after the other while the next one can be typed.

A command may ask the cluster, which takes seconds without a majority. The prompt does not wait for it. The order stays:
what is typed after /to goes to whom it names, or to nobody.
"""

import asyncio
from typing import NoReturn

from parley.terminal.chat_hints import Hints
from parley.terminal.chat_view import LEAVING, ChatView
from parley.terminal.outage import said_after
from parley.terminal.screen import TerminalScreen

MAX_AHEAD = 100
SAID_AFTER_S = 1.0


class TypedLines:
    """Takes the lines of a screen. The queue is bounded: when it is full, the prompt waits."""

    def __init__(self, view: ChatView, screen: TerminalScreen) -> None:
        self._view = view
        self._screen = screen
        self._queue: asyncio.Queue[str] = asyncio.Queue(MAX_AHEAD)
        self._left: list[str] = []

    @property
    def left(self) -> tuple[str, ...]:
        """Return the lines that were typed and not taken yet."""
        return tuple(self._left)

    async def take_all(self) -> None:
        """Take the lines until the person leaves. What was typed before that is taken first."""
        if not self._screen.interactive:
            async for line in self._screen.lines(self._view):
                if not await self._view.take(line):
                    return
            return
        async with asyncio.TaskGroup() as group:
            taking = group.create_task(self._take())
            await self._read()
            async with said_after(SAID_AFTER_S, "(waiting for the cluster; Ctrl-C leaves now)", self._screen.quiet):
                await self._queue.join()
            taking.cancel()

    async def _read(self) -> None:
        hints = Hints()
        async for line in self._screen.lines(self._view):
            if question := hints.question(line):
                self._screen.quiet(question)
            elif line.strip().partition(" ")[0] in LEAVING:
                return
            else:
                self._left.append(line)
                await self._queue.put(line)

    async def _take(self) -> NoReturn:
        while True:
            line = await self._queue.get()
            await self._view.take(line)
            self._left.pop(0)
            self._queue.task_done()
