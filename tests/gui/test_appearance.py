"""How things look: the colours one chose, the time zone of the machine now, tabs, and no line for what is nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QFontMetricsF
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QMenu, QWidget
from pytestqt.qtbot import QtBot

from parley import MessageStatus
from parley.chat import clock_time, forget_zone
from parley.gui import colours
from parley.gui.bubble import BubbleDelegate
from parley.gui.colours import ColourChoice
from parley.gui.theme import DARK, LIGHT
from tests.gui.scripted import BASE_MS
from tests.gui.test_main_window import Desktop, Keep
from tests.gui.test_thread_view import Shown
from tests.gui.test_thread_view import message as said


@pytest.fixture
def desktop(qtbot: QtBot, closing: Keep) -> Desktop:
    return Desktop(qtbot, closing).signed_in()


# ---- colours


def pick(desktop: Desktop, *words: str) -> None:
    """The person opens the account menu and clicks through it."""
    QTest.mouseClick(desktop.window.chat.me, Qt.MouseButton.LeftButton)
    for word in words:
        desktop.until(lambda word=word: found(word) is not None)  # type: ignore[misc]
        menu, action = found(word) or (QMenu(), QAction())
        QTest.mouseClick(menu, Qt.MouseButton.LeftButton, pos=menu.actionGeometry(action).center())


def found(word: str) -> tuple[QMenu, QAction] | None:
    menu: QWidget | None = QApplication.activePopupWidget()
    if not isinstance(menu, QMenu):
        return None
    return next(((menu, action) for action in menu.actions() if action.text() == word), None)


def test_a_person_chooses_the_colours_whatever_the_desktop_has(desktop: Desktop, as_before: None) -> None:
    ground = desktop.window.chat.view
    assert ground.grab().toImage().pixelColor(5, 5).lightness() > 200
    desktop.open()
    pick(desktop, "Colours", "Dark")
    desktop.until(lambda: desktop.window.colours.theme is DARK)
    assert ground.grab().toImage().pixelColor(5, 5).lightness() < 60
    pick(desktop, "Colours", "Like the system")
    desktop.until(lambda: desktop.window.colours.theme is LIGHT)


def test_the_choice_is_kept_for_the_next_start_and_a_damaged_file_means_the_system(tmp_path: Path) -> None:
    assert colours.load(tmp_path / "none") is ColourChoice.SYSTEM
    for choice in ColourChoice:
        colours.save(tmp_path / "kept", choice)
        assert colours.load(tmp_path / "kept") is choice
    for damage in (b"", b"purple", b"\xff" * 10_000):
        (tmp_path / "kept" / colours.FILE_NAME).write_bytes(damage)
        assert colours.load(tmp_path / "kept") is ColourChoice.SYSTEM
    colours.save(Path("/proc/nowhere"), ColourChoice.DARK)


# ---- the time zone

ZONES = Path("/usr/share/zoneinfo")


@pytest.fixture
def zone(tmp_path: Path) -> Iterator[Path]:
    """The file that names the zone of this machine."""
    if not (ZONES / "Asia/Tokyo").exists():
        pytest.skip("this machine has no table of time zones")
    before = os.environ.get("TZ")
    file = tmp_path / "localtime"
    file.symlink_to(ZONES / "Europe/Berlin")
    os.environ["TZ"] = f":{file}"
    time.tzset()
    forget_zone()
    yield file
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()
    forget_zone()


def test_after_a_journey_all_times_are_those_of_the_new_zone(zone: Path, qtbot: QtBot, closing: Keep) -> None:
    desktop = Desktop(qtbot, closing).signed_in().open()
    desktop.sdk.arrive("ben", "hello")
    desktop.until(lambda: desktop.rows)
    row = desktop.window.chat.rows.row(0)
    assert clock_time(row.at_ms) == "10:53"
    before = desktop.window.chat.view.viewport().grab().toImage()
    desktop.announced()
    zone.unlink()
    zone.symlink_to(ZONES / "Asia/Tokyo")
    assert clock_time(row.at_ms) == "10:53", "nobody has looked yet"
    desktop.window.activateWindow()
    desktop.until(lambda: clock_time(row.at_ms) == "17:53")
    desktop.until(lambda: desktop.window.chat.view.viewport().grab().toImage() != before)
    assert row.at_ms == BASE_MS + 1000


# ---- tabs


def test_a_tab_is_as_wide_as_four_spaces(qtbot: QtBot) -> None:
    one = Shown(qtbot, range(1, 2))
    one.model.apply(one.thread.arrive([said(2, "a\tb"), said(4, "a   b")]))
    widths = []
    for at in (1, 2):
        bubble = one.delegate.bubble_rect(one.model.row(at), one.view.visualRect(one.model.index(at)))
        widths.append(bubble.width())
    space = QFontMetricsF(BubbleDelegate(LIGHT, QApplication.font())._fonts.body).horizontalAdvance(" ")
    assert abs(widths[0] - widths[1]) <= 2 * space


# ---- names that do not exist


def test_a_name_that_does_not_exist_leaves_the_list_with_its_last_message(desktop: Desktop) -> None:
    desktop.sdk.arrive("ben", "hello")
    desktop.until(lambda: desktop.items)
    QTest.keyClick(desktop.window, Qt.Key.Key_N, Qt.KeyboardModifier.ControlModifier)
    finder = desktop.window.conversation_finder.finder
    assert finder is not None
    QTest.keyClicks(finder.field, "nobody")
    QTest.keyClick(finder.field, Qt.Key.Key_Return)
    desktop.until(lambda: desktop.open_title == "nobody")
    desktop.type("are you there?")
    desktop.until(lambda: desktop.shows(("are you there?", MessageStatus.WAITING)))
    desktop.sdk.settle(1, MessageStatus.FAILED, "there is no account nobody")
    desktop.until(lambda: desktop.shows(("are you there?", MessageStatus.FAILED)))
    view = desktop.window.chat.view
    desktop.window.activateWindow()
    view.setFocus()
    desktop.until(view.hasFocus)
    view.setCurrentIndex(desktop.window.chat.rows.index(0))
    QTest.keyClick(view, Qt.Key.Key_Delete)
    desktop.until(lambda: desktop.rows == [])
    assert "nobody" in [title for title, _, _ in desktop.items], "it is open still"
    QTest.keyClick(desktop.window, Qt.Key.Key_Up, Qt.KeyboardModifier.AltModifier)
    desktop.until(lambda: [title for title, _, _ in desktop.items] == ["Ben Ortiz (ben)"])
