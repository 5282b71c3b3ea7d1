"""`make first-minute`: from `git clone` to the first message, in seconds, with empty caches and as the README says.

HEAD of this checkout is cloned into a temporary folder with a home of its own. `make run` is started there on a
terminal, then `make chat` for two people. One writes, the other receives. Every wait of more than two seconds in which
a terminal shows nothing new is reported with the line before it, which has to say what it is for.

Everything that was started is ended, also after Ctrl-C, SIGTERM and errors.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import platform
import pty
import re
import secrets
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "build" / "first-minute.json"
ALLOWED_S = 60.0
SILENT_S = 2.0
STEP_S = 600.0
END_S = 40.0
POLL_S = 0.05
COLUMNS, ROWS = 160, 50
CTRL_C = b"\x03"
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b.")
_OWN = re.compile(r"PARLEY_|XDG_|GIT_|MAKE|MFLAGS|PYTHON|VIRTUAL_ENV|HOME$|PIP_CACHE_DIR|UV_CACHE_DIR")
_START = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"


class FailedError(Exception):
    """A step did not come to its end. The text says what was shown."""


@dataclass(frozen=True, slots=True)
class Wait:
    """A time in which nothing new was shown."""

    step: str
    seconds: float
    after: str
    """The line before it."""


class Program:
    """A program on a terminal of its own."""

    def __init__(self, folder: Path, environment: dict[str, str], *words: str) -> None:
        self.shown = ""
        self.waits: list[Wait] = []
        self._name = " ".join(words)
        self._keyboard, line = pty.openpty()
        fcntl.ioctl(line, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self._heard_at = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, *words],
            cwd=folder,
            env={**environment, "TERM": "xterm"},
            stdin=line,
            stdout=line,
            stderr=line,
            start_new_session=True,
        )
        os.close(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """End the program as a person does, and by signals if that does not help."""
        try:
            if self._process.poll() is None:
                with contextlib.suppress(OSError):
                    self.type(CTRL_C)
                self._wait_for_end()
            if self._process.poll() is None:
                self._signal(signal.SIGTERM)
                self._wait_for_end()
            if self._process.poll() is None:
                self._signal(signal.SIGKILL)
                self._process.wait()
        finally:
            os.close(self._keyboard)

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._keyboard, keys)

    def listen(self, step: str) -> bool:
        """Take what is shown. Return false if the program has closed the terminal."""
        if not select.select([self._keyboard], [], [], POLL_S)[0]:
            return True
        now = time.monotonic()
        if now - self._heard_at > SILENT_S:
            self.waits.append(Wait(step, round(now - self._heard_at, 1), self.last_line))
        self._heard_at = now
        try:
            data = os.read(self._keyboard, 65_536)
        except OSError:
            return False
        self.shown += _ESCAPES.sub("", data.decode(errors="replace"))
        return bool(data)

    @property
    def last_line(self) -> str:
        """What was shown last."""
        return next((line.strip() for line in reversed(re.split(r"[\r\n]+", self.shown)) if line.strip()), "(nothing)")

    def failed(self, why: str) -> FailedError:
        """Return the error for a program that did not do its part."""
        return FailedError(f"{self._name}: {why}. It showed last:\n{self.shown[-2000:]}")

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _wait_for_end(self) -> None:
        until = time.monotonic() + END_S
        while self._process.poll() is None and time.monotonic() < until:
            if not self.listen("the end"):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(until - time.monotonic())


class Minute:
    """The steps and their times."""

    def __init__(self) -> None:
        self.steps: dict[str, float] = {}
        self._began = time.monotonic()

    def done(self, step: str) -> None:
        """Record the end of a step, which began at the end of the one before."""
        took = time.monotonic() - self._began - sum(self.steps.values())
        self.steps[step] = took
        print(f"{took:7.1f} s  {step}", flush=True)

    def until(self, step: str, programs: Sequence[Program], condition: Callable[[], bool]) -> None:
        """Wait until the terminals show something."""
        limit = time.monotonic() + STEP_S
        while not condition():
            for program in programs:
                if not program.listen(step):
                    raise program.failed("it ended")
            if time.monotonic() > limit:
                raise programs[0].failed(f"{step} took more than {STEP_S:.0f} s")
        self.done(step)


def environment_of(home: Path) -> dict[str, str]:
    """Return the environment of a newcomer: that of this process without its own folders, caches and settings."""
    kept = {name: value for name, value in os.environ.items() if not _OWN.match(name)}
    paths = [path for path in kept["PATH"].split(os.pathsep) if not (Path(path).parent / "pyvenv.cfg").exists()]
    return {**kept, "PATH": os.pathsep.join(paths), "HOME": str(home)}


def measure(folder: Path) -> tuple[dict[str, float], list[Wait]]:
    """Go through the first minute in this folder, which is empty. Return the seconds of the steps, and the waits."""
    clone, home = folder / "parley", folder / "home"
    home.mkdir()
    environment, minute, body = environment_of(home), Minute(), f"first message {secrets.token_hex(4)}"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], env=environment, check=True)
    minute.done("git clone")
    with contextlib.ExitStack() as stack:
        stack.callback(_stop_nodes, clone, environment)
        cluster = stack.enter_context(Program(clone, environment, "make", "run"))
        minute.until("make run: the environment", [cluster], lambda: "The environment is ready." in cluster.shown)
        minute.until("make run: three nodes", [cluster], lambda: _all_serve(cluster.shown))
        ann, ben = (
            stack.enter_context(Program(clone, environment, "make", "chat", f"ACCOUNT={name}", f"TO={to}"))
            for name, to in (("ann", "ben"), ("ben", "ann"))
        )
        programs = (ann, ben, cluster)
        minute.until(
            "make chat: two accounts", programs, lambda: all("Connected to" in one.shown for one in (ann, ben))
        )
        ann.type(body.encode() + b"\r")
        minute.until("the first message", programs, lambda: body in ben.shown)
        waits = [wait for program in programs for wait in program.waits]
    return minute.steps, waits


def _all_serve(shown: str) -> bool:
    """Return whether the latest table shows a leader and two followers."""
    table = shown[-COLUMNS * ROWS // 4 :]
    return "leader" in table and table.count("follower") >= 2


def _stop_nodes(clone: Path, environment: dict[str, str]) -> None:
    """End the nodes, if `make run` could not."""
    python = clone / ".venv" / "bin" / "python"
    if (clone / "var" / "cluster.json").exists() and python.exists():
        command: list[str | Path] = [python, "scripts/cluster.py", "--var", "var", "stop"]
        subprocess.run(command, cwd=clone, env=environment, check=False, capture_output=True)


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end this program as Ctrl-C does."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(arguments: Sequence[str]) -> int:
    """Measure once. Return 0 if the message arrived within the allowed time, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="first_minute", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--allowed", type=float, default=ALLOWED_S, metavar="S", help="fail above this (default: 60)")
    allowed_s: float = parser.parse_args(arguments).allowed
    load = os.getloadavg()[0]
    try:
        with _ended_by_signals(), tempfile.TemporaryDirectory(prefix="parley-first-minute-") as folder:
            steps, waits = measure(Path(folder))
    except FailedError as error:
        print(error, file=sys.stderr)
        return 1
    total = sum(steps.values())
    report = {
        "total_s": round(total, 1),
        "allowed_s": allowed_s,
        "steps_s": {name: round(seconds, 1) for name, seconds in steps.items()},
        "waits_over_2_s": [asdict(wait) for wait in waits],
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "load_before": round(load, 1)},
    }
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    for wait in waits:
        print(f"  silent for {wait.seconds} s, after: {wait.after}")
    print(f"{total:7.1f} s  from git clone to the first message ({REPORT.relative_to(ROOT)})")
    return 0 if total <= allowed_s else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
