"""The time limit of a test: it fails with a text that says where everything waits, and the run goes on.

pytest-timeout raises wherever the main thread happens to be. Inside an event loop that breaks the loop or is kept by an
innocent task, and between two tests it ends the whole worker. So only the markers and options of pytest-timeout are
used, and this plugin keeps the limit:

- It counts the time in which the test and what it started could run (`RunningTime`). Time in which the machine or the
  run stood still, or in which they waited for a processor, does not count.
- It acts only inside setup, call or teardown. A test that awaits is cancelled; one that blocks gets an exception; one
  that ignores both, again and again, ends its process after `STRIKES`, with all stacks on stderr.
- Event loops of the test process run on the same clock, so `asyncio.timeout(5)` means five such seconds, however busy
  the machine is, and a run that was stopped for a minute goes on as if nothing had happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import psutil
import pytest
import pytest_timeout  # type: ignore[import-untyped]

TICK_S = 0.2
LONGEST_TICK_S = 2.0
"""What a tick counts for at most: a later one means that the process stood still."""
STRIKE_EVERY_S = 5.0
STRIKES = 6
AFTERWARDS_S = 60.0
"""What teardown gets after the limit was reached, and Python to end after the last test."""
MOST_TASKS = 40
WATCHER = "time limit"
_sleep = time.sleep
"""A test may put something else in its place."""
RUNNER = re.compile(r"[/\\\\](_pytest|pytest|pluggy|execnet|xdist|pytest_asyncio)[/\\\\]|^<string>$|^<frozen runpy>$")


class TimeLimitError(BaseException):
    """Not an Exception, so that nothing that is tested takes it for an error of its own."""


class RunningTime:
    """A monotonic clock that goes only while this process, and what it started, can run.

    A tick that comes late counts for LONGEST_TICK_S: the process stood still. The time in which this process, or one it
    started, waited for a processor is taken off again: a busy machine has a slower clock.
    """

    def __init__(self, queued_s: Callable[[], dict[int, float]] | None = None) -> None:
        """`queued_s` returns how long processes have waited for a processor. Default: this one and its descendants."""
        self._longest_s = LONGEST_TICK_S
        self._read_queued_s = queued_s or _queued_by_process_s
        now = time.monotonic()
        self._mark = (now, now, now)  # counted, when, and what was told before
        # A tick moves the mark in another thread than the one that asks. A signal may come while its thread asks.
        self._lock = threading.RLock()
        self._queued_s = self._read_queued_s()

    def now(self) -> float:
        with self._lock:
            counted, at, told = self._mark
            return max(told, counted + min(time.monotonic() - at, self._longest_s))

    def tick(self) -> tuple[float, float, float]:
        """Seconds since the last tick: counted, stood still, and waited for a processor."""
        before, self._queued_s = self._queued_s, self._read_queued_s()
        waited = [now_s - before[process] for process, now_s in self._queued_s.items() if process in before]
        with self._lock:
            counted, at, told = self._mark
            now = time.monotonic()
            passed = min(now - at, self._longest_s)
            queued = min(max(waited, default=0.0), passed)
            self._mark = (counted + passed - queued, now, max(told, counted + passed))
        return passed - queued, now - at - passed, queued

    def go_on_without_ticks(self) -> None:
        """For a forked child, which has no thread that ticks."""
        self._longest_s = float("inf")
        self._lock = threading.RLock()  # the thread that ticks may have held the old one


def _queued_by_process_s() -> dict[int, float]:
    """How long the main threads of this process and its descendants were ready to run and had no processor.

    Empty where the system does not tell.
    """
    queued: dict[int, float] = {}
    open_ = [os.getpid()]
    while open_:
        process = open_.pop()
        with contextlib.suppress(OSError, IndexError, ValueError):
            queued[process] = int(Path(f"/proc/{process}/schedstat").read_text().split()[1]) / 1e9
            for thread in os.listdir(f"/proc/{process}/task"):
                open_ += map(int, Path(f"/proc/{process}/task/{thread}/children").read_text().split())
    return queued


@dataclass(slots=True)
class Running:
    """The test that runs now, and what it has used of its limit."""

    nodeid: str
    limit_s: float
    disable_debugger_detection: bool
    phase: str = ""  # empty between phases: nothing may be raised there
    used_s: float = 0.0
    stood_still_s: float = 0.0
    queued_s: float = 0.0
    strikes: int = 0
    text: str = ""  # set when the limit was reached in this phase

    def begin(self, phase: str) -> None:
        if self.text:
            self.limit_s, self.strikes, self.text = self.used_s + AFTERWARDS_S, 0, ""
        self.phase = phase

    def is_due(self) -> bool:
        return bool(self.phase) and self.used_s > self.limit_s + self.strikes * STRIKE_EVERY_S

    def headline(self) -> str:
        return f"{self.nodeid} reached its time limit of {self.limit_s:.0f} s in {self.phase}. {self.times()}"

    def times(self) -> str:
        return (
            f"The process ran for {self.used_s:.0f} s, stood still for {self.stood_still_s:.0f} s, "
            f"and waited {self.queued_s:.0f} s for a processor."
        )


class TimeLimit:
    """The plugin; `tests/conftest.py` registers it."""

    def __init__(self) -> None:
        self.clock = RunningTime()
        self._running: Running | None = None
        self._over_for_s = -1.0  # since the last test ended; negative before
        self._stderr = os.dup(2)  # pytest takes 2 away while a test runs
        self._main = threading.main_thread().ident
        setattr(asyncio.BaseEventLoop, "time", lambda _loop: self.clock.now())  # noqa: B010 - mypy refuses the plain form
        os.register_at_fork(after_in_child=self.clock.go_on_without_ticks)
        signal.signal(signal.SIGALRM, self._on_alarm)
        threading.Thread(target=self._watch, name=WATCHER, daemon=True).start()

    # ---- hooks

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> bool:
        """In place of pytest-timeout's own."""
        self._running = Running(item.nodeid, settings.timeout, bool(settings.disable_debugger_detection))
        return True

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_timeout_cancel_timer(self) -> bool:
        """Called after each failed phase too: teardown has its limit all the same."""
        return True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Generator[None, Any, Any]:
        try:
            return (yield)
        finally:
            self._running = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self) -> Generator[None, Any, Any]:
        with self._limited("setup"):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self) -> Generator[None, Any, Any]:
        with self._limited("call"):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self) -> Generator[None, Any, Any]:
        with self._limited("teardown"):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """A failure after a standstill says so: a wait inside another process may have ended during it."""
        report = yield
        if report.failed and self._running is not None:
            report.sections.append(("Time", self._running.times()))
        return report

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        self._over_for_s = 0.0

    @contextmanager
    def _limited(self, phase: str) -> Iterator[None]:
        running = self._running
        if running is None:
            yield
            return
        running.begin(phase)
        try:
            yield
        except (KeyboardInterrupt, pytest.exit.Exception):
            raise
        except BaseException:
            running.phase = ""
            if not running.text:
                raise
        finally:
            running.phase = ""
        if running.text:  # also if the test went on and passed: what cancelled it may have hit anything
            pytest.fail(running.text, pytrace=False)

    # ---- the thread that counts, and what it does to the main thread

    def _watch(self) -> None:
        try:
            self._count()
        except BaseException:
            # Without this thread the clock stands still, and nothing that waits would ever end.
            self._end_process(f"The thread that counts the time has failed.\n{traceback.format_exc()}")

    def _count(self) -> NoReturn:
        while True:
            _sleep(TICK_S)
            passed_s, stood_still_s, queued_s = self.clock.tick()
            if self._over_for_s >= 0:
                self._over_for_s += passed_s
                if self._over_for_s > AFTERWARDS_S:
                    self._end_process("All tests have ended, but Python does not end.")
            running = self._running
            if running is None:
                continue
            running.used_s += passed_s
            running.stood_still_s += stood_still_s
            running.queued_s += queued_s
            if running.is_due() and not (pytest_timeout.is_debugging() and not running.disable_debugger_detection):
                running.strikes += 1
                if running.strikes > STRIKES:
                    self._end_process(f"{running.headline()}\nNothing ended it. This process ends.")
                if self._main is not None:
                    signal.pthread_kill(self._main, signal.SIGALRM)

    def _on_alarm(self, _number: int, frame: FrameType | None) -> None:
        """Runs in the main thread, between any two instructions of it."""
        running = self._running
        if running is None or not running.phase:
            return
        if not running.text:
            running.text = f"{running.headline()}\n\n{describe_tasks()}{describe_threads(frame)}"
        loop = asyncio._get_running_loop()
        again = running.strikes > 1
        if loop is None or (again and _is_inside_a_callback(frame)):
            raise TimeLimitError(running.headline())
        waited_for = None if again else _task_the_test_waits_for(frame)
        for task in asyncio.all_tasks(loop) if waited_for is None else [waited_for]:
            loop.call_soon_threadsafe(task.cancel, running.headline())

    def _end_process(self, why: str) -> NoReturn:
        try:
            os.write(self._stderr, f"\n{why}\n{describe_threads(None)}\n".encode(errors="replace"))
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        finally:
            os._exit(1)


