"""A shared workstation: a locked window shows nothing of anybody until the cluster has checked the password."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QLabel, QMessageBox, QWidget
from pytestqt.qtbot import QtBot

from parley import ConnectionState, NotSignedInError, UnreachableError, WrongPasswordError
from parley.gui import account_menu, lock_file
from parley.gui.app_state import VisiblePage
from parley.gui.app_window import Beginning
from parley.gui.commands import Invited
from parley.gui.lock import NOT_KEPT, Lock
from parley.gui.lock_file import LockFile
from tests.gui.scripted import PASSWORD, ScriptedSdk
from tests.gui.test_main_window import HERE, Desktop, Keep


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Shared(Desktop):
    """A window with a lock, in a state folder."""

    def __init__(self, qtbot: QtBot, closing: Keep, root: Path, sdk: ScriptedSdk | None = None) -> None:
        super().__init__(qtbot, closing, sdk)
        self.root = root
        self.clock = Clock()
        self.lock = Lock(self.window, root, self.clock)

    def visible_text(self) -> str:
        """All that can be read in the window."""
        labels = [one.text() for one in self.window.findChildren(QLabel) if one.isVisible()]
        buttons = [one.text() for one in self.window.findChildren(QAbstractButton) if one.isVisible()]
        views = [one.objectName() for one in (self.window.chat.list, self.window.chat.view) if one.isVisible()]
        return "\n".join([self.window.windowTitle(), *labels, *buttons, *views])

    def enter(self, password: str) -> None:
        QTest.keyClicks(self.lock.page.password, password)
        QTest.keyClick(self.lock.page.password, Qt.Key.Key_Return)

    def lock_by_key(self) -> Shared:
        QTest.keyClick(
            self.window, Qt.Key.Key_L, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier
        )
        assert self.lock.is_locked
        return self


@pytest.fixture
def desktop(qtbot: QtBot, closing: Keep, tmp_path: Path) -> Shared:
    desktop = Shared(qtbot, closing, tmp_path)
    desktop.signed_in()
    desktop.sdk.arrive("ben", "the secret plan")
    desktop.until(lambda: desktop.items)
    desktop.open("ben")
    desktop.until(lambda: "Ben" in desktop.window.windowTitle())
    return desktop


def test_nothing_of_the_account_is_left_to_see_and_nothing_counts_as_read(desktop: Shared) -> None:
    desktop.until(lambda: desktop.sdk.read)
    desktop.lock_by_key()
    before = list(desktop.sdk.read)
    desktop.sdk.arrive("ben", "another secret")
    desktop.sdk.arrive("bella", "and one more")
    desktop.until(lambda: len(desktop.items) == 2)
    desktop.qtbot.wait(50)
    shown = desktop.visible_text()
    assert not [word for word in ("secret", "Ben", "bella", "(1)", "(2)") if word in shown], shown
    assert desktop.window.windowTitle() == "Parley"
    assert desktop.sdk.read == before
    desktop.enter(PASSWORD)
    desktop.until(lambda: not desktop.lock.is_locked)
    desktop.until(lambda: desktop.sdk.read != before)
    desktop.until(lambda: "Ben" in desktop.window.windowTitle())


def test_keys_and_dialogs_reach_nothing_behind_the_lock(desktop: Shared) -> None:
    account_menu.pop_up(desktop.window)
    desktop.window.account_dialogs.show_devices()
    desktop.lock.begin()
    assert not [one for one in desktop.window.findChildren(QWidget) if one.isWindow() and one.isVisible()]
    for key in (Qt.Key.Key_N, Qt.Key.Key_K):
        QTest.keyClick(desktop.window, key, Qt.KeyboardModifier.ControlModifier)
    QTest.keyClick(desktop.window, Qt.Key.Key_Down, Qt.KeyboardModifier.AltModifier)
    assert not [one for one in desktop.window.findChildren(QWidget) if one.isWindow() and one.isVisible()]
    assert desktop.lock.page.password.hasFocus()


def test_a_notification_says_that_something_came_and_not_what(desktop: Shared) -> None:
    shown = desktop.announced()
    desktop.lock.begin()
    desktop.sdk.arrive("bella", "the secret plan")
    desktop.until(lambda: shown)
    assert shown == [("Parley", "1 new message")]


def test_a_wrong_password_unlocks_nothing(desktop: Shared) -> None:
    desktop.lock_by_key()
    desktop.sdk.refuse_login = WrongPasswordError("The name or the password is wrong; new here? parley register.")
    desktop.enter("wrong")
    desktop.until(lambda: "wrong" in desktop.lock.page.problem.text())
    assert desktop.lock.page.problem.text() == "The password is wrong. The window stays locked. Type it again."
    assert desktop.lock.is_locked
    desktop.sdk.refuse_login = None
    desktop.enter(PASSWORD)
    desktop.until(lambda: not desktop.lock.is_locked)
    assert desktop.lock.page.password.text() == ""


def test_without_a_majority_the_window_stays_locked_and_says_why(desktop: Shared) -> None:
    desktop.lock_by_key()
    desktop.sdk.unreachable = True
    desktop.enter(PASSWORD)
    desktop.until(lambda: "stays locked" in desktop.lock.page.problem.text())
    assert desktop.lock.is_locked
    assert "goes out by itself" in desktop.lock.page.problem.text()


def test_a_session_that_ends_meanwhile_leads_to_the_sign_in_page_without_a_name(desktop: Shared) -> None:
    desktop.lock_by_key()
    desktop.sdk.state(connection=ConnectionState.SIGNED_OUT)
    desktop.until(desktop.window.sign_in.isVisible)
    assert desktop.window.sign_in.account.text() == ""
    assert not desktop.lock.is_locked


def test_closing_a_locked_window_does_not_unlock_it(qtbot: QtBot, closing: Keep, desktop: Shared) -> None:
    desktop.lock_by_key()
    again = Shared(qtbot, closing, desktop.root, desktop.sdk)
    desktop.sdk.session_of = "ann"
    Beginning().show(again.window, again.lock, HERE, "ann")
    again.until(lambda: again.window.app_state.page is VisiblePage.CHAT)
    assert again.lock.is_locked
    assert "Ben" not in again.visible_text()
    again.enter(PASSWORD)
    again.until(lambda: not again.lock.is_locked)
    assert not lock_file.load(desktop.root).has("ann")


def test_a_locked_session_that_has_ended_leaves_no_name_and_no_password(
    qtbot: QtBot, closing: Keep, tmp_path: Path
) -> None:
    lock_file.save(tmp_path, LockFile(("ann",)))
    desktop = Shared(qtbot, closing, tmp_path)
    page = desktop.window.sign_in
    page.password.setText("from PARLEY_PASSWORD")
    Beginning().show(desktop.window, desktop.lock, HERE, "ann")
    desktop.until(page.isVisible)
    assert (page.account.text(), page.password.text()) == ("", "")
    assert lock_file.load(tmp_path).has("ann"), "the password has not been checked"


def test_an_invitation_or_its_problem_comes_before_the_session(qtbot: QtBot, closing: Keep, tmp_path: Path) -> None:
    told = Shared(qtbot, closing, tmp_path)
    Beginning(problem="This invitation cannot be used.").show(told.window, told.lock, HERE, "ann")
    assert (told.window.sign_in.problem.text(), told.window.sign_in.submit.isEnabled()) == (
        "This invitation cannot be used.",
        True,
    )
    invited = Shared(qtbot, closing, tmp_path)
    offer = Invited("zoe", "code", "about", (), lambda _: None)
    Beginning(invited=offer).show(invited.window, invited.lock, HERE, "ann")
    assert (invited.window.sign_in.account.text(), invited.sdk.entered) == ("zoe", 0)


def test_a_lock_that_cannot_be_stored_says_so(desktop: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parley.gui.lock_file.save", lambda *_: False)
    desktop.lock_by_key()
    assert desktop.lock.page.problem.text() == NOT_KEPT


def test_an_idle_window_locks_itself_after_the_chosen_minutes(desktop: Shared) -> None:
    def locked() -> bool:
        desktop.lock.check_idle()
        return desktop.lock.is_locked

    desktop.clock.now_s += 100_000
    assert not locked(), "it is off until somebody chooses"
    desktop.lock.lock_after(5)
    desktop.clock.now_s += 299
    QTest.keyClick(desktop.window.chat.composer.editor, Qt.Key.Key_A)
    desktop.clock.now_s += 299
    assert not locked()
    desktop.clock.now_s += 2
    assert locked()
    assert lock_file.load(desktop.root).minutes == 5


def test_another_person_signs_in_and_the_first_one_needs_the_password_again(desktop: Shared) -> None:
    desktop.lock_by_key()
    QTest.mouseClick(desktop.lock.page.change, Qt.MouseButton.LeftButton)
    page = desktop.window.sign_in
    desktop.until(page.isVisible)
    assert page.account.text() == ""
    desktop.sign_in("bella")
    desktop.until(lambda: desktop.window.app_state.account == "bella")
    assert not desktop.lock.is_locked
    assert lock_file.load(desktop.root).accounts == ("ann",)
    desktop.lock.change_account()
    desktop.until(page.isVisible)
    desktop.sign_in("ann")
    desktop.until(lambda: desktop.window.app_state.account == "ann")
    assert lock_file.load(desktop.root).accounts == ("bella",)


def test_who_leaves_nothing_is_told_what_waits_first(desktop: Shared) -> None:
    desktop.sdk.tell(lambda: desktop.sdk.publisher.update(waiting=2))
    desktop.until(lambda: desktop.window.app_state.client_state.waiting == 2)
    desktop.lock.leave_nothing()
    [box] = desktop.window.findChildren(QMessageBox)
    assert "2 messages of ann still wait here. They are lost" in box.text()
    assert box.defaultButton().text().replace("&", "") == "Cancel"
    QTest.keyClick(box, Qt.Key.Key_Escape)
    desktop.qtbot.wait(20)
    assert not desktop.sdk.left_nothing
    desktop.lock.leave_nothing()
    box = desktop.window.findChildren(QMessageBox)[-1]
    [remove] = [one for one in box.buttons() if "Remove" in one.text()]
    QTest.mouseClick(remove, Qt.MouseButton.LeftButton)
    desktop.until(desktop.window.sign_in.isVisible)
    assert (desktop.sdk.left_nothing, desktop.window.sign_in.account.text()) == (True, "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"accounts": [1], "minutes": 0}',
        '{"accounts": "ann", "minutes": 0}',
        '{"accounts": {"ann": 1}, "minutes": 0}',
        '{"accounts": [], "minutes": "5"}',
        "[" * 9000,
    ],
)
def test_a_damaged_file_opens_no_window(tmp_path: Path, text: str) -> None:
    assert not lock_file.load(tmp_path).has("ann"), "nobody has locked anything"
    (tmp_path / lock_file.FILE_NAME).write_text(text)
    found = lock_file.load(tmp_path)
    assert (found.has("ann"), found.minutes) == (True, 0)
    assert lock_file.save(tmp_path, found.changed("ann", locked=False))
    assert not lock_file.load(tmp_path).has("ann"), "the password was checked"


def test_a_choice_in_another_window_leaves_the_lock_alone(desktop: Shared) -> None:
    lock_file.save(desktop.root, LockFile(("bella",)))
    desktop.lock.lock_after(15)
    assert lock_file.load(desktop.root) == LockFile(("bella",), 15)


def test_the_file_is_bounded_and_ignores_the_case_of_names(tmp_path: Path) -> None:
    content = LockFile(minutes=99_999)
    for number in range(lock_file.MOST_ACCOUNTS + 5):
        content = content.changed(f"Ann{number}", locked=True)
    assert lock_file.save(tmp_path, content)
    found = lock_file.load(tmp_path)
    assert (len(found.accounts), found.minutes) == (lock_file.MOST_ACCOUNTS, lock_file.MOST_MINUTES)
    assert found.has("ANN200")
    assert not found.changed("aNN200", locked=False).has("ann200")


@pytest.mark.parametrize("is_refused", [False, True])
def test_what_ends_because_a_person_signs_out_is_told_only_if_that_fails(
    desktop: Shared, monkeypatch: pytest.MonkeyPatch, is_refused: bool
) -> None:
    """The last requests of the window were refused meanwhile, and the first page said that nobody is signed in."""
    sdk = desktop.sdk

    async def meanwhile() -> None:
        sdk.refuse_lost_list = NotSignedInError("Nobody is signed in here.")
        sdk.publisher.update(lost_sent=1)
        await sdk.lost_list_refused.wait()
        ended = [task for task in asyncio.all_tasks() if task.get_coro().__name__ == "_follow_all"]  # type: ignore[union-attr]
        await asyncio.wait(ended)
        if is_refused:
            raise UnreachableError("No node answers.")

    told: list[str] = []
    show = desktop.window.sign_in.show_problem

    def note(text: str) -> None:
        told.append(text)
        show(text)

    monkeypatch.setattr(desktop.window.sign_in, "show_problem", note)
    sdk.meanwhile = meanwhile
    desktop.window.commands.leave_nothing()
    desktop.until(desktop.window.sign_in.isVisible)
    assert told == (["Nobody is signed in here."] if is_refused else [""])
