"""Removing a conversation in the window: by menu and key, after a question, and what another device removed."""

from __future__ import annotations

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QMenu, QMessageBox, QPushButton
from pytestqt.qtbot import QtBot

from parley import ListedChannel
from parley.gui.conversations import ITEM_ROLE
from parley.gui.removal import REMOVES_TEXT, STAYS_MEMBER_TEXT, STILL_SENT_TEXT
from tests.gui.scripted import WARD
from tests.gui.test_channels import channel_changes
from tests.gui.test_main_window import Desktop, Keep
from tests.gui.ward_and_ben import IN_WARD, newest_in_ward, ward_and_ben

WORDS = "Remove conversation…"


@pytest.fixture
def desktop(qtbot: QtBot, closing: Keep) -> Desktop:
    return ward_and_ben(qtbot, closing)


def menu(desktop: Desktop, row: int = 1) -> QMenu:
    item = desktop.window.chat.items.index(row).data(ITEM_ROLE)
    made: QMenu = desktop.window.row_actions.conversation_menu(item)
    return made


def choose(desktop: Desktop, row: int = 1) -> QMessageBox:
    next(action for action in menu(desktop, row).actions() if action.text() == WORDS).trigger()
    return question(desktop)


def question(desktop: Desktop) -> QMessageBox:
    box = desktop.window.row_actions.removal.question
    assert box is not None
    return box


def answer(desktop: Desktop, words: str) -> None:
    box = question(desktop)
    button = next(one for one in box.buttons() if one.text().replace("&", "") == words)
    assert isinstance(button, QPushButton)
    button.click()
    desktop.until(lambda: desktop.window.row_actions.removal.question is None)


def removed(desktop: Desktop, up_to: int) -> list[tuple[object, ...]]:
    return [("remove conversation", WARD.id, (str(up_to),))]


def test_the_menu_asks_with_the_title_and_removes_what_was_there_when_it_asked(desktop: Desktop) -> None:
    box = choose(desktop)
    assert (box.text(), box.informativeText()) == ("Remove Ward 4?", f"{REMOVES_TEXT} {STAYS_MEMBER_TEXT}")
    assert box.defaultButton() is box.button(QMessageBox.StandardButton.Cancel)
    seen = newest_in_ward(desktop)
    desktop.sdk.arrive("dana", "while it asks", conversation=WARD)
    desktop.until(lambda: newest_in_ward(desktop) > seen)
    answer(desktop, "Remove")
    desktop.until(lambda: desktop.sdk.asked == removed(desktop, seen))
    channel_changes(desktop, removed_up_to=seen)
    desktop.until(lambda: desktop.window.windowTitle().startswith("(1) "))
    assert len(desktop.items) == 2, "the newer message is still there"
    channel_changes(desktop, removed_up_to=newest_in_ward(desktop))
    desktop.until(lambda: len(desktop.items) == 1)
    assert not desktop.window.windowTitle().startswith("(")


def test_cancel_and_escape_remove_nothing(desktop: Desktop) -> None:
    choose(desktop)
    answer(desktop, "Cancel")
    QTest.keyClick(choose(desktop), Qt.Key.Key_Escape)
    desktop.until(lambda: desktop.window.row_actions.removal.question is None)
    assert desktop.sdk.asked == []


def test_the_key_asks_about_the_open_conversation_once_and_goes_back_to_the_list(desktop: Desktop) -> None:
    desktop.open(IN_WARD)
    keys = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier
    QTest.keyClick(desktop.window, Qt.Key.Key_Delete, keys)
    box = question(desktop)
    desktop.window.row_actions.removal.ask_open()
    assert question(desktop) is box
    answer(desktop, "Remove")
    desktop.until(lambda: desktop.sdk.asked == removed(desktop, newest_in_ward(desktop)))
    assert desktop.open_title == ""
    channel_changes(desktop, removed_up_to=newest_in_ward(desktop))
    desktop.until(lambda: len(desktop.items) == 1)


def test_without_an_open_conversation_the_key_asks_nothing(desktop: Desktop) -> None:
    desktop.window.close_conversation()
    desktop.window.row_actions.removal.ask_open()
    assert desktop.window.row_actions.removal.question is None


def test_what_has_no_message_is_not_offered(desktop: Desktop) -> None:
    desktop.open("carl")
    desktop.until(lambda: len(desktop.items) == 3)
    row = next(at for at in range(3) if desktop.window.chat.items.item(at).key == desktop.window.app_state.open_key)
    assert WORDS not in [action.text() for action in menu(desktop, row).actions()]
    desktop.window.row_actions.removal.ask_open()
    assert desktop.window.row_actions.removal.question is None


def test_the_question_says_that_own_messages_that_wait_are_still_sent(desktop: Desktop) -> None:
    desktop.sdk.unreachable = True
    desktop.type("still on its way")
    QTest.keyClick(desktop.window.chat.composer.editor, Qt.Key.Key_Return)
    desktop.until(
        lambda: bool(
            desktop.window.app_state.chats.conversations.look(desktop.window.app_state.chats.key_of("ben")).open
        )
    )
    box = choose(desktop, 0)
    assert STILL_SENT_TEXT in box.informativeText()
    assert STAYS_MEMBER_TEXT not in box.informativeText()
    answer(desktop, "Cancel")


def test_what_is_open_empties_and_stays_open_when_another_device_removes_it(desktop: Desktop) -> None:
    desktop.open(IN_WARD)
    desktop.until(lambda: desktop.window.chat.rows.rowCount() > 0)
    channel_changes(desktop, removed_up_to=newest_in_ward(desktop))
    desktop.until(lambda: desktop.window.chat.rows.rowCount() == 0)
    assert desktop.open_title == "Ward 4"
    desktop.sdk.arrive("dana", "news", conversation=WARD)
    desktop.until(lambda: desktop.window.chat.rows.rowCount() == 1)
    channel_changes(desktop, removed_up_to=newest_in_ward(desktop))
    desktop.window.close_conversation()
    desktop.until(lambda: len(desktop.items) == 1)


def test_a_channel_that_was_removed_and_not_left_is_opened_by_the_menu_like_one_to_join(desktop: Desktop) -> None:
    channel_changes(desktop, removed_up_to=newest_in_ward(desktop))
    desktop.until(lambda: len(desktop.items) == 1)
    desktop.sdk.channels = (ListedChannel(WARD, True),)
    desktop.window.commands.list_channels()
    actions = desktop.window.channel_actions
    desktop.until(lambda: actions.finder is not None)
    assert actions.finder is not None
    QTest.keyClick(actions.finder.field, Qt.Key.Key_Return)
    desktop.until(lambda: desktop.open_title == "Ward 4")
    assert desktop.window.chat.composer.editor.isVisible()


def test_without_a_majority_it_stays_in_the_list_and_the_window_says_why(desktop: Desktop) -> None:
    desktop.sdk.unreachable = True
    choose(desktop)
    answer(desktop, "Remove")
    desktop.until(lambda: desktop.note)
    assert len(desktop.items) == 2
