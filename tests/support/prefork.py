"""`parley` and `parleyd` without their imports: one process imports a program, and each start of a test is a fork.

The imports are nine tenths of the time of a short command and half a second of a node's start, and tests start hundreds
of both. What has the program is `python -m tests.support.prefork SOCKET PROGRAM MODULE...`. A fork is a process of its
own with the streams, the environment and the folder that it was given, and it dies with the tests.

A command gets a `LAUNCHER`: a child of the test that passes signals on and ends as the fork ended. A node is a
`ForkedProcess`: its process id is that of the fork, so signals of the tests reach the node itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
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
request = json.dumps([sys.argv[2:], dict(os.environ), os.getcwd(), ignored, False, -1]).encode()
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
PR_SET_PDEATHSIG = 1


class ForkedProcess:
    """A fork, with what the tests use of subprocess.Popen."""

    def __init__(self, link: socket.socket) -> None:
        """`link` has told the request. If it is closed, the fork is killed."""
        self._link = link
        self.pid = int(link.recv(16))
        self.returncode: int | None = None
        link.setblocking(False)

    def poll(self) -> int | None:
        """Return how the process ended, None while it runs."""
        if self.returncode is None:
            with contextlib.suppress(BlockingIOError):
                self.returncode = os.waitstatus_to_exitcode(int(self._link.recv(16) or signal.SIGKILL))
                self._link.close()
        return self.returncode


class Prefork:
    """The process that has imported a program, and how processes are started with it."""

    def __init__(self, program: str, *modules: str) -> None:
        """Import `program`, whose main() is run, and `modules`, which it imports later."""
        self._program, self._modules = program, modules
        self._folder = ""
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self, *arguments: str, env: dict[str, str], **options: Any) -> asyncio.subprocess.Process:
        """Start the program. One whose environment changes the interpreter has an interpreter of its own."""
        own = {name: value for name, value in env.items() if value and name.startswith("PYTHON")}
        if own != {name: os.environ.get(name, "1") for name in ("PYTHONPATH", "PYTHONUTF8")}:
            command = (sys.executable, "-m", self._program, *arguments)
        else:
            command = (sys.executable, "-S", "-E", "-c", LAUNCHER, self._socket(env), *arguments)
        return await asyncio.create_subprocess_exec(*command, env=env, **options)

    def fork(self, arguments: Sequence[str], folder: Path, env: dict[str, str], output: int) -> ForkedProcess:
        """Start the program in a session of its own, without input, and with a file for stdout and stderr."""
        link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        link.connect(self._socket(env))
        request = json.dumps([list(arguments), env, str(folder), [], True, _umask()]).encode()
        with open(os.devnull, "rb") as nothing:
            socket.send_fds(link, [request], [nothing.fileno(), output, output])
            return ForkedProcess(link)

    def _socket(self, env: dict[str, str]) -> str:
        if self._process is None:
            self._folder = tempfile.mkdtemp(prefix="parley-")
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, f"{self._folder}/socket", self._program, *self._modules],
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            assert self._process.stdout is not None
            assert self._process.stdout.read(1) == b".", "the program could not be imported"
        return f"{self._folder}/socket"

    def stop(self) -> list[str]:
        """End the process; the next start makes another one. Return which forks still ran: they are killed."""
        if self._process is None:
            return []
        left, _ = self._process.communicate()  # the end of its input ends it
        shutil.rmtree(self._folder)
        self._process = None
        return left.decode().splitlines()


def _umask() -> int:
    os.umask(mask := os.umask(0))
    return mask


# Of this worker. They end with the tests (tests/conftest.py).
COMMANDS = Prefork("parley.cli")
NODES = Prefork("parleyd.__main__", "parleyd.cli", "parleyd.node")
CLUSTER_COMMANDS = Prefork("scripts.cluster", "scripts.cluster_cli")


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
    libc = ctypes.CDLL(None)
    own_pid = os.getpid()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(path)
    listening.listen(64)
    os.write(1, b".")
    running: list[_Command] = []
    while True:
        watched = [0, listening.fileno(), *(one.ended for one in running), *(one.link.fileno() for one in running)]
        ready, _, _ = select.select(watched, [], [])
        if 0 in ready:
            for one in running:
                os.write(1, f"{one.pid}\n".encode())
                os.kill(one.pid, signal.SIGKILL)
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
                libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() != own_pid:
                    os._exit(1)
                for opened in (listening, link, *(one.link for one in running)):
                    opened.close()
                for one in running:
                    os.close(one.ended)
                return become(request, descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
            link.send(str(pid).encode())
            running.append(_Command(link, pid, os.pidfd_open(pid)))


def become(request: bytes, descriptors: list[int]) -> list[str]:
    """Take over the streams, the environment and the folder of whoever started the command."""
    arguments, environment, folder, ignored, leads_session, umask = json.loads(request)
    if leads_session:
        os.setsid()
    if umask >= 0:
        os.umask(umask)
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
    _, path, program, *modules = sys.argv
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC reads it when it is imported; nodes set it before
    module = importlib.import_module(program)
    for name in modules:
        importlib.import_module(name)
    sys.argv = [str(Path(module.__file__ or program)), *serve(path)]
    sys.orig_argv = [sys.executable, "-m", program, *sys.argv[1:]]  # what a node that restarts becomes
    sys.exit(module.main())
