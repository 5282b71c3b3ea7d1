"""`make first-minute` finds silent waits, starts without what this machine has stored, and leaves nothing behind."""

import os
import sys
from pathlib import Path

import pytest

from scripts import first_minute
from scripts.first_minute import FailedError, Minute, Program, environment_of

DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
SLOW = "import time; print('Installing ...', flush=True); time.sleep(0.3); print('done', flush=True); time.sleep(99)"


def test_a_silent_wait_is_found_with_the_line_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_minute, "SILENT_S", 0.2)
    minute = Minute()
    with Program(tmp_path, environment_of(tmp_path), sys.executable, "-c", SLOW) as slow:
        minute.until("begin", [slow], lambda: "Installing" in slow.shown)
        minute.until("work", [slow], lambda: "done" in slow.shown)
    [wait] = [wait for wait in slow.waits if wait.step == "work"]
    assert wait.after == "Installing ..."
    assert list(minute.steps) == ["begin", "work"]


def test_a_program_is_ended_even_if_it_ignores_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_minute, "END_S", 0.1)
    with Program(tmp_path, environment_of(tmp_path), sys.executable, "-c", DEAF) as one:
        Minute().until("begin", [one], lambda: "deaf" in one.shown)
    assert one._process.returncode is not None


def test_a_program_that_ends_too_early_is_told_with_what_it_showed(tmp_path: Path) -> None:
    with (
        Program(tmp_path, environment_of(tmp_path), sys.executable, "-c", "print('no space left')") as one,
        pytest.raises(FailedError, match="no space left"),
    ):
        Minute().until("begin", [one], lambda: False)


def test_a_newcomer_has_no_cache_and_no_settings_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PARLEY_HOSTS", "XDG_CACHE_HOME", "PIP_CACHE_DIR", "PYTHONPATH", "MAKEFLAGS", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, "mine")
    monkeypatch.setenv("SSL_CERT_FILE", "kept")
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    monkeypatch.setenv("PATH", os.pathsep.join((str(tmp_path / "venv" / "bin"), "/usr/bin")))
    environment = environment_of(tmp_path)
    assert "mine" not in environment.values()
    assert environment["SSL_CERT_FILE"] == "kept"
    assert (environment["HOME"], environment["PATH"]) == (str(tmp_path), "/usr/bin")
