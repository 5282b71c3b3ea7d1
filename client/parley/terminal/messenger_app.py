"""The application of the messenger: when it draws, and how it is stopped and goes on.

A stopped chat leaves the terminal with the modes that it had before, and takes it again when it goes on.
"""

import asyncio
import os
import signal
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from prompt_toolkit.application import Application, in_terminal
from prompt_toolkit.input import Input
from prompt_toolkit.output import Output

from parley.terminal.messenger_layout import STYLE
from parley.terminal.terminal_writer import TerminalWriter

DRAWN_EVERY_S = 0.03
HEARD_EVERY_S = 1.0
ESCAPE_S = 0.05


@dataclass(frozen=True, slots=True)
class Place:
    """Where the screen is. Without a writer, the output takes everything at once."""

    keys: Input | None
    output: Output | None
    writer: TerminalWriter | None


class MessengerApp(Application[None]):
    """An application that draws when its terminal has taken what was drawn before."""

    def __init__(self, place: Place, *, drawing: Callable[[], None], drawn: Callable[[], None], **parts: Any) -> None:
        """`drawing` is called before each drawing, `drawn` after it. `parts` are layout and key bindings."""
        super().__init__(
            **parts,
            style=STYLE,
            full_screen=True,
            min_redraw_interval=DRAWN_EVERY_S,
            refresh_interval=HEARD_EVERY_S,
            before_render=lambda _: drawing(),
            after_render=lambda _: drawn(),
            input=place.keys,
            output=place.output,
        )
        self.ttimeoutlen = self.timeoutlen = ESCAPE_S
        self._writer = place.writer
        self._modes = _modes_of(self.input)

    def _redraw(self, render_as_done: bool = False) -> None:
        writer = self._writer
        if writer is not None and writer.has_failed:
            self._leave_closed_terminal()
        elif render_as_done or writer is None or writer.is_ready(self.invalidate):
            super()._redraw(render_as_done)

    def _leave_closed_terminal(self) -> None:
        if self.is_running and not self.is_done:
            self.exit(exception=EOFError)

    async def work(self) -> None:
        """Have the terminal until the person leaves, or the terminal is closed."""
        with suppress(EOFError):
            await self.run_async(pre_run=self._take_signals, set_exception_handler=False)

    def draw_anew(self) -> None:
        """Draw everything, for a terminal that shows something else."""
        self.output.erase_screen()
        self.renderer.reset(leave_alternate_screen=False)
        self.invalidate()

    def stop(self) -> None:
        """Stop the process, and all of its job, until it goes on."""
        if hasattr(signal, "SIGTSTP"):
            self.create_background_task(self._stop())

    async def _stop(self) -> None:
        async with in_terminal():
            if self._writer is not None:
                await self._writer.written()
            with self._modes_before(), _default(signal.SIGTSTP, self.stop):
                os.kill(0, signal.SIGTSTP)  # it returns when the process goes on

    async def _go_on(self) -> None:
        """Set the terminal up and draw: after SIGSTOP, the shell has used it."""
        async with in_terminal():
            pass

    def _take_signals(self) -> None:
        """Handle the signals of job control. It is called in the context of the application, which they need."""
        with suppress(ValueError, RuntimeError, AttributeError, NotImplementedError):  # another thread or system
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTSTP, self.stop)
            loop.add_signal_handler(signal.SIGCONT, lambda: self.create_background_task(self._go_on()))

    def leave_signals(self) -> None:
        """Handle the signals of job control no longer."""
        with suppress(ValueError, RuntimeError, AttributeError, NotImplementedError):
            loop = asyncio.get_running_loop()
            loop.remove_signal_handler(signal.SIGTSTP)
            loop.remove_signal_handler(signal.SIGCONT)

    @contextmanager
    def _modes_before(self) -> Iterator[None]:
        """Give the terminal the modes that it had before the chat."""
        now = _modes_of(self.input)
        if now is None or self._modes is None:
            yield
            return
        termios.tcsetattr(self.input.fileno(), termios.TCSANOW, self._modes)
        try:
            yield
        finally:
            with suppress(termios.error):
                termios.tcsetattr(self.input.fileno(), termios.TCSANOW, now)


def _modes_of(keys: Input) -> list[Any] | None:
    try:
        return termios.tcgetattr(keys.fileno())
    except (termios.error, OSError, NotImplementedError):
        return None  # no terminal


@contextmanager
def _default(number: signal.Signals, handler: Callable[[], None]) -> Iterator[None]:
    """Let a signal do what it does by default."""
    loop = asyncio.get_running_loop()
    loop.remove_signal_handler(number)
    try:
        yield
    finally:
        with suppress(ValueError, RuntimeError):
            loop.add_signal_handler(number, handler)
