"""Signing in and creating an account: one knows what one typed, and can leave at any time."""

from __future__ import annotations

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLineEdit
from pytestqt.qtbot import QtBot

from parley.gui.app_state import VisiblePage
from parley.gui.theme import GRID, scaled_font
from tests.gui.scripted import ScriptedSdk
from tests.gui.test_main_window import HERE, Desktop, Keep


@pytest.fixture
def desktop(qtbot: QtBot, closing: Keep) -> Desktop:
    return Desktop(qtbot, closing)


def click(button: object) -> None:
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)  # type: ignore[call-overload]


def fill(desktop: Desktop, password: str) -> None:
    page = desktop.window.sign_in
    page.hosts.setText(HERE.hosts)
    page.account.setText("zoe")
    page.password.setFocus()
    QTest.keyClicks(page.password, password)


def test_a_new_password_is_asked_for_twice_and_has_to_be_the_same(desktop: Desktop) -> None:
    page = desktop.window.sign_in
    fill(desktop, "long enough")
    assert not page.password.repeated.isVisible()
    click(page.create_button)
    assert "once more" in page.problem.text()
    assert page.password.repeated.hasFocus()
    QTest.keyClicks(page.password.repeated, "long enuogh")
    QTest.keyClick(page.password.repeated, Qt.Key.Key_Return)
    assert "differ" in page.problem.text()
    assert desktop.sdk.registered == []
    QTest.keyClicks(page.password.repeated, "long enough")  # the wrong text is selected
    QTest.keyClick(page.password.repeated, Qt.Key.Key_Return)
    desktop.until(lambda: desktop.window.app_state.account == "zoe")
    assert desktop.sdk.registered == [("zoe", "long enough", "")]
    assert page.password.repeated.text() == ""


def test_nothing_of_the_page_is_cut_off_when_it_asks_for_more(desktop: Desktop) -> None:
    page = desktop.window.sign_in
    fill(desktop, "long enough")
    click(page.create_button)
    rows = (page.password, page.password.repeated, page.ca, page.problem)
    desktop.until(lambda: all(row.height() >= row.minimumSizeHint().height() for row in rows))
    desktop.until(lambda: page.password.repeated.geometry().top() > page.password.geometry().bottom())
    desktop.until(lambda: page.password.row.height() >= page.password.row.sizeHint().height())


def test_with_large_text_in_a_small_window_the_page_scrolls_and_nothing_of_it_is_cut_off(
    qtbot: QtBot, closing: Keep, as_before: None
) -> None:
    QApplication.setFont(scaled_font(QApplication.font(), 1.5))
    desktop = Desktop(qtbot, closing)
    desktop.window.resize(640, 600)
    page = desktop.window.sign_in
    fill(desktop, "long enough")
    page.ask_for_invitation("This cluster creates accounts by invitation. Nothing was changed. Enter your code.")
    fields = (page.hosts, page.ca, page.account, page.password, page.invitation)
    desktop.until(lambda: all(field.height() >= field.fontMetrics().height() + GRID for field in fields))
    desktop.until(lambda: page.problem.height() >= page.problem.heightForWidth(page.problem.width()))
    desktop.until(lambda: page.problem.visibleRegion().boundingRect().height() == page.problem.height())
    assert (desktop.window.width(), desktop.window.height()) == (640, 600)
    for part in (page.submit, page.create_button, page.hosts):  # by Tab, in the order of the page
        while not part.hasFocus():
            QTest.keyClick(desktop.window.focusWidget() or page, Qt.Key.Key_Tab)
        assert part.visibleRegion().boundingRect().size() == part.size()


def test_who_looks_at_the_new_password_types_it_once(desktop: Desktop) -> None:
    page = desktop.window.sign_in
    fill(desktop, "long enough")
    assert page.password.echoMode() is QLineEdit.EchoMode.Password
    click(page.password.look)
    assert page.password.echoMode() is QLineEdit.EchoMode.Normal
    click(page.create_button)
    desktop.until(lambda: desktop.window.app_state.account == "zoe")
    assert page.password.echoMode() is QLineEdit.EchoMode.Password, "the next one is hidden again"


def test_signing_in_asks_for_the_password_once(desktop: Desktop) -> None:
    fill(desktop, "correct horse")
    QTest.keyClick(desktop.window.sign_in.password, Qt.Key.Key_Return)
    desktop.until(lambda: desktop.window.app_state.account == "zoe")


@pytest.mark.parametrize("by_key", [True, False])
def test_signing_in_can_be_cancelled_while_no_node_answers(desktop: Desktop, by_key: bool) -> None:
    page = desktop.window.sign_in
    desktop.sdk.never_answers = True
    desktop.sign_in()
    desktop.until(lambda: desktop.sdk.logged_in)
    desktop.until(page.cancel.isVisible)
    QTest.keyClick(desktop.window, Qt.Key.Key_Escape) if by_key else click(page.cancel)
    desktop.until(lambda: "cancelled" in page.problem.text())
    assert page.submit.isEnabled()
    assert not page.cancel.isVisible()
    desktop.sdk.never_answers = False
    desktop.sign_in()
    desktop.until(lambda: desktop.window.app_state.page is VisiblePage.CHAT)


def test_resuming_a_session_can_be_cancelled_before_the_client_has_begun(qtbot: QtBot, closing: Keep) -> None:
    sdk = ScriptedSdk()
    sdk.never_enters = True
    desktop = Desktop(qtbot, closing, sdk)
    desktop.window.resume(HERE, "ann")
    page = desktop.window.sign_in
    desktop.until(page.cancel.isVisible)
    click(page.cancel)
    desktop.until(lambda: "cancelled" in page.problem.text())
    sdk.never_enters = False
    desktop.sign_in()
    desktop.until(lambda: desktop.window.app_state.page is VisiblePage.CHAT)


def test_cancelling_what_has_ended_meanwhile_changes_nothing(desktop: Desktop) -> None:
    desktop.signed_in()
    desktop.window.commands.cancel_sign_in()
    desktop.sdk.arrive("ben", "hello")
    desktop.until(lambda: desktop.items)
    assert desktop.window.app_state.page is VisiblePage.CHAT
