"""An administrator suspends and releases accounts in the panel of the cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QMessageBox
from pytestqt.qtbot import QtBot

from tests.gui.test_cluster_panel import administered, opened
from tests.gui.test_main_window import Desktop, Keep


@pytest.fixture
def desktop(qtbot: QtBot, closing: Keep) -> Iterator[Desktop]:
    """A window that is signed in."""
    desktop = Desktop(qtbot, closing).signed_in()
    yield desktop
    desktop.window.account_dialogs.close()


def answer(box: QMessageBox | None, words: str) -> None:
    """Answer a question by a button."""
    assert box is not None
    next(button for button in box.buttons() if button.text() == words).click()


def test_an_account_is_suspended_after_a_question_that_says_what_stays(desktop: Desktop) -> None:
    dialog = administered(desktop)
    row = dialog.suspension
    assert not row.suspend.isEnabled()
    QTest.keyClicks(row.name, "ben")
    QTest.keyClicks(row.reason, "left the house")
    row.suspend.click()
    assert row.question is not None
    assert "Nothing of it is deleted." in row.question.text()
    answer(row.question, "Suspend")
    desktop.until(lambda: desktop.sdk.asked == [("suspend", 0, ("ben", "left the house"))])
    desktop.until(lambda: dialog.note.text().startswith("ben is suspended and signed out everywhere."))
    row.release.click()
    desktop.until(lambda: desktop.sdk.asked[1:] == [("release", 0, ("ben",))])
    desktop.until(lambda: dialog.note.text() == "ben is not suspended, and can sign in.")


def test_nobody_is_suspended_by_cancel_or_by_enter_in_a_field(desktop: Desktop) -> None:
    dialog = administered(desktop)
    row = dialog.suspension
    QTest.keyClicks(row.name, "ben")
    row.suspend.click()
    assert row.question is not None
    row.question.reject()
    desktop.until(lambda: not dialog.findChildren(QMessageBox))
    QTest.keyClick(row.name, Qt.Key.Key_Return)
    assert dialog.isVisible()
    assert not dialog.findChildren(QMessageBox)
    assert desktop.sdk.asked == []


def test_a_refusal_stands_in_the_panel(desktop: Desktop) -> None:
    dialog = administered(desktop)
    QTest.keyClicks(dialog.suspension.name, "nobody")
    dialog.suspension.suspend.click()
    answer(dialog.suspension.question, "Suspend")
    desktop.until(lambda: "There is no account nobody." in dialog.note.text())
    assert desktop.sdk.asked == []


def test_whoever_is_no_administrator_does_not_see_it(desktop: Desktop) -> None:
    QTest.mouseClick(desktop.window.status, Qt.MouseButton.LeftButton)
    dialog = opened(desktop)
    desktop.until(lambda: desktop.window.account_dialogs.cluster._administrator is False)
    assert not dialog.suspension.isVisible()
