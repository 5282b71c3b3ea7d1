"""Who opens an invitation with the mouse types a password, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.testing
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLabel
from pytestqt.qtbot import QtBot

from parley import ParleyError
from parley.cli import app
from parley.gui.app_state import VisiblePage
from parley.gui.commands import Invited
from parley.gui.invitation import show_invitation
from parley.inviting import InvitationFile
from parley.terminal.contexts import Contexts
from tests.gui.test_main_window import HERE, Desktop, Keep

CODE = "abcdefghj-kmnpqrstu-vwxyz2345"
ABOUT = "Invitation to ward (alpha:7600). Compare:"
PAIRS = [f"{number:02X}" for number in range(160, 192)]


@pytest.fixture
def desktop(qtbot: QtBot, closing: Keep) -> Desktop:
    desktop = Desktop(qtbot, closing)
    desktop.sdk.invitation = CODE
    return desktop


def invite(desktop: Desktop, keep: Callable[[str], None]) -> None:
    show_invitation(desktop.window, HERE, Invited("zoe", CODE, ABOUT, (":".join(PAIRS),), keep))


def test_a_password_is_all_that_has_to_be_typed(desktop: Desktop) -> None:
    kept: list[str] = []
    invite(desktop, kept.append)
    page = desktop.window.sign_in
    shown = "\n".join(label.text() for label in page.card.findChildren(QLabel) if label.isVisible())
    assert ABOUT in shown
    assert ":".join(PAIRS) in shown.replace(":\n", ":"), "so that one can compare"
    desktop.until(page.password.hasFocus)
    assert kept == []
    QTest.keyClicks(page.password, "long enough")
    QTest.keyClicks(page.password.repeated, "long enough")
    QTest.keyClick(page.password.repeated, Qt.Key.Key_Return)
    desktop.until(lambda: desktop.window.app_state.account == "zoe")
    assert (desktop.sdk.registered, kept) == ([("zoe", "long enough", CODE)], ["zoe"])
    assert page.invitation.text() == ""


def test_enter_in_the_password_creates_the_account_and_signs_nobody_in(desktop: Desktop) -> None:
    invite(desktop, lambda _: None)
    page = desktop.window.sign_in
    QTest.keyClicks(page.password, "long enough")
    QTest.keyClick(page.password, Qt.Key.Key_Return)
    assert "once more" in page.problem.text()
    assert desktop.sdk.logged_in == []


def test_the_code_is_shown_to_nobody_and_goes_to_no_other_cluster(desktop: Desktop) -> None:
    invite(desktop, lambda _: None)
    page = desktop.window.sign_in
    for field in (page.hosts, page.ca, page.browse, page.invitation):
        assert not field.isVisible()
    assert page.hosts.text() == HERE.hosts


def test_nothing_of_the_page_is_cut_off_in_the_smallest_window(desktop: Desktop) -> None:
    """The end of the fingerprint was."""
    invite(desktop, lambda _: None)
    desktop.window.resize(desktop.window.minimumSize())
    labels = desktop.window.sign_in.card.findChildren(QLabel)
    desktop.until(lambda: all(one.height() >= one.heightForWidth(one.width()) for one in labels if one.isVisible()))


def test_the_next_person_finds_the_usual_page(desktop: Desktop) -> None:
    page = desktop.window.sign_in
    usual = page.subtitle.text()
    invite(desktop, lambda _: None)
    page.password.look.setChecked(True)
    QTest.keyClicks(page.password, "long enough")
    QTest.keyClick(page.password, Qt.Key.Key_Return)
    desktop.until(lambda: desktop.window.app_state.page is VisiblePage.CHAT)
    desktop.window.commands.sign_out()
    desktop.until(lambda: desktop.window.app_state.page is VisiblePage.SIGN_IN)
    assert (page.subtitle.text(), page.submit.property("primary")) == (usual, True)
    assert page.browse.isVisible()
    assert page.hosts.isVisible()
    assert ":AB:" not in "".join(label.text() for label in page.card.findChildren(QLabel))
    assert not page.invited.isVisible()


def test_a_cluster_that_cannot_be_stored_is_told_and_the_account_is_used(desktop: Desktop) -> None:
    def full(_: str) -> None:
        raise ParleyError("The file contexts.json cannot be written. It is as it was before.")

    invite(desktop, full)
    page = desktop.window.sign_in
    page.password.look.setChecked(True)
    QTest.keyClicks(page.password, "long enough")
    QTest.keyClick(page.password, Qt.Key.Key_Return)
    desktop.until(lambda: desktop.window.app_state.account == "zoe")
    desktop.until(lambda: "cannot be written" in desktop.window.chat.empty.text())


# ---- the command


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """What the command opens the window with."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def run(*arguments: Any, **named: Any) -> int:
        calls.append((arguments, named))
        return 0

    monkeypatch.setattr("parley.gui.app.run", run)
    return calls


def test_the_command_opens_the_window_with_what_the_file_holds(
    tmp_path: Path, opened: list[tuple[tuple[Any, ...], dict[str, Any]]]
) -> None:
    later_ms = int(time.time() * 1000) + 60_000
    file = tmp_path / "zoe.parley-invite"
    file.write_text(InvitationFile("ward", ("127.0.0.1:7600",), "", "zoe", CODE, later_ms).to_line())
    state = str(tmp_path / "state")
    done = typer.testing.CliRunner().invoke(app, ["gui", "--state-dir", state, file.as_uri()])
    assert done.exit_code == 0, done.output
    [((hosts, ca, _), named)] = opened
    invited = named["invited"]
    assert (hosts, ca, named["insecure"], invited.account, invited.code) == ("127.0.0.1:7600", None, True, "zoe", CODE)
    assert CODE not in repr(named)
    invited.keep("zoe")
    assert Contexts.load(tmp_path / "state").current == "ward"


def test_what_cannot_be_used_is_told_in_the_window(
    tmp_path: Path, opened: list[tuple[tuple[Any, ...], dict[str, Any]]]
) -> None:
    """Who opens a file with the mouse sees no terminal."""
    done = typer.testing.CliRunner().invoke(app, ["gui", "--state-dir", str(tmp_path), "parley://invite/abc"])
    assert done.exit_code == 0
    [(_, named)] = opened
    assert (named["invited"], "cannot be used" in named["problem"]) == (None, True)
