"""A command on a pseudo-terminal, as a person at a keyboard meets it."""

import asyncio
import contextlib
import os
import pty
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.unit.client.helpers import until

TERM = "xterm"


class Terminal:
    """The person's end of the terminal of one command."""

    def __init__(self, keyboard: int, process: asyncio.subprocess.Process, modes: list[object]) -> None:
        self.process = process
        self._keyboard = keyboard
        self._modes = modes
        self._shown = b""

    @property
    def shown(self) -> str:
        """Everything that was shown so far."""
        return self._shown.decode(errors="replace")

    @property
    def as_before(self) -> bool:
        """Whether the terminal has the modes that it had before the command, among them echo."""
        return termios.tcgetattr(self._keyboard) == self._modes

    def read(self) -> None:
        with contextlib.suppress(OSError):
            self._shown += os.read(self._keyboard, 65_536)

    def type(self, keys: bytes) -> None:
        """Press keys; \\x03 is Ctrl-C and \\x04 Ctrl-D."""
        os.write(self._keyboard, keys)

    async def shows(self, text: str) -> None:
        await until(lambda: text in self.shown, f"{text!r} is shown: {self.shown}")

    async def end(self) -> int:
        async with asyncio.timeout(40):
            code = await self.process.wait()
        self.read()
        assert "Traceback" not in self.shown, self.shown
        return code


@asynccontextmanager
async def on_terminal(environment: dict[str, str], *arguments: str) -> AsyncIterator[Terminal]:
    """Run a command with a terminal of its own as its standard streams and its controlling terminal."""
    keyboard, line = pty.openpty()
    loop = asyncio.get_running_loop()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _START,
        sys.executable,
        "-m",
        "parley.cli",
        *arguments,
        stdin=line,
        stdout=line,
        stderr=line,
        env={**environment, "TERM": TERM},
        start_new_session=True,
    )
    terminal = Terminal(keyboard, process, termios.tcgetattr(keyboard))
    os.set_blocking(keyboard, False)
    loop.add_reader(keyboard, terminal.read)
    try:
        yield terminal
    finally:
        loop.remove_reader(keyboard)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        os.close(line)
        os.close(keyboard)


_START = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
