"""The two screens of a chat: a terminal with prompt, completion and toolbar, or plain lines in and out."""

import asyncio
import contextlib
import re
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import CancelledError
from typing import Protocol, TextIO

from prompt_toolkit import PromptSession, print_formatted_text
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.output import Output
from prompt_toolkit.patch_stdout import patch_stdout
from prompt_toolkit.shortcuts import CompleteStyle
from prompt_toolkit.styles import Style

from parley.chat import can_begin
from parley.terminal.chat_view import ChatView
from parley.terminal.standard_streams import StandardStreamError

STYLE = Style.from_dict({"bottom-toolbar": "noreverse #888888", "quiet": "#888888"})


_ACCOUNTS_AFTER = ("/dm", "/whisper", "/invite", "/remove")
_CHANNELS_AFTER = ("/join",)
_BEGINNING = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,63})?")
"""What may be typed of an account name."""


class TerminalScreen(Protocol):
    """The output and the input of a chat."""

    interactive: bool

    def show(self, line: str) -> None:
        """Print a result."""

    def quiet(self, line: str) -> None:
        """Print a remark."""

    def lines(self, view: ChatView) -> AsyncIterator[str]:
        """Yield the lines that the person types, until the end of input."""


class PlainScreen:
    """A screen for scripts, pipes and tests. Results go to stdout, remarks to stderr."""

    interactive = False

    def __init__(self, source: TextIO | None = None) -> None:
        """Read from `source`. Default: standard input."""
        self._source = source or sys.stdin

    def show(self, line: str) -> None:
        """Print a line and flush it, so that a program at the other end of a pipe receives it at once."""
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def quiet(self, line: str) -> None:
        """Print a remark to stderr."""
        sys.stderr.write(line + "\n")

    async def lines(self, view: ChatView) -> AsyncIterator[str]:
        """Yield the lines of the source.

        A thread reads at most one line ahead, because files cannot be awaited portably.
        """
        queue: asyncio.Queue[str | StandardStreamError | None] = asyncio.Queue(1)
        loop = asyncio.get_running_loop()

        def put(line: str | StandardStreamError | None) -> None:
            asyncio.run_coroutine_threadsafe(queue.put(line), loop).result()

        def read() -> None:
            try:
                for line in self._source:
                    put(line)
                put(None)
            except StandardStreamError as error:
                put(error)

        def read_until_nobody_takes() -> None:
            with contextlib.suppress(RuntimeError, ValueError, CancelledError):  # the chat has ended
                read()

        threading.Thread(target=read_until_nobody_takes, name="parley-stdin", daemon=True).start()
        while (line := await queue.get()) is not None:
            if isinstance(line, StandardStreamError):
                raise line
            yield line


class DumbScreen(PlainScreen):
    """A terminal that cannot move its cursor, as in an editor. What comes begins on a line of its own.

    The prompt is then printed again. What was typed before stays part of the line.
    """

    interactive = True

    def __init__(self, source: TextIO | None = None) -> None:
        """Read from `source`. Default: standard input."""
        super().__init__(source)
        self._prompt: Callable[[], str] = lambda: ""
        self._is_at_prompt = self._is_reading = False

    def show(self, line: str) -> None:
        """Print a line below what is typed, and the prompt again."""
        super().show(f"\n{line}" if self._is_at_prompt else line)
        self._is_at_prompt = False
        if self._is_reading:
            asyncio.get_running_loop().call_soon(self._draw)  # once for all lines that come together

    def quiet(self, line: str) -> None:
        """Print a remark."""
        self.show(line)

    async def lines(self, view: ChatView) -> AsyncIterator[str]:
        """Yield the typed lines."""
        self._prompt = lambda: view.prompt
        typed = super().lines(view)
        while True:
            self._is_reading = True
            self._draw()
            try:
                line = await anext(typed)
            except StopAsyncIteration:
                return
            finally:
                self._is_reading = self._is_at_prompt = False
            yield line

    def _draw(self) -> None:
        if self._is_reading and not self._is_at_prompt:
            self._is_at_prompt = True
            sys.stdout.write(self._prompt())
            sys.stdout.flush()


