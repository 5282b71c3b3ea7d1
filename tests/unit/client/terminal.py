"""A command on a pseudo-terminal, as a person at a keyboard meets it."""

import asyncio
import contextlib
import fcntl
import os
import pty
import struct
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

    @property
    def echoes(self) -> bool:
        """Whether the terminal shows what is typed, and gives it to a program line by line."""
        flags = termios.tcgetattr(self._keyboard)[3]
        return bool(flags & termios.ECHO and flags & termios.ICANON)

    def read(self) -> None:
        with contextlib.suppress(OSError):
            self._shown += os.read(self._keyboard, 65_536)

    def resize(self, columns: int, rows: int) -> None:
        """Give the terminal a size, which the system tells the command."""
        fcntl.ioctl(self._keyboard, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def take_nothing(self) -> None:
        """Read nothing from now on, as a connection that hangs."""
        asyncio.get_running_loop().remove_reader(self._keyboard)

    def take_again(self) -> None:
        """Read what was written meanwhile."""
        asyncio.get_running_loop().add_reader(self._keyboard, self.read)

    def close(self) -> None:
        """Close the terminal, as its window does. The command gets SIGHUP."""
        self.take_nothing()
        os.close(self._keyboard)
        self._keyboard = os.open(os.devnull, os.O_RDWR)

    def type(self, keys: bytes) -> None:
        """Press keys; \\x03 is Ctrl-C and \\x04 Ctrl-D."""
        os.write(self._keyboard, keys)

    async def shows(self, text: str) -> None:
        await Watched(self, 0).shows(text)

    async def end(self) -> int:
        async with asyncio.timeout(40):
            code = await self.process.wait()
        self.read()
        assert "Traceback" not in self.shown, self.shown
        return code


class Watched:
    """What a terminal shows from a moment on: now, unless it is given."""

    def __init__(self, terminal: Terminal, begin: int | None = None) -> None:
        self._terminal = terminal
        self._begin = len(terminal.shown) if begin is None else begin

    @property
    def text(self) -> str:
        return self._terminal.shown[self._begin :]

    async def shows(self, *parts: str) -> None:
        try:
            await until(lambda: all(part in self.text for part in parts), f"{parts} are shown")
        except AssertionError as error:
            error.add_note(self.text)
            raise


@asynccontextmanager
async def on_terminal(environment: dict[str, str], *arguments: str, in_shell: bool = False) -> AsyncIterator[Terminal]:
    """Run a command with a terminal of its own as its standard streams and its controlling terminal.

    In a shell, the command can be stopped. The shell then says its process id, and a line lets it go on.
    """
    keyboard, line = pty.openpty()
    loop = asyncio.get_running_loop()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _START if not in_shell else _SHELL,
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
        os.close(terminal._keyboard)


_SHELL = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
child = os.fork()
if child == 0:
    os.setpgid(0, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
for number in (signal.SIGTTOU, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
while os.WIFSTOPPED(status := os.waitpid(child, os.WUNTRACED)[1]):
    os.tcsetpgrp(0, os.getpgrp())
    print(f"stopped {child}.", flush=True)
    sys.stdin.readline()
    os.tcsetpgrp(0, child)
    os.killpg(child, signal.SIGCONT)
sys.exit(os.waitstatus_to_exitcode(status))
"""
_START = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
