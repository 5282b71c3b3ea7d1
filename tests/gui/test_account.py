"""What a person does about the own account in the window: password, devices, and a log-in without a device to spare."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QMenu
from pytestqt.qtbot import QtBot

from parley import TooManyDevicesError
from parley.gui.account_dialogs import DevicesDialog, PasswordDialog
from parley.gui.app_state import VisiblePage
from tests.gui.scripted import PASSWORD
from tests.gui.test_main_window import HERE, Desktop, Keep

NEW = "another horse"


@pytest.fixture
def desktop(qtbot: QtBot, closing: Keep) -> Iterator[Desktop]:
    """A window that is signed in."""
    desktop = Desktop(qtbot, closing).signed_in()
    yield desktop
    desktop.window.account_dialogs.close()


def password_dialog(desktop: Desktop, old: str, new: str, again: str) -> PasswordDialog:
    desktop.window.account_dialogs.change_password()
    dialog = desktop.window.account_dialogs.password
    assert dialog is not None
    for field, text in ((dialog.old, old), (dialog.new, new), (dialog.again, again)):
        field.setText(text)
    QTest.keyClick(dialog.again, Qt.Key.Key_Return)
    return dialog


def devices_dialog(desktop: Desktop) -> DevicesDialog:
    desktop.window.account_dialogs.show_devices()
    dialog = desktop.window.account_dialogs.devices
    assert dialog is not None
    desktop.until(lambda: dialog.list.count() == 3)
    return dialog


def test_the_account_menu_leads_to_password_and_devices(desktop: Desktop) -> None:
    dialogs = desktop.window.account_dialogs
    for name, opened in (
        ("Display name", lambda: dialogs.name),
        ("Change the password", lambda: dialogs.password),
        ("Devices", lambda: dialogs.devices),
    ):
        desktop.window.chat.me.click()
        [menu] = [found for found in desktop.window.findChildren(QMenu) if found.isVisible()]
        next(action for action in menu.actions() if action.text() == name).trigger()
        menu.close()
        dialog = opened()
        assert dialog is not None
        assert dialog.isVisible()
        dialog.reject()
        assert opened() is None


def test_the_display_name_is_shown_and_changed_by_keys(desktop: Desktop) -> None:
    desktop.sdk.display_name = "Ann Lee"
    dialogs = desktop.window.account_dialogs
    dialogs.change_name()
    dialog = dialogs.name
    assert dialog is not None
    assert not dialog.submit.isEnabled(), "nobody overwrites a name that was not seen"
    desktop.until(lambda: dialog.field.text() == "Ann Lee")
    assert "beside ann" in dialog.note.text()
    QTest.keyClicks(dialog.field, "x" * 65)
    QTest.keyClick(dialog.field, Qt.Key.Key_Return)
    desktop.until(lambda: "too long" in dialog.note.text())
    assert desktop.sdk.display_name == "Ann Lee"
    dialog.field.selectAll()
    QTest.keyClicks(dialog.field, " Dr. Lee ")
    QTest.keyClick(dialog.field, Qt.Key.Key_Return)
    desktop.until(lambda: dialogs.name is None)
    assert desktop.sdk.display_name == "Dr. Lee"
    assert "Others see you as Dr. Lee now." in desktop.window.chat.empty.text()


def test_a_display_name_that_the_cluster_does_not_tell_cannot_be_overwritten(desktop: Desktop) -> None:
    desktop.sdk.unreachable = True
    dialogs = desktop.window.account_dialogs
    dialogs.change_name()
    dialog = dialogs.name
    assert dialog is not None
    desktop.until(lambda: "could be reached" in dialog.note.text())
    assert [dialog.field.isEnabled(), dialog.submit.isEnabled()] == [False, False]


def test_the_display_name_is_removed_by_an_empty_one(desktop: Desktop) -> None:
    desktop.sdk.display_name = "Ann Lee"
    dialogs = desktop.window.account_dialogs
    dialogs.change_name()
    dialog = dialogs.name
    assert dialog is not None
    desktop.until(lambda: dialog.field.hasFocus() and dialog.field.text() == "Ann Lee")
    QTest.keyClick(dialog.field, Qt.Key.Key_Backspace)
    QTest.keyClick(dialog.field, Qt.Key.Key_Return)
    desktop.until(lambda: dialogs.name is None)
    assert desktop.sdk.display_name == ""
    assert "no display name" in desktop.window.chat.empty.text()


def test_the_password_is_changed_and_the_dialog_closes(desktop: Desktop) -> None:
    password_dialog(desktop, PASSWORD, NEW, NEW)
    desktop.until(lambda: desktop.window.account_dialogs.password is None)
    assert desktop.sdk.password == NEW
    assert "password is changed" in desktop.window.chat.empty.text()


def test_a_wrong_old_password_is_told_in_the_dialog_and_can_be_mended(desktop: Desktop) -> None:
    dialog = password_dialog(desktop, "wrong", NEW, NEW)
    desktop.until(lambda: "stays in force" in dialog.note.text())
    assert dialog.submit.isEnabled()
    dialog.old.setText(PASSWORD)
    dialog.submit.click()
    desktop.until(lambda: desktop.window.account_dialogs.password is None)
    assert desktop.sdk.password == NEW


@pytest.mark.parametrize(("new", "again", "said"), [("short", "short", "at least 8"), (NEW, NEW + "x", "differ")])
def test_what_cannot_be_a_new_password_is_said_before_the_cluster_is_asked(
    desktop: Desktop, new: str, again: str, said: str
) -> None:
    dialog = password_dialog(desktop, PASSWORD, new, again)
    assert said in dialog.note.text()
    assert desktop.sdk.password == PASSWORD


def test_devices_are_shown_and_one_is_signed_out(desktop: Desktop) -> None:
    dialog = devices_dialog(desktop)
    lines = [dialog.list.item(row).text() for row in range(3)]
    assert lines[0].startswith("ward-pc – this device")
    assert "\u202e" not in lines[1]
    assert lines[2].startswith("Unnamed device – signed out")
    enabled = []
    for row in range(3):
        dialog.list.setCurrentRow(row)
        enabled.append(dialog.sign_out.isEnabled())
    assert enabled == [False, True, False], "neither this one nor one that is signed out"
    dialog.list.setCurrentRow(1)
    dialog.sign_out.click()
    desktop.until(lambda: "signed out" in dialog.list.item(1).text())
    assert not dialog.sign_out_others.isEnabled()


def test_all_other_devices_are_signed_out_at_once(desktop: Desktop) -> None:
    dialog = devices_dialog(desktop)
    dialog.sign_out_others.click()
    desktop.until(lambda: [device.signed_in for device in desktop.sdk.devices] == [True, False, False])


def test_a_dialog_says_that_no_node_could_be_reached_and_closes_with_the_session(desktop: Desktop) -> None:
    dialog = devices_dialog(desktop)
    desktop.sdk.unreachable = True
    dialog.sign_out_others.click()
    desktop.until(lambda: "could be reached" in dialog.note.text())
    desktop.sdk.unreachable = False
    desktop.window.commands.sign_out()
    desktop.until(lambda: desktop.window.app_state.page is VisiblePage.SIGN_IN)
    assert desktop.window.account_dialogs.devices is None


def test_a_log_in_without_a_device_to_spare_offers_to_end_one(qtbot: QtBot, closing: Keep) -> None:
    desktop = Desktop(qtbot, closing)
    page = desktop.window.sign_in
    desktop.sdk.refuse_login = TooManyDevicesError("The account has 32 devices.")
    desktop.sign_in()
    desktop.until(page.end_oldest.isVisible)
    assert "32 devices" in page.problem.text()
    desktop.sign_in()
    desktop.until(page.end_oldest.isVisible)
    assert [desktop.sdk.ended_oldest] == [False], "nothing is ended unasked"
    page.end_oldest.setChecked(True)
    desktop.sign_in()
    desktop.until(lambda: desktop.window.app_state.page is VisiblePage.CHAT)
    assert [desktop.sdk.ended_oldest, page.end_oldest.isVisible()] == [True, False]


def test_a_cluster_that_creates_accounts_by_invitation_gets_the_code_of_one(qtbot: QtBot, closing: Keep) -> None:
    desktop = Desktop(qtbot, closing)
    page = desktop.window.sign_in
    desktop.sdk.invitation = "the-code"
    page.hosts.setText(HERE.hosts)
    page.account.setText("zoe")
    page.password.setText("long enough")
    page.password.repeated.setText("long enough")
    assert not page.invitation.isVisible(), "nobody needs it before the cluster asks for it"
    page.create_button.click()
    desktop.until(page.invitation.isVisible)
    assert "by invitation" in page.problem.text()
    assert page.invitation.hasFocus()
    page.invitation.setText("another")
    page.create_button.click()
    desktop.until(lambda: "code is wrong" in page.problem.text())
    assert page.invitation.isVisible()
    page.invitation.setText(" the-code ")
    QTest.keyClick(page.invitation, Qt.Key.Key_Return)
    desktop.until(lambda: desktop.window.app_state.account == "zoe")
    assert [code for _, _, code in desktop.sdk.registered] == ["", "another", "the-code"]
    desktop.window.commands.sign_out()
    desktop.until(lambda: desktop.window.app_state.page is VisiblePage.SIGN_IN)
    assert (page.invitation.isVisible(), page.invitation.text()) == (False, ""), "it is used up"
