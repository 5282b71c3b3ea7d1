"""The states of the window that `make screenshots` draws: nothing is cut, and drawing leaves nothing behind."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import QAbstractButton, QApplication, QLabel, QLineEdit, QWidget

from parley.gui.direction import FROM_LEFT, FROM_RIGHT
from parley.gui.elided_label import ElidedLabel
from parley.gui.theme import DARK, LIGHT
from scripts.screenshot_scenes import MORE_SCENES, SCENES
from scripts.screenshots import shown
from tests.gui.test_main_window import contrast

EVERY = {name: scene for name, _, scene in (*SCENES, *MORE_SCENES)}
SMALLEST = QSize(640, 600)


def cut(part: QWidget) -> bool:
    """Whether a text has less room than it needs, or is outside of what it stands in."""
    if isinstance(part, ElidedLabel):
        return part.height() < part.fontMetrics().height()
    needed = part.sizeHint()
    if isinstance(part, QLabel) and part.wordWrap():
        needed = QSize(0, part.heightForWidth(part.width()))
    if isinstance(part, QLineEdit):
        needed = QSize(0, part.fontMetrics().height() + 4)
    if part.width() < needed.width() or part.height() < needed.height() - 1:
        return True
    holder = part.parentWidget()
    return holder is not None and not holder.rect().contains(part.geometry())


def cut_texts(front: QWidget) -> list[str]:
    """The texts of a window that nobody can read whole. What scrolls can be."""
    found: list[QLabel | QAbstractButton | QLineEdit] = [
        *front.findChildren(QLabel),
        *front.findChildren(QAbstractButton),
        *front.findChildren(QLineEdit),
    ]
    parts = [part for part in found if part.isVisible() and part.window() is front]
    return [f"{part.accessibleName()} {part.text()}: {part.size()} {part.sizeHint()}" for part in parts if cut(part)]


@pytest.mark.parametrize(("text_percent", "side"), [(100, FROM_LEFT), (150, FROM_RIGHT)])
@pytest.mark.parametrize("name", EVERY)
def test_nothing_is_cut_in_the_smallest_picture_and_nothing_is_left_behind(
    name: str,
    text_percent: int,
    side: Qt.LayoutDirection,
    qapp: QApplication,
    as_before: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    qapp.setLayoutDirection(side)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = set(qapp.topLevelWidgets())
    with shown(qapp, DARK, SMALLEST, EVERY[name], text_percent) as front:
        assert cut_texts(front) == []
        assert front.width() <= SMALLEST.width() or front.windowTitle() == "Cluster"
    assert list(tmp_path.iterdir()) == []
    assert set(qapp.topLevelWidgets()) <= before


def test_what_takes_input_can_be_told_from_its_ground() -> None:
    """As WCAG 1.4.11 asks it of a field."""
    for theme in (LIGHT, DARK):
        for ground in ("raised", "window", "side"):
            assert contrast(theme.color("edge"), theme.color(ground)) >= 3
