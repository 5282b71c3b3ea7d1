"""`parley` without its imports: one process imports the program, and each command of a test is a fork of it.

The imports are nine tenths of the time of a short command, and tests start hundreds. What a test gets is a real process
(`LAUNCHER`) with the streams, the environment and the folder that it was given. It hands them to the process that has
the program (`python -m tests.support.prefork SOCKET`), passes signals on, and ends as the fork ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LAUNCHER = """
import array, json, os, signal, socket, sys
link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
link.connect(sys.argv[1])
pid = 0
waiting = []
def pass_on(number, frame):
    if pid:
        link.send(bytes([number]))
    else:
        waiting.append(number)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
    if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, pass_on)
ignored = [number for number in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_IGN]
request = json.dumps([sys.argv[2:], dict(os.environ), os.getcwd(), ignored]).encode()
descriptors = [0, 1, 2]
link.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))])
pid = int(link.recv(16))
for number in waiting:
    link.send(bytes([number]))
for descriptor in descriptors:
    os.close(descriptor)
status = int(link.recv(16) or 9)
if os.WIFSIGNALED(status):
    signal.signal(os.WTERMSIG(status), signal.SIG_DFL) if os.WTERMSIG(status) != signal.SIGKILL else None
    os.kill(os.getpid(), os.WTERMSIG(status))
os._exit(os.waitstatus_to_exitcode(status))
"""
MAX_REQUEST_BYTES = 1_000_000
_NEEDED = ("PATH", "PYTHONPATH", "PYTHONUTF8")


class Prefork:
    """The process that has imported the program, and how commands are started with it."""

    def __init__(self) -> None:
        self._folder = ""
        self._process: subprocess.Popen[bytes] | None = None

    async def start(
        self, program: str, *arguments: str, env: dict[str, str], **options: Any
    ) -> asyncio.subprocess.Process:
        """Start `python -m program`. One whose environment changes the interpreter has an interpreter of its own."""
        own = {name: value for name, value in env.items() if name.startswith("PYTHON")}
        if own != {name: os.environ.get(name, "1") for name in ("PYTHONPATH", "PYTHONUTF8")}:
            return await asyncio.create_subprocess_exec(sys.executable, "-m", program, *arguments, env=env, **options)
        command = (sys.executable, "-S", "-E", "-c", LAUNCHER, self._socket(program, env), *arguments)
        return await asyncio.create_subprocess_exec(*command, env=env, **options)

    def _socket(self, program: str, env: dict[str, str]) -> str:
        if self._process is None:
            self._folder = tempfile.mkdtemp(prefix="parley-")
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, f"{self._folder}/socket", program],
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            assert self._process.stdout is not None
            assert self._process.stdout.read(1) == b".", "the program could not be imported"
        return f"{self._folder}/socket"

    def stop(self) -> None:
        """End the process; the next start makes another one."""
        if self._process is not None:
            self._process.communicate()  # the end of its input ends it
            shutil.rmtree(self._folder)
            self._process = None


PREFORK = Prefork()
"""Of this worker. It ends with the tests (tests/conftest.py)."""


# ---- the process that has the program


@dataclass(frozen=True)
class _Command:
    """A fork: how it is told signals, and how its end is seen."""

    link: socket.socket
    pid: int
    ended: int

    def pass_on(self) -> bool:
        """Pass a signal on. Return false if the launcher was killed: the command is killed too."""
        number = b""
        with contextlib.suppress(ConnectionResetError):
            number = self.link.recv(1)
        os.kill(self.pid, number[0] if number else signal.SIGKILL)
        return bool(number)

    def close(self) -> None:
        """Tell the launcher how the command ended."""
        with contextlib.suppress(OSError):
            self.link.send(str(os.waitpid(self.pid, 0)[1]).encode())
        self.link.close()
        os.close(self.ended)


def serve(path: str) -> list[str]:
    """Fork for each connection until the input ends. Returns in the fork, with its arguments."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(path)
    listening.listen(64)
    os.write(1, b".")
    running: list[_Command] = []
    while True:
        watched = [0, listening.fileno(), *(one.ended for one in running), *(one.link.fileno() for one in running)]
        ready, _, _ = select.select(watched, [], [])
        if 0 in ready:
            sys.exit()
        for one in tuple(running):
            if one.ended in ready or (one.link.fileno() in ready and not one.pass_on()):
                running.remove(one)
                one.close()
        if listening.fileno() in ready:
            link, _ = listening.accept()
            request, descriptors, _, _ = socket.recv_fds(link, MAX_REQUEST_BYTES, 3)
            if not descriptors:  # the launcher was killed
                link.close()
                continue
            pid = os.fork()
            if not pid:
                for opened in (listening, link, *(one.link for one in running)):
                    opened.close()
                return become(request, descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
            link.send(str(pid).encode())
            running.append(_Command(link, pid, os.pidfd_open(pid)))


def become(request: bytes, descriptors: list[int]) -> list[str]:
    """Take over the streams, the environment and the folder of whoever started the command."""
    arguments, environment, folder, ignored = json.loads(request)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    return list(arguments)


if __name__ == "__main__":
    _, path, program = sys.argv
    module = __import__(program, fromlist=["main"])
    sys.argv = [str(Path(module.__file__ or program)), *serve(path)]
    module.main()
