"""Keys go where a person expects them: letters into the field, and changes that cannot be made say why."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from parley import MessageStatus
from parley.gui.shortcuts import ELSEWHERE, IN_WINDOW
from tests.gui.test_main_window import Desktop, Keep

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorials" / "people.md"


@pytest.fixture
def desktop(qtbot: QtBot, closing: Keep) -> Desktop:
    return Desktop(qtbot, closing).signed_in()


@pytest.mark.parametrize("place", ["view", "list", "me", "new_button"])
def test_letters_typed_anywhere_go_into_the_field(desktop: Desktop, place: str) -> None:
    desktop.open()
    desktop.sdk.arrive("ben", "hello")
    desktop.until(lambda: desktop.rows)
    widget: QWidget = getattr(desktop.window.chat, place)
    widget.setFocus()
    desktop.until(widget.hasFocus)
    QTest.keyClicks(widget, "Hi")
    QTest.keyClicks(desktop.window.focusWidget(), " there")
    assert desktop.field == "Hi there"
    assert desktop.window.focusWidget() is desktop.window.chat.composer.editor


def test_what_is_pasted_anywhere_goes_into_the_field(desktop: Desktop) -> None:
    desktop.open()
    QGuiApplication.clipboard().setText("from elsewhere")
    view = desktop.window.chat.view
    view.setFocus()
    QTest.keyClick(view, Qt.Key.Key_V, Qt.KeyboardModifier.ControlModifier)
    assert desktop.field == "from elsewhere"


def test_letters_go_nowhere_while_no_conversation_is_open(desktop: Desktop) -> None:
    desktop.sdk.arrive("ben", "hello")
    desktop.until(lambda: desktop.items)
    chats = desktop.window.chat.list
    chats.setFocus()
    QTest.keyClicks(chats, "xyz")
    assert desktop.field == ""
    assert chats.hasFocus()


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (MessageStatus.SENDING, "under way"),
        (MessageStatus.ACCEPTED, "stored"),
    ],
)
def test_a_message_that_cannot_be_changed_any_more_says_why(desktop: Desktop, status: MessageStatus, why: str) -> None:
    desktop.open()
    desktop.type("hello")
    desktop.until(lambda: desktop.shows(("hello", MessageStatus.WAITING)))
    desktop.sdk.settle(1, status)
    desktop.until(lambda: desktop.shows(("hello", status)))
    view = desktop.window.chat.view
    for key in (Qt.Key.Key_F2, Qt.Key.Key_Delete):
        view.setFocus()
        view.setCurrentIndex(desktop.window.chat.rows.index(0))
        desktop.window.chat.composer.tell("")
        QTest.keyClick(view, key)
        assert why in desktop.note
    assert desktop.shows(("hello", status))


def test_up_says_why_the_last_message_cannot_be_changed_while_it_is_under_way(desktop: Desktop) -> None:
    desktop.open()
    desktop.type("hello")
    desktop.until(lambda: desktop.shows(("hello", MessageStatus.WAITING)))
    desktop.sdk.settle(1, MessageStatus.SENDING)
    desktop.until(lambda: desktop.shows(("hello", MessageStatus.SENDING)))
    QTest.keyClick(desktop.window.chat.composer.editor, Qt.Key.Key_Up)
    assert "under way" in desktop.note
    assert desktop.field == ""


def test_the_tutorial_has_every_key_that_the_window_lists() -> None:
    table = TUTORIAL.read_text().split("## All keys")[1]
    told = {key for line in table.splitlines() for key in re.split(r",? and |, |\| | ", line)}
    assert {key.rstrip(",") for key, _ in (*IN_WINDOW, *ELSEWHERE)} <= {key.rstrip(",") for key in told}
