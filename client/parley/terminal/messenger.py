"""The chat on the whole screen of a terminal: the list of conversations, the open thread, the field, and the status.

Lines and commands go the same way as in the chat in lines: through `TypedLines` and `ChatView`, in the order in which
they were typed. So choosing a conversation is the line `/to ...`, too. What `ChatView` shows of messages is a reason
to draw: the rows come from `parley.chat`. Everything else that it shows is a note.

The terminal is as it was before when the screen ends, whatever ends it. The chat waits for no terminal: one that takes
nothing is drawn on when it does, and left without a word at the end.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress

from prompt_toolkit.input import Input
from prompt_toolkit.output import Output

from parley import ParleyClient, ParleyError
from parley.terminal.chat_view import ChatView
from parley.terminal.messenger_app import Place
from parley.terminal.messenger_desk import Desk
from parley.terminal.messenger_notes import Notes
from parley.terminal.terminal_writer import TerminalWriter, abandon

MAX_LINES_AHEAD = 100


class MessengerScreen:
    """A terminal that the chat has for itself. Its lines end when the person has left it."""

    interactive = True

    def __init__(self, earlier: Iterable[str] = (), *, keys: Input | None = None, output: Output | None = None) -> None:
        """`earlier` lines can be recalled with the arrow keys."""
        self._earlier = tuple(earlier)
        self._writer: TerminalWriter | None = None
        if output is None:
            self._writer, output = TerminalWriter.of(sys.stdout)
        self._place = Place(keys, output, self._writer)
        self._notes = Notes()
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()  # bounded by _put
        self._desk: Desk | None = None
        self._has_ended = False

    def show(self, line: str) -> None:
        """Show a result as a note, or print it if the screen has ended."""
        self._tell("", line)

    def quiet(self, line: str) -> None:
        """Show a remark as a note, or print it if the screen has ended."""
        self._tell("class:quiet", line)

    def show_message(self, line: str) -> None:
        """Draw, because a message came or changed. What is drawn is its row."""
        if self._desk is not None:
            self._desk.changed()

    async def lines(self, view: ChatView) -> AsyncIterator[str]:
        """Yield the typed lines until the screen has ended."""
        while (line := await self._lines.get()) is not None:
            yield line

    async def work(self, client: ParleyClient, view: ChatView) -> None:
        """Have the terminal until the person leaves."""
        self._desk = desk = Desk(client, view, self._notes, self._put, self._earlier, self._place)
        try:
            async with asyncio.TaskGroup() as group:
                desk.feed.begin(group)
                try:
                    await desk.app.work()
                finally:
                    desk.app.leave_signals()
                    desk.feed.end()
                    with suppress(ParleyError, TimeoutError):
                        await desk.save_draft()
        finally:
            if self._writer is not None and not await self._writer.is_finished():
                abandon(sys.stdout.fileno(), sys.stderr.fileno())
            self._has_ended = True
            self._lines.put_nowait(None)

    def _put(self, line: str) -> bool:
        if self._lines.qsize() >= MAX_LINES_AHEAD:
            return False
        self._lines.put_nowait(line)
        return True

    def _tell(self, style: str, line: str) -> None:
        if self._has_ended:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
            return
        self._notes.add(style, line)
        self.show_message(line)
