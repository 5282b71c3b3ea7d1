"""The small files that the window reads at its start: what is no file in their place does not hold the window up."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from parley.gui import colours, geometry, last_place, lock_file, window_settings
from parley.gui.colours import ColourChoice
from parley.gui.last_place import Place
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
