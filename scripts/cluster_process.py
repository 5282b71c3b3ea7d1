"""Node processes on this machine: start, find again from another terminal, signal, end.

A process is identified by its id and its start time, so no other process with a reused id is ever signalled. `wanted`
is false if a person stopped the node. `--restart` does not start such a node. All changes to a node's record happen
under a lock on the folder, because two terminals may act at once.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar, Protocol

import psutil

from scripts.cluster_layout import ClusterError, Layout, taken_addresses

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ("-m", "parleyd")
STOP_TIMEOUT_S = 15.0  # a node gives itself ten
PORT_RELEASE_S = 2.0

# Dies with whoever started it (Linux), so that a killed test run leaves no nodes behind. A tiny launcher rather than
# `preexec_fn`, which is unsafe in a process with threads; the setting outlives exec.
DIE_WITH_PARENT = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); "
    "os.getppid() == int(sys.argv[1]) and os.execv(sys.argv[2], sys.argv[2:])"
)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class ProcessState(enum.Enum):
    """The state of a node's process, found without asking the node."""

    UP = "up"
    PAUSED = "paused"
    DOWN = "down"  # died or was killed
    STOPPED = "stopped"  # a person asked for it, or it was never started


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """The process that runs a node, as written to `process.json`."""

    pid: int
    create_time: float
    wanted: bool