def _outward(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_inside_a_callback(frame: FrameType | None) -> bool:
    """Whether the loop runs somebody's code now, where an exception does not break the loop itself."""
    return any(outer.f_code is asyncio.Handle._run.__code__ for outer in _outward(frame))


def _task_the_test_waits_for(frame: FrameType | None) -> asyncio.Task[Any] | None:
    code = asyncio.BaseEventLoop.run_until_complete.__code__
    for outer in _outward(frame):
        if outer.f_code is code and isinstance(task := outer.f_locals.get("future"), asyncio.Task):
            return task
    return None


def describe_tasks() -> str:
    """Where each task of the running loop waits, from its own coroutine inwards."""
    loop = asyncio._get_running_loop()
    tasks = [] if loop is None else sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
    parts = []
    for task in tasks[:MOST_TASKS]:
        parts.append(f"--- task {task.get_name()}\n")
        coroutine: Any = task.get_coro()
        while coroutine is not None:
            frame = next((f for f in (getattr(coroutine, f"{k}_frame", None) for k in ("cr", "gi", "ag")) if f), None)
            if frame is not None:
                parts += traceback.format_stack(frame, limit=1)
            inner = (getattr(coroutine, name, None) for name in ("cr_await", "gi_yieldfrom", "ag_await"))
            coroutine = next((one for one in inner if one is not None), None)
    if len(tasks) > MOST_TASKS:
        parts.append(f"--- and {len(tasks) - MOST_TASKS} more tasks\n")
    return "".join(parts)


def describe_threads(main_frame: FrameType | None) -> str:
    """Where each thread is, without the runner's own; `main_frame` is where the main thread was before a signal."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, current in sys._current_frames().items():
        frame = main_frame if ident == threading.get_ident() else current
        where = [one for one in traceback.extract_stack(frame) if not RUNNER.search(one.filename)]
        if frame is not None and names.get(ident) != WATCHER and where:
            parts += [f"--- thread {names.get(ident, ident)}\n", *traceback.format_list(where)]
    return "".join(parts)
