"""What `parleyd doctor` measures of a machine: bounded, and nothing of it stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from parleyd.doctor import machine
from parleyd.doctor.machine import is_clock_synchronised, look_at_disk, look_at_files, look_at_sync
from parleyd.open_files import MIN_FILES, RESERVED_FILES

LIMITS = """Limit                     Soft Limit           Hard Limit           Units
Max open files            {soft}                 524288               files
"""


def test_durable_writes_are_measured_and_the_folder_is_as_before(tmp_path: Path) -> None:
    times = count(step=0.004)
    look = look_at_sync(tmp_path, clock=lambda: next(times))
    assert look.error == ""
    assert look.median_ms == pytest.approx(4.0)
    assert look.longest_ms == pytest.approx(4.0)
    assert list(tmp_path.iterdir()) == []


def test_a_slow_disk_is_not_measured_for_long(tmp_path: Path) -> None:
    times = count(step=2.0)
    look = look_at_sync(tmp_path, clock=lambda: next(times))
    assert look.median_ms == pytest.approx(2_000.0)
    assert next(times) < 2.0 * 3 * machine.SYNCS / 2


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    assert "failed" in look_at_sync(tmp_path / "none").error


def test_a_full_disk_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "free_bytes_of", lambda _: machine.LEAST_FREE_BYTES - 1)
    monkeypatch.setattr(os, "fsync", None)
    assert "too little free space" in look_at_sync(tmp_path).error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_measurement_that_is_ended_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """The process says when it writes, and is ended then."""
    program = (
        "import os, sys, pathlib\n"
        "from parleyd.doctor import machine\n"
        "def fsync(_):\n    print('writing', flush=True)\n    sys.stdin.read()\n"
        "os.fsync = fsync\n"
        "machine.look_at_sync(pathlib.Path(sys.argv[1]))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.send_signal(number)
        assert process.wait(20) != 0
    assert list(tmp_path.iterdir()) == []


def test_free_space_is_that_of_the_disk_and_an_error_is_told(tmp_path: Path) -> None:
    look = look_at_disk(tmp_path, 7)
    assert look.free_bytes > 0
    assert (look.reserve_bytes, look.error) == (7, "")
    assert "cannot be measured" in look_at_disk(tmp_path / "none", 7).error


@pytest.mark.parametrize(("soft", "expected"), [("1024", 1024), ("unlimited", None)])
def test_the_limit_of_a_running_node_is_that_of_its_process(tmp_path: Path, soft: str, expected: int | None) -> None:
    (tmp_path / "42").mkdir()
    (tmp_path / "42" / "limits").write_text(LIMITS.format(soft=soft))
    look = look_at_files(1_000, 42, proc=tmp_path)
    assert (look.limit, look.of_node) == (expected, True)
    assert (look.needed, look.least) == (1_000 + RESERVED_FILES, MIN_FILES)


def test_without_a_node_that_can_be_asked_the_limit_is_that_of_this_user(tmp_path: Path) -> None:
    (tmp_path / "42").mkdir()
    (tmp_path / "42" / "limits").write_text("nothing\n")
    for pid in (0, 42, 43):
        assert not look_at_files(1_000, pid, proc=tmp_path).of_node


def test_the_own_process_has_a_limit_of_its_own() -> None:
    if sys.platform == "linux":
        assert look_at_files(1_000, os.getpid()).of_node


def test_whether_the_clock_is_synchronised_is_known_or_not_known() -> None:
    assert is_clock_synchronised() in (True, False, None)
