"""The window opens what was open when it was closed, and nothing of that counts as read until somebody is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from parley import Target
from parley.gui import geometry
from parley.gui.last_place import FILE_NAME, MOST_ACCOUNTS, LastPlace, Place, load, save
from tests.gui.scripted import WARD, ScriptedSdk
from tests.gui.test_main_window import Desktop, Keep


class Started(Desktop):
    """A window that keeps its place in a directory."""

    def __init__(self, qtbot: QtBot, closing: Keep, root: Path, sdk: ScriptedSdk | None = None) -> None:
        super().__init__(qtbot, closing, sdk)
        self.place = LastPlace(self.window, root)

    def restarted(self, closing: Keep, root: Path) -> Started:
        """The window is closed and started again."""
        self.place.store()
        self.window.close()
        return Started(self.qtbot, closing, root)


def with_message(desktop: Started) -> Started:
    desktop.signed_in()
    desktop.sdk.arrive("ben", "all well?", conversation=WARD)
    desktop.until(lambda: desktop.items)
    return desktop


def test_the_open_conversation_opens_again_and_is_read_only_when_somebody_is_there(
    qtbot: QtBot, closing: Keep, tmp_path: Path
) -> None:
    first = with_message(Started(qtbot, closing, tmp_path))
    assert first.open_title == "", "at the first start nothing opens by itself"
    first.window.open_conversation(Target(conversation_id=WARD.id))
    again = first.restarted(closing, tmp_path)
    with_message(again)
    again.until(lambda: again.open_title == "Ward 4")
    again.until(lambda: again.rows)
    for _ in range(5):
        QTest.qWait(0)
    assert again.items[0][2] == 1
    assert again.sdk.read == []
    QTest.mouseClick(again.window.chat.view.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(5, 5))
    again.until(lambda: again.items[0][2] == 0)
    again.until(lambda: again.sdk.read)


def test_what_another_account_had_open_stays_closed(qtbot: QtBot, closing: Keep, tmp_path: Path) -> None:
    save(tmp_path, Place(0, (("dana", WARD.id), ("ann", 0))).with_opened("ann", 0))
    desktop = with_message(Started(qtbot, closing, tmp_path))
    assert desktop.open_title == ""


def test_a_conversation_that_is_gone_stays_closed_and_nothing_is_asked(
    qtbot: QtBot, closing: Keep, tmp_path: Path
) -> None:
    save(tmp_path, Place().with_opened("ann", 999_999))
    desktop = with_message(Started(qtbot, closing, tmp_path))
    assert desktop.open_title == ""
    assert not desktop.window.untouched


def test_the_list_is_as_wide_as_it_was(qtbot: QtBot, closing: Keep, tmp_path: Path) -> None:
    first = Started(qtbot, closing, tmp_path)
    first.signed_in()
    handle = first.window.chat.split.handle(1)
    QTest.mousePress(handle, Qt.MouseButton.LeftButton)
    QTest.mouseMove(handle, QPoint(80, 10))
    QTest.mouseRelease(handle, Qt.MouseButton.LeftButton, pos=QPoint(80, 10))
    width = first.window.chat.split.sizes()[0]
    assert width > 330
    first.window.resize(640, 500)  # one column has no width to keep
    again = first.restarted(closing, tmp_path)
    again.signed_in()
    again.until(lambda: again.window.chat.split.sizes()[0] == width)


def test_nothing_is_left_of_somebody_who_has_signed_out(qtbot: QtBot, closing: Keep, tmp_path: Path) -> None:
    desktop = with_message(Started(qtbot, closing, tmp_path))
    desktop.window.open_conversation(Target(conversation_id=WARD.id))
    desktop.place.store()
    assert load(tmp_path).of("ann") == WARD.id
    desktop.window.commands.sign_out()
    desktop.until(lambda: load(tmp_path) == Place())
    desktop.place.store()
    assert load(tmp_path) == Place()


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"list_width": 1}',
        b'{"list_width": "wide", "opened": {}}',
        b'{"list_width": -1, "opened": {}}',
        b'{"list_width": 1, "opened": []}',
        b'{"list_width": 1, "opened": {"ann": "ward"}}',
        b'{"list_width": 1, "opened": {"ann": 99999999999999999999}}',
        b"[" * 50_000,
    ],
)
def test_a_damaged_file_counts_as_none(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(damage)
    assert load(tmp_path) == Place()
    save(tmp_path, Place(300, (("ann", 7),)))
    assert load(tmp_path) == Place(300, (("ann", 7),))


def test_the_places_of_many_accounts_are_bounded_and_names_ignore_case(tmp_path: Path) -> None:
    place = Place()
    for number in range(1, MOST_ACCOUNTS + 10):
        place = place.with_opened(f"Account{number}", number)
    assert len(place.opened) == MOST_ACCOUNTS
    assert place.of("ACCOUNT70") == 70
    assert place.of("account1") == 0
    save(tmp_path / "none" / "yet", place)
    assert load(tmp_path / "none" / "yet") == place
    save(Path("/proc/nowhere"), place)


def test_the_first_window_is_no_larger_than_its_screen_and_a_later_one_is_as_it_was(qtbot: QtBot) -> None:
    """With text at 150 % a small screen has fewer of the window's pixels: the field was below its edge."""
    first, later = QWidget(), QWidget()
    for window in (first, later):
        qtbot.addWidget(window)
        window.resize(10_000, 9_000)
    geometry.place(first, b"")
    assert first.size() == first.screen().availableSize()
    first.resize(500, 400)
    geometry.place(later, bytes(first.saveGeometry().data()))
    assert later.size() == first.size()
