"""A narrow window shows one column: the list, or the open conversation with a way back."""

from __future__ import annotations

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QPushButton
from pytestqt.qtbot import QtBot

from tests.gui.scripted import WARD
from tests.gui.test_channels import channel_changes
from tests.gui.test_main_window import Desktop, Keep


@pytest.fixture
def desktop(qtbot: QtBot, closing: Keep) -> Desktop:
    desktop = Desktop(qtbot, closing).signed_in()
    desktop.sdk.arrive("ben", "hello")
    desktop.until(lambda: desktop.items)
    return desktop


def columns(desktop: Desktop) -> tuple[bool, bool, bool]:
    """Whether the list, the messages and the way back can be seen."""
    chat = desktop.window.chat
    return chat.list.isVisible(), chat.view.isVisible(), back(desktop).isVisible()


def back(desktop: Desktop) -> QPushButton:
    found = desktop.window.chat.findChild(QPushButton, "back")
    assert isinstance(found, QPushButton)
    return found


def click_first(desktop: Desktop) -> None:
    chats = desktop.window.chat.list
    place = chats.visualRect(desktop.window.chat.items.index(0)).center()
    QTest.mouseClick(chats.viewport(), Qt.MouseButton.LeftButton, pos=place)


def test_a_narrow_window_shows_the_list_then_the_conversation_and_leads_back(desktop: Desktop) -> None:
    desktop.window.resize(640, 480)
    desktop.until(lambda: columns(desktop) == (True, False, False))
    desktop.until(lambda: desktop.window.chat.list.width() == 640)
    click_first(desktop)
    desktop.until(lambda: columns(desktop) == (False, True, True))
    desktop.until(lambda: desktop.window.chat.view.width() == 640)
    assert desktop.window.focusWidget() is desktop.window.chat.composer.editor
    desktop.type("half a sen", enter=False)
    QTest.mouseClick(back(desktop), Qt.MouseButton.LeftButton)
    desktop.until(lambda: columns(desktop) == (True, False, False))
    assert desktop.window.chat.list.hasFocus()
    desktop.until(lambda: desktop.items == [("Ben Ortiz (ben)", "half a sen", 0)])


def test_what_arrives_while_only_the_list_is_shown_stays_unread(desktop: Desktop) -> None:
    desktop.window.resize(640, 480)
    click_first(desktop)
    desktop.until(lambda: desktop.items[0][2] == 0)
    QTest.keyClick(desktop.window, Qt.Key.Key_Left, Qt.KeyboardModifier.AltModifier)
    desktop.until(lambda: columns(desktop) == (True, False, False))
    desktop.sdk.arrive("ben", "are you there?")
    desktop.until(lambda: desktop.items == [("Ben Ortiz (ben)", "are you there?", 1)])
    assert [up_to for _, up_to in desktop.sdk.read] == [1]


def test_a_window_that_becomes_wide_shows_both_columns_again(desktop: Desktop) -> None:
    desktop.window.resize(640, 480)
    click_first(desktop)
    desktop.until(lambda: columns(desktop) == (False, True, True))
    desktop.window.resize(1000, 700)
    desktop.until(lambda: columns(desktop) == (True, True, False))
    assert desktop.open_title == "Ben Ortiz (ben)"
    desktop.window.resize(640, 480)
    desktop.until(lambda: columns(desktop) == (False, True, True))


def test_a_long_title_and_topic_keep_no_window_wide(desktop: Desktop) -> None:
    title, topic = "Ward 4 " + "and the night shift of the house " * 8, "who is where " * 40
    desktop.sdk.arrive("dana", "hello", conversation=WARD)
    channel_changes(desktop, title=title, topic=topic)
    desktop.until(lambda: any(shown.startswith("Ward 4 and") for shown, _, _ in desktop.items))
    for width in (1000, 640, 480):
        desktop.window.resize(width, 480)
        desktop.window.open_conversation(desktop.window.chat.items.item(0).key)
        desktop.until(lambda: desktop.window.chat.title.text().startswith("Ward 4 and"))
        desktop.until(lambda width=width: desktop.window.chat.width() == width)  # type: ignore[misc]
        for label in (desktop.window.chat.title, desktop.window.chat.topic):
            desktop.until(lambda label=label: label.shown.endswith("…"))  # type: ignore[misc]
            assert label.mapTo(desktop.window, label.rect().topRight()).x() <= width


def test_what_is_said_beside_the_list_stands_above_it_in_a_narrow_window(qtbot: QtBot, closing: Keep) -> None:
    desktop = Desktop(qtbot, closing).signed_in()
    said = desktop.window.chat.above_list
    desktop.until(lambda: not said.isVisible())
    desktop.window.resize(640, 480)
    desktop.until(lambda: said.isVisible() and "begin one" in said.text())
    desktop.sdk.arrive("ben", "hello")
    desktop.until(lambda: desktop.items and not said.isVisible())
    desktop.window.chat.tell("The password is changed.")
    desktop.until(lambda: said.isVisible() and said.text() == "The password is changed.")
    desktop.window.resize(1000, 480)
    desktop.until(lambda: not said.isVisible() and desktop.window.chat.empty.isVisible())