class Words(Completer):
    """Completes commands, account names where a name belongs, and mentions of members in a text."""

    def __init__(self, view: ChatView) -> None:
        self._view = view

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Yield what may stand at the end of the line."""
        before = document.text_before_cursor
        command, space, typed = before.partition(" ")
        if not before.startswith("/") or before.startswith("//") or (command == "/urgent" and space):
            yield from self._mentions(before)
            return
        words = self._names()
        if command in _ACCOUNTS_AFTER and space:
            words = tuple(name for name in words if not name.startswith("#"))
        elif command in _CHANNELS_AFTER and space:
            words = tuple(name for name in words if name.startswith("#"))
        elif before.startswith("/") and not space:
            words, typed = self._view.commands, before
        elif command != "/to":
            return
        for word in words:
            if word.lower().startswith(typed.lower()):
                yield Completion(word, start_position=-len(typed))

    def _mentions(self, before: str) -> Iterable[Completion]:
        """Yield the members that a mention at the end of the text may name."""
        start = before.rfind("@")
        typed = before[start + 1 :]
        if start < 0 or not _BEGINNING.fullmatch(typed):
            return
        if can_begin(before[:start]):
            for name in self._members():
                if name.casefold().startswith(typed.casefold()):
                    yield Completion(name, start_position=-len(typed))

    def _members(self) -> tuple[str, ...]:
        """Return the names of the other members of the open channel. Of a large one, some may only be known here."""
        view, book = self._view, self._view.chats.book
        key = None if view.target is None else view.chats.key_of(view.target)
        channel = None if key is None else view.chats.conversations.look(key).conversation
        if channel is None or not channel.is_shared:
            return ()
        accounts = [book.get(member.account_id) for member in channel.members if member.account_id != book.own_id]
        names = [one.name for one in accounts if one is not None and not one.deleted]
        if len(channel.members) < channel.member_count:
            known = map(book.find, view.names)  # no channel is found, and no account that was deleted since
            names += [one.name for one in known if one is not None and one.id != book.own_id]
        return tuple(sorted(dict.fromkeys(names), key=str.casefold))

    def _names(self) -> tuple[str, ...]:
        """Return the names of accounts and channels that were learned, or that have come into the list since then."""
        chats = self._view.chats
        listed = [f"#{item.title}" if item.channel else chats.target(item.key).account for item in chats.items()]
        return tuple(dict.fromkeys((*self._view.names, *filter(None, listed))))


class PromptScreen:
    """A terminal screen. It prints new lines above the prompt and keeps the line that is being typed whole."""

    interactive = True

    def __init__(self, earlier: Iterable[str] = (), *, keys: Input | None = None, output: Output | None = None) -> None:
        """`earlier` lines can be recalled with the arrow keys."""
        self._history = InMemoryHistory(list(earlier))
        self._keys = keys
        self._output = output

    def show(self, line: str) -> None:
        """Print a line above the prompt."""
        print_formatted_text(FormattedText([("", line)]), output=self._output, style=STYLE)

    def quiet(self, line: str) -> None:
        """Print a remark above the prompt, in grey."""
        print_formatted_text(FormattedText([("class:quiet", line)]), output=self._output, style=STYLE)

    async def lines(self, view: ChatView) -> AsyncIterator[str]:
        """Yield the typed lines until Ctrl-D. Ctrl-C empties the line."""
        session: PromptSession[str] = PromptSession(
            history=self._history,
            completer=Words(view),
            complete_style=CompleteStyle.READLINE_LIKE,
            bottom_toolbar=lambda: view.status_line,
            erase_when_done=True,
            enable_suspend=True,
            style=STYLE,
            input=self._keys,
            output=self._output,
        )
        view.changed = _redraw(session)
        session.default_buffer.on_text_changed += lambda buffer: view.types(buffer.text)
        with patch_stdout(raw=True):
            while True:
                try:
                    yield await session.prompt_async(lambda: view.prompt)
                except KeyboardInterrupt:
                    self.quiet("(Ctrl-D or /quit leaves)")
                except EOFError:
                    return


def _redraw(session: PromptSession[str]) -> Callable[[], None]:
    def redraw() -> None:
        if session.app.is_running:
            session.app.invalidate()

    return redraw
