"""Tests that hang fail with a text, whatever they hang in; the others, the workers and the run live."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import time_limit

ROOT = Path(__file__).resolve().parents[3]

CONFTEST = """
from tests import time_limit
from tests.conftest import pytest_addoption, pytest_configure, pytest_sessionfinish, pytest_xdist_make_scheduler

time_limit.LONGEST_TICK_S = 1.0
time_limit.STRIKE_EVERY_S = 0.5
time_limit.STRIKES = 4
time_limit.AFTERWARDS_S = 2.0
"""

TESTS = """
import asyncio, os, signal, subprocess, sys, threading, time
import pytest

async def test_awaits():
    await asyncio.Event().wait()

async def test_awaits_in_a_task_of_a_group():
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.Event().wait(), name="the-one-that-hangs")

async def test_ignores_a_cancellation():
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.Event().wait()

async def test_blocks_the_loop():
    threading.Event().wait()

def test_blocks():
    threading.Event().wait()

def test_passes_when_interrupted():
    try:
        threading.Event().wait()
    except BaseException:
        pass

@pytest.fixture
async def slow_to_start():
    await asyncio.Event().wait()

def test_has_a_setup_that_hangs(slow_to_start):
    pass

@pytest.fixture
def slow_to_end():
    yield
    threading.Event().wait()

def test_has_a_teardown_that_hangs(slow_to_end):
    pass

def test_hears_nothing():
    subprocess.run(["sh", "-c", "sleep 601 >/dev/null 2>&1 &"], check=True)  # an orphan
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    threading.Event().wait()

STOP = "import os, signal, time; os.kill({0}, signal.SIGSTOP); time.sleep(4); os.kill({0}, signal.SIGCONT)"

@pytest.mark.timeout(20)
async def test_stands_still():
    async with asyncio.timeout(3):
        await (await asyncio.create_subprocess_exec(sys.executable, "-c", STOP.format(os.getpid()))).wait()

async def test_puts_something_in_the_place_of_sleep(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: 1 / 0)
    await asyncio.sleep(0.5)

def test_breaks_the_clock(monkeypatch):
    monkeypatch.setattr(os, "listdir", lambda _: 1 / 0)  # which the thread that counts calls
    threading.Event().wait()

def test_is_well():
    pass
"""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a run of TESTS prints, with a limit of a second."""
    folder = tmp_path_factory.mktemp("hanging")
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_hanging.py").write_text(TESTS)
    (folder / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
        "addopts = --import-mode=importlib -p no:cacheprovider -p no:pytest-qt\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadgroup", "-v", "--timeout", "1"],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def outcomes(output: str) -> dict[str, str]:
    return {name: outcome for outcome, name in re.findall(r"\] (PASSED|FAILED|ERROR) \S+::(\w+)", output)}


def test_what_hangs_fails_and_the_run_goes_on(output: str) -> None:
    assert outcomes(output) == {
        "test_awaits": "FAILED",
        "test_awaits_in_a_task_of_a_group": "FAILED",
        "test_ignores_a_cancellation": "FAILED",
        "test_blocks_the_loop": "FAILED",
        "test_blocks": "FAILED",
        "test_passes_when_interrupted": "FAILED",
        "test_has_a_setup_that_hangs": "ERROR",
        "test_has_a_teardown_that_hangs": "ERROR",
        "test_hears_nothing": "FAILED",
        "test_stands_still": "PASSED",
        "test_puts_something_in_the_place_of_sleep": "PASSED",
        "test_breaks_the_clock": "FAILED",
        "test_is_well": "PASSED",
    }, output
    assert "INTERNALERROR" not in output


def test_the_text_says_which_phase_and_where_everything_waits(output: str) -> None:
    assert "test_awaits reached its time limit of 1 s in call. The process ran for" in output
    assert "test_has_a_setup_that_hangs reached its time limit of 1 s in setup" in output
    assert "test_has_a_teardown_that_hangs reached its time limit of 1 s in teardown" in output
    assert "--- task the-one-that-hangs" in output


def test_a_worker_that_had_to_end_is_replaced_and_its_test_not_repeated(output: str) -> None:
    assert output.count("Nothing ended it. This process ends.") == 1, output
    crashed = r"worker '\w+' crashed while running '\S*test_hears_nothing'"
    assert len(re.findall(crashed, output.partition("short test summary")[0])) == 1, output


def test_a_worker_whose_clock_fails_ends_with_the_reason(output: str) -> None:
    """It waited for ever: nothing reached its time any more."""
    assert output.count("The thread that counts the time has failed.") == 1
    assert "ZeroDivisionError" in output


def test_processes_of_a_dead_worker_are_ended_and_named(output: str) -> None:
    assert re.search(r"Tests left processes behind, which were killed: \['\d+: sleep 601'\]", output)


def test_what_tests_start_hears_ctrl_c_also_when_the_tests_run_in_the_background() -> None:
    child = "import signal; signal.raise_signal(signal.SIGINT)"
    program = f"import subprocess, sys, tests.conftest; subprocess.run([sys.executable, '-c', {child!r}])"
    done = subprocess.run(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "KeyboardInterrupt" in done.stderr


def test_the_clock_never_goes_back_for_who_asks_while_a_tick_takes_waiting_off() -> None:
    clocks: list[time_limit.RunningTime] = []
    told = [0.0]

    def asked_meanwhile() -> dict[int, float]:
        told.extend(clock.now() for clock in clocks)
        return {os.getpid(): 10.0 * len(told)}  # waited all the time

    clock = time_limit.RunningTime(asked_meanwhile)
    clocks.append(clock)
    clock.tick()
    end = time.monotonic() + 0.005
    while time.monotonic() < end:
        pass
    clock.tick()
    assert len(told) == 3
    assert clock.now() >= told[-1]
