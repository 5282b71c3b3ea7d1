"""What was put away in the window: the menu and the key, the line below the list, the way back, the badge."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QMenu
from pytestqt.qtbot import QtBot

from parley.gui.conversations import ITEM_ROLE, spoken_item
from parley.gui.last_place import Place, save
from tests.gui.scripted import WARD
from tests.gui.test_channels import channel_changes
from tests.gui.test_last_place import Started
from tests.gui.test_main_window import Desktop, Keep
from tests.gui.ward_and_ben import IN_WARD, newest_in_ward, ward_and_ben


@pytest.fixture
def desktop(qtbot: QtBot, closing: Keep) -> Desktop:
    return ward_and_ben(qtbot, closing)


def titles(desktop: Desktop) -> list[str]:
    return [title for title, _, _ in desktop.items]


def choose(desktop: Desktop, words: str, row: int = 1) -> None:
    """Choose an entry in the menu of a line of the list."""
    item = desktop.window.chat.items.index(row).data(ITEM_ROLE)
    menu: QMenu = desktop.window.row_actions.conversation_menu(item)
    next(action for action in menu.actions() if action.text() == words).trigger()


def put_away(desktop: Desktop) -> None:
    choose(desktop, "Put away")
    desktop.until(lambda: desktop.sdk.asked == [("put away", WARD.id, (str(newest_in_ward(desktop)),))])
    assert len(desktop.items) == 2, "the cluster has not answered yet"
    channel_changes(desktop, put_away_up_to=newest_in_ward(desktop))
    desktop.until(lambda: len(desktop.items) == 1)


def test_what_was_put_away_leaves_the_list_and_stands_below_the_line_at_its_end(desktop: Desktop) -> None:
    below = desktop.window.row_actions.put_away
    assert not below.shows.isVisible()
    put_away(desktop)
    assert (below.shows.isVisible(), below.shows.text()) == (True, "Put away (1), 1 unread")
    below.shows.click()
    desktop.until(lambda: len(desktop.items) == 2)
    item = desktop.window.chat.items.item(1)
    assert ", put away, 1 unread message" in spoken_item(item)
    choose(desktop, "Bring back")
    desktop.until(lambda: desktop.sdk.asked[1:] == [("bring back", WARD.id, ())])
    channel_changes(desktop, put_away_up_to=0)
    desktop.until(lambda: not below.shows.isVisible())
    assert not below.shows.isChecked()


def test_a_new_message_brings_it_back_and_its_unread_messages_are_in_the_badge_again(desktop: Desktop) -> None:
    desktop.until(lambda: desktop.window.windowTitle().startswith("(1) "))
    put_away(desktop)
    desktop.until(lambda: not desktop.window.windowTitle().startswith("("))
    desktop.sdk.arrive("dana", "news", conversation=WARD)
    desktop.until(lambda: len(desktop.items) == 2)
    desktop.until(lambda: desktop.window.windowTitle().startswith("(2) "))
    assert not desktop.window.row_actions.put_away.line.isVisible(), "nothing is to be undone"


def test_the_line_after_putting_away_brings_it_back_and_goes_by_itself(desktop: Desktop) -> None:
    below = desktop.window.row_actions.put_away
    below._expiry.setInterval(60_000)
    put_away(desktop)
    assert (below.line.isVisible(), below.said.text()) == (True, "Put away: Ward 4")
    below.undo.click()
    desktop.until(lambda: desktop.sdk.asked[1:] == [("bring back", WARD.id, ())])
    assert not below.line.isVisible()
    channel_changes(desktop, put_away_up_to=0)
    desktop.until(lambda: len(desktop.items) == 2)
    desktop.sdk.asked.clear()
    below._expiry.setInterval(1)
    put_away(desktop)
    desktop.until(lambda: not below.line.isVisible())


def test_the_key_puts_the_open_conversation_away_and_goes_back_to_the_list(desktop: Desktop) -> None:
    desktop.open(IN_WARD)
    QTest.keyClick(
        desktop.window, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier
    )
    desktop.until(lambda: desktop.sdk.asked == [("put away", WARD.id, (str(newest_in_ward(desktop)),))])
    assert desktop.open_title == ""
    channel_changes(desktop, put_away_up_to=newest_in_ward(desktop))
    desktop.until(lambda: len(desktop.items) == 1)


def test_what_is_open_stays_in_the_list_when_another_device_puts_it_away(desktop: Desktop) -> None:
    desktop.open(IN_WARD)
    channel_changes(desktop, put_away_up_to=newest_in_ward(desktop))
    desktop.until(lambda: desktop.window.chat.items.item(1).put_away)
    assert desktop.open_title == "Ward 4"
    assert not desktop.window.row_actions.put_away.line.isVisible(), "the person did not do it here"
    desktop.window.close_conversation()
    desktop.until(lambda: len(desktop.items) == 1)


def test_without_a_majority_it_stays_in_the_list_and_the_window_says_why(desktop: Desktop) -> None:
    desktop.sdk.unreachable = True
    choose(desktop, "Put away")
    desktop.until(lambda: desktop.note)
    assert len(desktop.items) == 2


def test_the_finder_finds_what_was_put_away(desktop: Desktop) -> None:
    put_away(desktop)
    finder = desktop.window.conversation_finder
    finder.switch_conversation()
    assert finder.finder is not None
    QTest.keyClicks(finder.finder.field, "ward")
    QTest.keyClick(finder.finder.field, Qt.Key.Key_Return)
    desktop.until(lambda: desktop.open_title == "Ward 4")
    desktop.until(lambda: len(desktop.items) == 2)


def test_what_was_put_away_elsewhere_does_not_open_by_itself_at_the_next_start(
    qtbot: QtBot, closing: Keep, tmp_path: Path
) -> None:
    save(tmp_path, Place(0, (("ann", WARD.id),)))
    desktop = Started(qtbot, closing, tmp_path)
    desktop.signed_in()
    channel_changes(desktop, put_away_up_to=2**40)
    desktop.until(desktop.window.row_actions.put_away.shows.isVisible)
    desktop.sdk.arrive("ben", "all well?")
    desktop.until(lambda: desktop.items)
    for _ in range(5):
        QTest.qWait(0)
    assert desktop.open_title == ""
