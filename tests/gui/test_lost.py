"""The window after the cluster was restored: what is lost stays readable, is sent again or discarded, also by keys."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from parley import HistoryPage, LostMessage, LostOrigin, OutboxFullError, Target
from parley.gui.lost_panel import LostDialog
from tests.gui.scripted import BASE_MS, direct
from tests.gui.test_main_window import Desktop, Keep

BEN = Target(account="ben")
SENT = LostMessage(1, LostOrigin.THIS_DEVICE, "ben", "", "lost of mine", BASE_MS, direct("ben").id, 1, BEN)
RECEIVED = LostMessage(2, LostOrigin.OTHERS, "ben", "ben", "lost of ben", BASE_MS + 1, direct("ben").id, 1, BEN)
GONE = LostMessage(3, LostOrigin.THIS_DEVICE, "ops", "", "for ops", BASE_MS + 2)


@pytest.fixture
def desktop(qtbot: QtBot, closing: Keep) -> Iterator[Desktop]:
    """A window that is signed in."""
    desktop = Desktop(qtbot, closing).signed_in()
    yield desktop
    desktop.window.lost.close()


def listed(dialog: LostDialog) -> list[str]:
    return [dialog.list.item(at).text().split("  ", 1)[1] for at in range(dialog.list.count())]


def opened(desktop: Desktop, count: int) -> LostDialog:
    bar = desktop.window.lost.bar
    desktop.until(bar.isVisible)
    desktop.until(lambda: len(desktop.window.lost._messages) == count)
    bar.button.setFocus()
    QTest.keyClick(bar.button, Qt.Key.Key_Space)
    dialog = desktop.window.lost.dialog
    assert dialog is not None
    assert dialog.isVisible()
    return dialog


def test_a_bar_says_what_is_lost_and_goes_when_nothing_is(desktop: Desktop) -> None:
    bar = desktop.window.lost.bar
    assert not bar.isVisible()
    desktop.sdk.restored(SENT, GONE)
    desktop.until(bar.isVisible)
    assert "2 messages that you sent are not in the cluster any more" in bar.label.text()
    assert bar.button.accessibleName() == "Show lost messages"
    desktop.sdk.restored()
    desktop.until(lambda: not bar.isVisible())


def test_chosen_messages_are_sent_again_or_discarded_by_keys(desktop: Desktop) -> None:
    desktop.sdk.restored(SENT, RECEIVED, GONE)
    dialog = opened(desktop, 3)
    assert listed(dialog) == ["you → ben: lost of mine", "ben: lost of ben", "you → ops: for ops"]
    assert not dialog.resend.isEnabled()
    assert not dialog.discard.isEnabled()
    QTest.keyClick(dialog.all, Qt.Key.Key_Space)
    assert "1 of the 3 chosen messages can be sent again" in dialog.note.text()
    QTest.keyClick(dialog.resend, Qt.Key.Key_Space)
    desktop.until(lambda: dialog.list.count() == 2)
    assert [one.body for one in desktop.sdk.outbox.values()] == ["lost of mine"]
    assert len(dialog.list.selectedItems()) == 2, "what was chosen stays chosen"
    QTest.keyClick(dialog.discard, Qt.Key.Key_Space)
    desktop.until(lambda: desktop.window.lost.dialog is None)
    assert desktop.sdk.lost == []


def test_a_refusal_is_told_in_the_dialog(desktop: Desktop) -> None:
    desktop.sdk.restored(SENT)
    dialog = opened(desktop, 1)
    desktop.sdk.refuse_lost = OutboxFullError("The outbox is full. Nothing was sent.")
    dialog.all.click()
    dialog.resend.click()
    desktop.until(lambda: "outbox is full" in dialog.note.text())
    assert listed(dialog) == ["you → ben: lost of mine"]


def test_the_open_conversation_is_shown_anew_with_its_lost_messages_and_the_draft(desktop: Desktop) -> None:
    before = desktop.sdk.message("ben", "before")
    desktop.sdk.pages[BEN, 0] = HistoryPage((before, desktop.sdk.message("ben", "lost of ben")), False, direct("ben"))
    desktop.open()
    desktop.until(lambda: desktop.has_rows(2))
    desktop.type("half a sen", enter=False)
    desktop.sdk.pages[BEN, 0] = HistoryPage((before,), False, direct("ben"))
    desktop.sdk.restored(SENT, RECEIVED)
    desktop.until(lambda: [body for body, _ in desktop.rows] == ["before", "lost of mine", "lost of ben"])
    rows = desktop.window.chat.rows
    assert [rows.row(at).lost for at in range(3)] == [False, True, True]
    assert "ben" in desktop.open_title
    desktop.until(lambda: desktop.field == "half a sen")


def test_the_list_is_there_after_a_restart(qtbot: QtBot, closing: Keep) -> None:
    first = Desktop(qtbot, closing).signed_in()
    first.sdk.restored(SENT)
    first.until(first.window.lost.bar.isVisible)
    again = Desktop(qtbot, closing, first.sdk).signed_in()
    dialog = opened(again, 1)
    assert listed(dialog) == ["you → ben: lost of mine"]
    again.window.lost.close()
