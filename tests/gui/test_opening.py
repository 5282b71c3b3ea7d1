"""What opens a conversation, and what is marked as read: only what a person asked for, and only what was seen."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QPushButton
from pytestqt.qtbot import QtBot

from parley import ConnectionState, ConversationKind, HistoryPage, Message, Target
from parley.chat.thread_rows import EARLIER_TEXT
from tests.gui.scripted import direct
from tests.gui.test_main_window import Desktop, Keep

BEN = direct("ben")
TO_BEN = Target(account="ben")


@pytest.fixture
def desktop(qtbot: QtBot, closing: Keep) -> Desktop:
    return Desktop(qtbot, closing)


def unread(desktop: Desktop, count: int, *, read: int = 20, page: int = 100) -> list[Message]:
    """A conversation with so many unread messages below `read` old ones, in pages as a cluster gives them."""
    said = [desktop.sdk.message("ben", f"message {number}") for number in range(1, read + count + 1)]
    last = 0
    for end in range(len(said), 0, -page):
        start = max(0, end - page)
        desktop.sdk.pages[TO_BEN, last] = HistoryPage(tuple(said[start:end]), start > 0, BEN)
        last = said[start].id
    mark = said[read - 1].id if read else 0
    desktop.sdk.listed = (replace(BEN, last=said[-1], unread=count, read_up_to=mark),)
    desktop.signed_in()
    desktop.until(lambda: desktop.items and desktop.items[0][2] == count)
    return said


def in_sight(desktop: Desktop) -> list[int]:
    """The ids of the messages whose last line is on the screen."""
    view, model = desktop.window.chat.view, desktop.window.chat.rows
    rows = range(view.first_visible(), view.last_visible() + 1)
    height = view.viewport().height()
    return [model.row(at).message_id for at in rows if view.visualRect(model.index(at)).bottom() < height]


def wheel(desktop: Desktop, notches: int) -> None:
    """The person turns the wheel; a negative number goes down."""
    port = desktop.window.chat.view.viewport()
    middle = QPointF(port.rect().center())
    turn = QPoint(0, 120 * notches)
    buttons, keys = Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier
    event = QWheelEvent(
        middle, port.mapToGlobal(middle), QPoint(), turn, buttons, keys, Qt.ScrollPhase.NoScrollPhase, False
    )
    QApplication.sendEvent(port, event)


def first_unread_stands_near_the_top(desktop: Desktop, message_id: int) -> bool:
    view, model = desktop.window.chat.view, desktop.window.chat.rows
    row = desktop.window.app_state.open_thread()
    at = None if row is None else row.divider_row
    if at is None or model.row(at).message_id != message_id:
        return False
    return 0 <= view.visualRect(model.index(at)).top() < view.viewport().height() // 2


def marked_up_to(desktop: Desktop) -> int:
    """The last read mark that the client was told, 0 for none. The window counts before that."""
    return max((up_to for _, up_to in desktop.sdk.read), default=0)


def button(desktop: Desktop, name: str) -> QPushButton:
    found = desktop.window.chat.findChild(QPushButton, name)
    assert isinstance(found, QPushButton)
    return found


# ---- what opens


def test_coming_back_to_the_window_opens_nothing_and_tells_nobody_that_anything_was_read(desktop: Desktop) -> None:
    desktop.signed_in()
    desktop.sdk.arrive("ben", "b")
    desktop.sdk.arrive("dana", "d")
    desktop.until(lambda: len(desktop.items) == 2)
    desktop.announced()
    desktop.window.activateWindow()
    desktop.until(desktop.window.isActiveWindow)
    QTest.keyClick(desktop.window, Qt.Key.Key_L, Qt.KeyboardModifier.ControlModifier)
    desktop.until(desktop.window.chat.list.hasFocus)
    QTest.qWait(0)
    assert desktop.open_title == ""
    assert (desktop.sdk.read, desktop.sdk.history_asked) == ([], [])


def test_the_list_has_all_of_2000_conversations(desktop: Desktop) -> None:
    last = desktop.sdk.message("ben", "x")
    ward = replace(BEN, kind=ConversationKind.CHANNEL)
    desktop.sdk.listed = tuple(
        replace(ward, id=number, title=f"Ward {number}", last=replace(last, conversation_id=number))
        for number in range(5000, 7000)
    )
    desktop.signed_in()
    desktop.until(lambda: len(desktop.items) == 2000)


def test_arrow_keys_walk_through_the_list_and_only_enter_opens(desktop: Desktop) -> None:
    desktop.signed_in()
    desktop.sdk.arrive("ben", "b")
    desktop.sdk.arrive("dana", "d")
    desktop.until(lambda: len(desktop.items) == 2)
    chats = desktop.window.chat.list
    QTest.keyClick(desktop.window, Qt.Key.Key_L, Qt.KeyboardModifier.ControlModifier)
    QTest.keyClick(chats, Qt.Key.Key_Home)
    QTest.keyClick(chats, Qt.Key.Key_Down)
    QTest.qWait(0)
    assert desktop.open_title == ""
    QTest.keyClick(chats, Qt.Key.Key_Return)
    assert desktop.open_title == "Ben Ortiz (ben)"
    desktop.until(lambda: [index.row() for index in chats.selectedIndexes()] == [1])
    QTest.keyClick(desktop.window, Qt.Key.Key_L, Qt.KeyboardModifier.ControlModifier)
    QTest.keyClick(chats, Qt.Key.Key_Up)
    desktop.sdk.arrive("dana", "another")
    desktop.until(lambda: desktop.items[0][1] == "another")
    assert chats.currentIndex().row() == 0, "a message that comes does not move the cursor"
    assert [index.row() for index in chats.selectedIndexes()] == [1], "the open one stays marked"


# ---- where it opens, and what counts as read


def test_a_long_unread_conversation_opens_at_the_first_unread_message_and_only_what_was_seen_is_read(
    desktop: Desktop,
) -> None:
    said = unread(desktop, 250)
    desktop.window.open_conversation("ben")
    desktop.until(lambda: first_unread_stands_near_the_top(desktop, said[20].id))
    desktop.until(lambda: desktop.sdk.read)
    desktop.until(lambda: marked_up_to(desktop) == in_sight(desktop)[-1])
    desktop.until(lambda: desktop.items[0][2] == 250 - (marked_up_to(desktop) - 20))
    wheel(desktop, -3)
    desktop.until(lambda: marked_up_to(desktop) == in_sight(desktop)[-1] > said[20].id)


def test_what_was_jumped_over_stays_unread_until_it_was_on_the_screen(desktop: Desktop) -> None:
    said = unread(desktop, 250)
    desktop.window.open_conversation("ben")
    desktop.until(lambda: first_unread_stands_near_the_top(desktop, said[20].id))
    desktop.until(lambda: desktop.sdk.read)
    seen = marked_up_to(desktop)
    view = desktop.window.chat.view
    desktop.window.chat.latest.click()
    desktop.until(view.is_at_bottom)
    desktop.sdk.arrive("ben", "one more")
    desktop.until(lambda: len(desktop.rows) == 271 and desktop.items[0][2] == 251 - (seen - 20))
    assert marked_up_to(desktop) == seen
    view.verticalScrollBar().setValue(0)
    while not view.is_at_bottom():
        wheel(desktop, -5)
        QTest.qWait(0)
    desktop.until(lambda: desktop.items[0][2] == 0)
    desktop.until(lambda: marked_up_to(desktop) == said[-1].id + 1)


def test_from_a_hundred_unread_messages_on_the_first_and_the_latest_are_offered(desktop: Desktop) -> None:
    said = unread(desktop, 250)
    desktop.window.open_conversation("ben")
    desktop.until(lambda: first_unread_stands_near_the_top(desktop, said[20].id))
    offer = (
        desktop.window.chat.findChild(QPushButton, "first_unread"),
        desktop.window.chat.findChild(QPushButton, "to_latest"),
    )
    first, latest = offer
    assert first is not None
    assert latest is not None
    desktop.until(lambda: first.isVisible() and latest.isVisible())
    QTest.mouseClick(latest, Qt.MouseButton.LeftButton)
    desktop.until(desktop.window.chat.view.is_at_bottom)
    QTest.mouseClick(first, Qt.MouseButton.LeftButton)
    desktop.until(
        lambda: marked_up_to(desktop) > 0 and first_unread_stands_near_the_top(desktop, marked_up_to(desktop) + 1)
    )


def test_few_unread_messages_offer_nothing_and_are_all_read_when_all_are_in_sight(desktop: Desktop) -> None:
    said = unread(desktop, 3)
    desktop.window.open_conversation("ben")
    desktop.until(lambda: desktop.items[0][2] == 0)
    desktop.until(lambda: marked_up_to(desktop) == said[-1].id)
    assert desktop.window.chat.rows.row(20).unread_above
    assert not button(desktop, "first_unread").isVisible()


@pytest.mark.parametrize("connection", [ConnectionState.SEARCHING, ConnectionState.NO_MAJORITY])
def test_what_is_read_while_no_node_answers_counts_as_read_and_the_answer_moves_nothing(
    desktop: Desktop, connection: ConnectionState
) -> None:
    older = [desktop.sdk.message("ben", f"older {number}") for number in range(60)]
    desktop.signed_in()
    desktop.sdk.arrive("ben", *(f"message {number}" for number in range(3)))
    desktop.until(lambda: desktop.items and desktop.items[0][2] == 3)
    desktop.sdk.unreachable = True
    desktop.sdk.state(connection=connection, has_majority=False)
    desktop.until(lambda: not desktop.status.startswith("Connected"))
    desktop.window.open_conversation("ben")
    desktop.until(lambda: desktop.items[0][2] == 0)
    desktop.until(lambda: [up_to for _, up_to in desktop.sdk.read] == [63])
    desktop.sdk.unreachable = False
    desktop.sdk.pages[TO_BEN, 0] = HistoryPage((*older, *desktop.sdk.inbox), False, BEN)
    place = in_sight(desktop)
    desktop.sdk.connected()
    desktop.until(lambda: len(desktop.rows) == 63)
    assert set(place) <= set(in_sight(desktop))


def test_whoever_scrolls_while_older_pages_load_is_not_carried_away(desktop: Desktop) -> None:
    said = unread(desktop, 250)
    page = TO_BEN, said[70].id  # the one that has the first unread message
    comes = desktop.sdk.held[page] = asyncio.Event()
    desktop.window.open_conversation("ben")
    desktop.until(lambda: ("ben", page[1]) in desktop.sdk.history_asked)
    desktop.until(lambda: len(desktop.rows) == 200)
    wheel(desktop, -20)
    place = in_sight(desktop)
    desktop.sdk.tell(comes.set)
    desktop.until(lambda: len(desktop.rows) == 270)
    QTest.qWait(0)
    assert in_sight(desktop) == place
    assert desktop.sdk.read == []


def kept_pages(desktop: Desktop, count: int) -> list[Message]:
    """A conversation of which this device has pages, and some own messages that the stream did not bring."""
    said = [desktop.sdk.message("ben", f"message {number}") for number in range(1, count + 1)]
    for end in range(count, 0, -100):
        rows, before = said[max(0, end - 100) : end], 0 if end == count else said[end].id
        desktop.sdk.kept_pages[TO_BEN, before] = HistoryPage(
            tuple(rows), end > 100, BEN, cached=True, gapless_from=rows[0].id, gapless_below=before or rows[-1].id + 1
        )
    desktop.sdk.listed = (replace(BEN, last=said[-1]),)
    return said


def scroll_to_the_top(desktop: Desktop) -> None:
    def is_there() -> bool:
        wheel(desktop, 30)
        return desktop.window.chat.view.first_visible() == 0

    desktop.until(is_there)


def test_offline_one_scrolls_through_all_that_this_device_has_and_its_end_is_told(desktop: Desktop) -> None:
    said = kept_pages(desktop, 250)
    desktop.signed_in()
    desktop.sdk.unreachable = True
    desktop.sdk.state(connection=ConnectionState.SEARCHING, has_majority=False)
    desktop.until(lambda: not desktop.status.startswith("Connected"))
    view, rows = desktop.window.chat.view, desktop.window.chat.rows
    desktop.window.open_conversation("ben")
    desktop.until(lambda: rows.rowCount() == 100)
    view.to_bottom()
    scroll_to_the_top(desktop)
    desktop.until(lambda: rows.rowCount() == 250)
    assert [row.message_id for row in rows.rows] == [message.id for message in said]
    desktop.until(lambda: rows.row(0).gap_above == EARLIER_TEXT)
    assert all(before_id == 0 for _, before_id in desktop.sdk.history_asked), "no node was asked for older pages"
    scroll_to_the_top(desktop)
    desktop.sdk.pages[TO_BEN, 0] = HistoryPage(tuple(said[-100:]), True, BEN)
    desktop.sdk.unreachable = False
    desktop.sdk.connected()
    desktop.until(lambda: desktop.verified("ben"))
    assert not rows.row(0).gap_above
