"""What is missing is said in one line, with the command that helps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from parley.gui import app, libraries

ROOT = Path(__file__).resolve().parents[2]
MISSING_EGL = "libEGL.so.1: cannot open shared object file: No such file or directory"


def test_a_missing_library_is_one_line_that_names_every_package_that_is_missing() -> None:
    absent = {"libEGL.so.1", "libfontconfig.so.1", "libxcb-cursor.so.0"}
    text = libraries.explain(MISSING_EGL, loads=lambda name: name not in absent)
    assert "\n" not in text
    assert text.endswith("libegl1 libfontconfig1 libxcb-cursor0")


def test_without_pyside_the_line_says_how_to_get_it() -> None:
    text = libraries.explain("No module named 'PySide6'")
    assert "\n" not in text
    assert "pip install '.[gui]'" in text


def test_the_window_says_it_and_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_name: str) -> None:
        raise ImportError(MISSING_EGL)

    monkeypatch.setattr("parley.gui.libraries.importlib.import_module", fail)
    assert app.run("localhost:1") == 1
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "libegl1" in error


def test_without_a_display_the_line_names_the_terminal() -> None:
    env = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    env.pop("QT_QPA_PLATFORM", None)
    done = subprocess.run(
        [sys.executable, "-m", "parley.cli", "gui", "--host", "localhost:1", "--insecure"],
        cwd=ROOT, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "There is no display here. The window needs a desktop; in a terminal use: parley chat\n"


def test_every_library_has_a_package() -> None:
    names = [*libraries.ANYWHERE, *libraries.FOR_X11]
    assert libraries.packages_of(names) == sorted({*libraries.ANYWHERE.values(), *libraries.FOR_X11.values()})


def run_script(tmp_path: Path, user: int, *, apt_works: bool = True) -> tuple[int, str, str]:
    """`gui_libraries.sh --pictures` where a library and two fonts are missing; what was installed, and what it says."""
    log = tmp_path / "installed"
    log.touch()
    programs = {
        "python": 'case "$*" in *libraries*) echo libegl1;; *--missing-fonts) printf "fonts-a\\nfonts-b\\n";; esac',
        "apt-get": f'[ "$1" = update ] || echo "$*" >> {log}; {"true" if apt_works else "false"}',
        "id": f"echo {user}",
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["bash", ROOT / "scripts" / "gui_libraries.sh", tmp_path / "python", "--pictures"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, log.read_text(), done.stderr


def test_the_fonts_of_the_pictures_are_installed_where_that_is_possible(tmp_path: Path) -> None:
    code, installed, _ = run_script(tmp_path, user=0)
    assert code == 0
    assert [line.rpartition("recommends ")[2] for line in installed.splitlines()] == ["libegl1", "fonts-a fonts-b"]


@pytest.mark.parametrize(("user", "apt_works"), [(1000, True), (0, False)])
def test_otherwise_the_command_to_run_is_named(tmp_path: Path, user: int, apt_works: bool) -> None:
    code, _, error = run_script(tmp_path, user, apt_works=apt_works)
    assert code == 1
    assert error == "This system lacks packages that the window needs. Run: sudo apt-get install libegl1\n"