class NodeProcess(Protocol):
    """What is used of a child process."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None:
        """Return how it ended, None while it runs."""


class ForkNode(Protocol):
    """What starts a process that has `parleyd` loaded."""

    def __call__(self, arguments: Sequence[str], folder: Path, env: dict[str, str], output: int) -> NodeProcess:
        """Start `parleyd` with these arguments and nothing else of this process."""


class Processes:
    """The processes of one cluster folder. Several of these objects, in several terminals, may manage one folder."""

    fork: ClassVar[ForkNode | None] = None
    """Starts nodes that die with this process. Tests set it, so that not every node loads the libraries."""

    def __init__(self, layout: Layout, *, die_with_parent: bool = False) -> None:
        """With `die_with_parent`, nodes end when this process ends in any way. Tests and demos use it."""
        self.layout = layout
        self._die_with_parent = die_with_parent and sys.platform == "linux"
        self._children: dict[str, NodeProcess] = {}
        self.programs: dict[str, Sequence[str]] = {}  # what Python runs as a node, where it is not `parleyd`

    def start(self, name: str) -> int:
        """Start a node and return its process id. If it runs already, do nothing."""
        with self._locked():
            if (running := self.find(name)) is not None:
                self._write(name, ProcessRecord(running.pid, running.create_time(), wanted=True))
                return running.pid
            if taken := self._still_taken(name):
                raise ClusterError(
                    f"{name} was not started: {' and '.join(taken)} {'is' if len(taken) == 1 else 'are'} taken"
                    f"{_holder(taken)}. End that program, then: {self.layout.script} start {name}"
                )
            child = self._spawn(name)
            self._children[name] = child
            self._write(name, ProcessRecord(child.pid, _create_time(child.pid), wanted=True))
            return child.pid

    def _still_taken(self, name: str) -> list[str]:
        """Return the node's addresses that stay taken.

        A process killed a moment ago may still hold its own for a while.
        """
        deadline = time.monotonic() + PORT_RELEASE_S
        while (taken := taken_addresses([self.layout.node(name)])) and time.monotonic() < deadline:
            time.sleep(0.02)
        return taken

    def find(self, name: str) -> psutil.Process | None:
        """Return the live process of a node, or None."""
        self.reap()
        record = self._read(name)
        if record is None:
            return None
        child = self._children.get(name)
        if child is not None and child.pid == record.pid:
            # Our own children tell for certain; a zombie whose threads still run holds its ports and files.
            with contextlib.suppress(psutil.NoSuchProcess):
                return psutil.Process(child.pid) if child.returncode is None else None
            return None
        try:
            process = psutil.Process(record.pid)
            same = abs(process.create_time() - record.create_time) < 1.0
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def state(self, name: str) -> ProcessState:
        """Return whether the node is up, paused, down or stopped."""
        process = self.find(name)
        if process is None:
            record = self._read(name)
            return ProcessState.DOWN if record is not None and record.wanted else ProcessState.STOPPED
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() == psutil.STATUS_STOPPED:
                return ProcessState.PAUSED
        return ProcessState.UP

    def exit_code(self, name: str) -> int | None:
        """Return the exit code of a node started by this object, negative for a signal. None while it runs."""
        child = self._children.get(name)
        return None if child is None else child.poll()

    def last_words(self, name: str) -> str:
        """Return the last lines of a node's log. Empty if it could write none, for example after kill -9."""
        with contextlib.suppress(FileNotFoundError), self.layout.log_file(name).open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 8192))
            said = [line for line in log.read().decode(errors="replace").splitlines() if line.startswith("parleyd: ")]
            killed = (self.exit_code(name) or 0) < 0
            return said[-1].removeprefix("parleyd: ") if said and not killed else ""
        return ""

    def reap(self) -> None:
        """Collect the exit codes of children that ended, so that they leave the process table."""
        for child in self._children.values():
            child.poll()

    def kill(self, name: str) -> int:
        """Kill a node with SIGKILL, as a crash would.

        Return once it is gone. The node counts as down, not as stopped.
        """
        self._running(name)
        return self._end([name], signal.SIGKILL, wanted=True).get(name, 0)

    def pause(self, name: str) -> int:
        """Send SIGSTOP. The node lives but is silent, like a machine that hangs."""
        return self._signal(name, signal.SIGSTOP)

    def resume(self, name: str) -> int:
        """Send SIGCONT, after `pause`."""
        return self._signal(name, signal.SIGCONT)

    def terminate(self, name: str) -> int:
        """Send SIGTERM without waiting, to observe a planned stop from outside."""
        return self._signal(name, signal.SIGTERM)

    def stop(self, names: Iterable[str], *, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stop running nodes as planned (SIGTERM). Kill those that take longer than `timeout_s`."""
        running = []
        for name in names:
            if (process := self.find(name)) is not None:
                process.resume()  # a paused process would not hear SIGTERM
                running.append(name)
            elif (record := self._read(name)) is not None:
                self._write(name, replace(record, wanted=False))
        self._end(running, signal.SIGTERM, wanted=False, timeout_s=timeout_s)

    def _spawn(self, name: str) -> NodeProcess:
        arguments = ["start", "--config", str(self.layout.config_file(name))]
        # Settings of the person's shell are not settings of these nodes: the file alone says.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PARLEY")}
        if self.layout.events_file.exists():
            environment["PARLEYD_LOG_COMMANDS"] = "yes"
        program = self.programs.get(name, PROGRAM)
        command = [sys.executable, *program, *arguments]
        if self._die_with_parent:
            command = [sys.executable, "-c", DIE_WITH_PARENT, str(os.getpid()), *command]
        with open(self.layout.log_file(name), "ab", opener=_open_private) as log:
            if self.fork is not None and self._die_with_parent and program == PROGRAM:
                return self.fork(arguments, ROOT, environment, log.fileno())
            # A session of its own: Ctrl-C in this terminal reaches the supervisor, which stops nodes in good order.
            return subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _signal(self, name: str, number: signal.Signals) -> int:
        process = self._running(name)
        process.send_signal(number)
        return process.pid

    def _running(self, name: str) -> psutil.Process:
        process = self.find(name)
        if process is None:
            raise ClusterError(f"{name} is not running. To start it: {self.layout.script} start {name}")
        return process

    def _end(
        self, names: Sequence[str], number: signal.Signals, *, wanted: bool, timeout_s: float = STOP_TIMEOUT_S
    ) -> dict[str, int]:
        ending: dict[str, psutil.Process] = {}
        with self._locked():
            for name in names:
                if (process := self.find(name)) is None:
                    continue  # ended by itself meanwhile
                self._write(name, ProcessRecord(process.pid, process.create_time(), wanted=wanted))
                process.send_signal(number)
                ending[name] = process
        pids = {name: process.pid for name, process in ending.items()}
        deadline = time.monotonic() + timeout_s
        while ending := {name: process for name, process in ending.items() if self.find(name) is not None}:
            if time.monotonic() > deadline:
                for process in ending.values():
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
                deadline += timeout_s
            time.sleep(0.01)
        return pids

    def _read(self, name: str) -> ProcessRecord | None:
        try:
            return ProcessRecord(**json.loads((self.layout.folder(name) / "process.json").read_text()))
        except FileNotFoundError:
            return None

    def _write(self, name: str, record: ProcessRecord) -> None:
        file = self.layout.folder(name) / "process.json"
        part = file.with_name(f"process.json.{os.getpid()}.part")
        part.write_text(json.dumps(asdict(record)))
        part.replace(file)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.layout.root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@contextlib.contextmanager
def supervising(layout: Layout) -> Iterator[None]:
    """Hold the folder's supervisor lock, so that only one `up` runs.

    The system frees it even if this process is killed.
    """
    with (layout.root / "supervisor.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ClusterError(
                f"The cluster in {layout.root} is already run from another terminal. "
                f"Look at it with: {layout.script} status"
            ) from None
        yield


def _create_time(pid: int) -> float:
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0.0


def _holder(addresses: Sequence[str]) -> str:
    """Return the process that listens there, if the system reports it."""
    with contextlib.suppress(psutil.AccessDenied):
        for connection in psutil.net_connections("tcp4"):
            if connection.status != psutil.CONN_LISTEN or not connection.laddr or not connection.pid:
                continue
            if f"{connection.laddr.ip}:{connection.laddr.port}" in addresses:
                return f" by process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return ""
