"""The small files that the window reads at its start: what is no file in their place does not hold the window up."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from parley import private_file
from parley.gui import colours, geometry, last_place, lock_file, window_settings
from parley.gui.colours import ColourChoice
from parley.gui.last_place import Place
from parley.gui.lock_file import LockFile
from parley.gui.window_settings import WindowSettings

USUAL: dict[str, tuple[Callable[[Path], object], object]] = {
    colours.FILE_NAME: (colours.load, ColourChoice.SYSTEM),
    geometry.FILE_NAME: (geometry.load, b""),
    last_place.FILE_NAME: (last_place.load, Place()),
    lock_file.FILE_NAME: (lambda root: lock_file.load(root).has("ann"), True),
    window_settings.FILE_NAME: (lambda root: window_settings.load(root)[0], WindowSettings()),
}


@pytest.mark.parametrize("name", USUAL)
def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    load, usual = USUAL[name]
    assert load(tmp_path) == usual


@pytest.mark.parametrize("name", USUAL)
def test_a_file_that_is_far_too_large_is_not_read(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        file.truncate(1 << 40)
    load, usual = USUAL[name]
    assert load(tmp_path) == usual


def test_a_pipe_in_place_of_the_settings_is_told_of_in_words(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / window_settings.FILE_NAME)
    _, told = window_settings.load(tmp_path)
    assert "cannot be read" in told
    assert "it is no file" in told


def test_two_windows_that_change_one_file_at_once_keep_both_changes(tmp_path: Path) -> None:
    """Each window reads, changes and replaces the file. The other one waits meanwhile."""
    second = threading.Thread(
        target=lambda: lock_file.change(tmp_path, lambda kept: kept.changed("bella", locked=True)), daemon=True
    )

    def slowly(kept: LockFile) -> LockFile:
        second.start()
        second.join(0.2)
        return kept.changed("ann", locked=True)

    assert lock_file.change(tmp_path, slowly)[1]
    second.join()
    assert set(lock_file.load(tmp_path).accounts) == {"ann", "bella"}


def test_a_process_that_was_stopped_in_its_turn_holds_up_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private_file, "TURN_WITHIN_S", 0.02)
    with private_file.turn_to_change(tmp_path / lock_file.FILE_NAME):
        assert lock_file.change(tmp_path, lambda kept: kept.changed("ann", locked=True))[1]
    assert lock_file.load(tmp_path).has("ann")


def test_a_lock_is_on_the_disk_before_the_window_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("parley.private_file.os.fsync", full)
    assert lock_file.change(tmp_path, lambda kept: kept.changed("ann", locked=True)) == (LockFile(("ann",)), False)


def test_a_folder_that_cannot_be_written_is_told_and_the_choice_counts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    root = tmp_path / "file" / "state"
    assert lock_file.change(root, lambda kept: replace(kept, minutes=5))[1] is False
    settings, told = window_settings.change(root, WindowSettings(), lambda one: replace(one, sound=True))
    assert settings.sound
    assert "could not be stored" in told
