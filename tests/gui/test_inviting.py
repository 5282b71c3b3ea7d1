"""An administrator invites somebody in the panel of the cluster."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QFileDialog
from pytestqt.qtbot import QtBot

from parley.gui.inviting import InvitationDialog
from parley.inviting import read_invitation
from tests.gui.scripted import INVITATION_CODE, INVITATION_ENDS_MS
from tests.gui.test_cluster_panel import administered, opened
from tests.gui.test_main_window import Desktop, Keep


@pytest.fixture
def desktop(qtbot: QtBot, closing: Keep) -> Iterator[Desktop]:
    """A window that is signed in."""
    desktop = Desktop(qtbot, closing).signed_in()
    yield desktop
    desktop.window.account_dialogs.close()


def invited(desktop: Desktop, name: str = "kim") -> InvitationDialog:
    """Invite somebody by keys; the dialog with the link."""
    row = administered(desktop).invite
    QTest.keyClicks(row.name, name)
    QTest.keyClick(row.name, Qt.Key.Key_Return)
    panel = desktop.window.account_dialogs.cluster
    desktop.until(lambda: panel.invitation is not None and panel.invitation.isVisible())
    assert panel.invitation is not None
    return panel.invitation


def test_the_link_that_is_copied_is_an_invitation_to_this_cluster(desktop: Desktop) -> None:
    dialog = invited(desktop)
    dialog.copy.click()
    link = QGuiApplication.clipboard().text()
    invitation = read_invitation(link)
    assert (invitation.account, invitation.code, invitation.expires_at_ms) == (
        "kim",
        INVITATION_CODE,
        INVITATION_ENDS_MS,
    )
    assert invitation.hosts
    assert "works once" in dialog.about.text()
    assert dialog.note.text() == "The link is in the clipboard."
    assert desktop.window.account_dialogs.cluster.dialog is not None, "Enter in the field closes no panel"
    dialog.accept()
    desktop.until(lambda: desktop.window.account_dialogs.cluster.invitation is None)


def test_a_file_of_it_is_for_its_owner_only_and_replaces_none(
    desktop: Desktop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialog = invited(desktop)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(tmp_path / "for kim"), ""))
    dialog.save.click()
    path = tmp_path / "for kim.parley-invite"
    assert dialog.note.text().startswith(f"{path} was written.")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_invitation(str(path)).code == INVITATION_CODE
    path.write_text("something else")
    dialog.save.click()
    assert "cannot be made (File exists). The link stays valid. Name another file." in dialog.note.text()
    assert path.read_text() == "something else"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: ("", ""))
    dialog.save.click()
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_it_is_taken_back_and_then_neither_copied_nor_saved(desktop: Desktop) -> None:
    dialog = invited(desktop)
    desktop.sdk.unreachable = True
    dialog.take_back.click()
    desktop.until(lambda: "could be reached" in dialog.note.text())
    assert dialog.copy.isEnabled()
    desktop.sdk.unreachable = False
    dialog.take_back.click()
    desktop.until(lambda: dialog.note.text().startswith("The invitation is taken back."))
    assert not dialog.copy.isEnabled()
    assert not dialog.save.isEnabled()
    code_id = hashlib.sha256(INVITATION_CODE.replace("-", "").encode()).hexdigest()
    assert desktop.sdk.asked == [("invite", 0, ()), ("withdraw", 0, (code_id,))]


@pytest.mark.parametrize(("name", "why"), [("ben", "There is an account ben already."), ("no name", "cannot be")])
def test_nobody_is_invited_by_a_name_that_is_taken_or_is_none(desktop: Desktop, name: str, why: str) -> None:
    dialog = administered(desktop)
    QTest.keyClicks(dialog.invite.name, name)
    dialog.invite.invite.click()
    desktop.until(lambda: why in dialog.note.text())
    assert desktop.sdk.asked == []
    assert desktop.window.account_dialogs.cluster.invitation is None


def test_who_signs_out_leaves_no_link_on_the_screen(desktop: Desktop) -> None:
    dialog = invited(desktop)
    desktop.window.account_dialogs.close()
    assert not dialog.isVisible()
    assert desktop.window.account_dialogs.cluster.invitation is None


def test_whoever_is_no_administrator_does_not_see_it(desktop: Desktop) -> None:
    QTest.mouseClick(desktop.window.status, Qt.MouseButton.LeftButton)
    dialog = opened(desktop)
    desktop.until(lambda: desktop.window.account_dialogs.cluster._administrator is False)
    assert not dialog.invite.isVisible()
