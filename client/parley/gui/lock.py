"""Locks the window of a shared workstation until the password of the account is entered.

While it is locked nothing of the account is on the screen: not the list, not the title, not the text of a
notification, and no dialog or menu. Nothing counts as read. The cluster checks the password, by a log-in. So without a
majority of the nodes the window stays locked. lock_file.py keeps it locked over a restart.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QObject, QTimer
from PySide6.QtGui import QAction, QActionGroup, QKeySequence, QShortcut
from PySide6.QtWidgets import QApplication, QMenu, QMessageBox, QStackedWidget, QWidget

from parley.chat import plural
from parley.gui import lock_file
from parley.gui.app_state import VisiblePage
from parley.gui.lock_page import LockPage
from parley.gui.row_actions import offer

if TYPE_CHECKING:
    from parley.gui.main_window import MainWindow

KEYS = "Ctrl+Shift+L"
CHECK_EVERY_MS = 5_000
CHOICES = (0, 1, 5, 15, 60)
_STAYS = "Ctrl+Q"
_ACTIVITY = frozenset((QEvent.Type.KeyPress, QEvent.Type.MouseButtonPress, QEvent.Type.MouseMove, QEvent.Type.Wheel))
NOT_KEPT = "The lock could not be stored on this machine. Who closes the window and starts it again needs no password."


def elapsed_s() -> float:
    """Return a clock that goes on while the machine sleeps, where there is one."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class Lock(QObject):
    """Covers the window. It is made after the window, and belongs to it."""

    def __init__(self, window: "MainWindow", root: Path, clock: Callable[[], float] = elapsed_s) -> None:
        """`root` is the state folder."""
        super().__init__(window)
        self._window = window
        self._root = root
        self._clock = clock
        self._account = ""
        self._kept = lock_file.load(root)
        self._acted_at_s = clock()
        self._is_watching = False
        self._forgets_name = False
        self.page = LockPage(window.colours.theme)
        self._stack = QStackedWidget()
        self._whole = window.takeCentralWidget() or QWidget()
        self._stack.addWidget(self._whole)
        self._stack.addWidget(self.page)
        window.setCentralWidget(self._stack)
        self._idle = QTimer(self)
        self._idle.setInterval(CHECK_EVERY_MS)
        self._idle.timeout.connect(self.check_idle)
        self.page.unlock_asked.connect(lambda password: window.commands.unlock(password))  # noqa: PLW0108 - attached later
        self.page.change_asked.connect(self.change_account)
        window.account_dialogs.unlock_answered.connect(self._answered)
        window.sign_in.settled.connect(self._signed_out)
        window.pages.currentChanged.connect(self._page_changed)
        window.colours.changed.connect(self.page.restyle)
        QShortcut(QKeySequence(KEYS), window).activated.connect(self.begin)
        self._watch()

    # ---- what is asked for

    @property
    def is_locked(self) -> bool:
        """Return true while the page covers everything."""
        return self._stack.currentWidget() is self.page

    @property
    def minutes(self) -> int:
        """Return after how many minutes without a key or a mouse the window locks itself. 0: never."""
        return self._kept.minutes

    def lock_after(self, minutes: int) -> None:
        """Lock the window after so many idle minutes from now on. 0: never."""
        self._change(lambda kept: replace(kept, minutes=minutes))
        self._acted_at_s = self._clock()
        self._watch()

    def begin(self) -> None:
        """Lock the window, if somebody is signed in."""
        if self._window.app_state.page is VisiblePage.CHAT and not self.is_locked:
            self._window.save_draft()
            self._cover(self._window.app_state.account)

    def begin_again(self, account: str) -> None:
        """Begin locked, if the window of this account was locked when it was closed."""
        if self._read().has(account):
            self._cover(account)

    def change_account(self) -> None:
        """Let another person sign in. The session stays on this machine, locked."""
        account = self._account or self._window.app_state.account
        self._window.save_draft()
        self._change(lambda kept: kept.changed(account, locked=True))
        self._forgets_name = True
        self._window.commands.change_account()

    def leave_nothing(self) -> None:
        """Ask, and then sign out and remove everything of the account from this machine."""
        account, waiting = self._window.app_state.account, self._window.app_state.client_state.waiting
        text = (
            f"{account} is signed out here. Messages, drafts and the session are removed from this machine. The "
            "cluster keeps what it has."
        )
        if waiting:
            text += (
                f"\n\n{plural(waiting, 'message')} of {account} still wait here. They are lost, and nobody gets them."
            )
        box = QMessageBox(QMessageBox.Icon.Warning, "Sign out and leave nothing", text, parent=self._window)
        remove = box.addButton("Remove everything", QMessageBox.ButtonRole.DestructiveRole)
        box.setDefaultButton(box.addButton(QMessageBox.StandardButton.Cancel))
        remove.clicked.connect(self._leave_nothing)
        box.finished.connect(box.deleteLater)
        box.open()

    def _leave_nothing(self) -> None:
        self._forgets_name = True
        self._window.commands.leave_nothing()

    def add_to(self, menu: QMenu) -> None:
        """Add all of this to a menu."""
        offer(menu, f"Lock\t{KEYS}", self.begin)
        idle = menu.addMenu("Lock when idle")
        group = QActionGroup(idle)
        for minutes in CHOICES:
            action = QAction(f"After {plural(minutes, 'minute')}" if minutes else "Never", idle)
            action.setCheckable(True)
            action.setChecked(minutes == self.minutes)
            action.triggered.connect(lambda _checked=False, chosen=minutes: self.lock_after(chosen))
            group.addAction(action)
            idle.addAction(action)
        offer(menu, "Change the account", self.change_account)

    # ---- idle

    def check_idle(self) -> None:
        """Lock the window if nobody has used it for long enough."""
        if self.minutes and self._clock() - self._acted_at_s >= 60 * self.minutes:
            self.begin()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Note that somebody uses the window."""
        if event.type() in _ACTIVITY:
            self._acted_at_s = self._clock()
        return False

    def _watch(self) -> None:
        """Look at events only if that is needed, because every event of the application passes here."""
        application = QApplication.instance()
        if application is None or self._is_watching == bool(self.minutes):
            return
        self._is_watching = bool(self.minutes)
        if self._is_watching:
            application.installEventFilter(self)
            self._idle.start()
        else:
            application.removeEventFilter(self)
            self._idle.stop()

    # ---- covering

    def _cover(self, account: str) -> None:
        self._account = account
        is_kept = self._change(lambda kept: kept.changed(account, locked=True))
        self._stack.setCurrentWidget(self.page)
        for other in QApplication.topLevelWidgets():
            if other.isVisible() and self._belongs_here(other.parentWidget()):
                other.close()
        self._set_private(True)
        self._window.setWindowTitle("Parley")
        self.page.begin(account)
        if not is_kept:
            self.page.show_problem(NOT_KEPT)

    def _belongs_here(self, parent: QWidget | None) -> bool:
        while parent is not None and parent is not self._window:
            parent = parent.parentWidget()
        return parent is not None

    def _uncover(self) -> None:
        self._account = ""
        self._stack.setCurrentWidget(self._whole)
        self.page.password.forget()
        self._acted_at_s = self._clock()
        self._set_private(False)

    def _set_private(self, private: bool) -> None:
        self._window.notifier.private = private
        for shortcut in self._window.findChildren(QShortcut):
            if shortcut.key() != QKeySequence(_STAYS):
                shortcut.setEnabled(not private)
        self._window.pay_attention()
        self._window.conversations_changed()

    def _answered(self, problem: str) -> None:
        if not self.is_locked:
            return
        if problem:
            self.page.show_problem(problem)
            return
        self._change(lambda kept: kept.changed(self._account, locked=False))
        self._uncover()
        self._window.chat.list.setFocus()

    def _signed_out(self) -> None:
        """The sign-in page asks for the password itself. It shows no name of the person before."""
        if self._window.app_state.page is not VisiblePage.SIGN_IN:
            return
        if self._forgets_name or self.is_locked:
            self._window.sign_in.account.clear()
            self._window.sign_in.forget_secrets()
            self._forgets_name = False
        if self.is_locked:
            self._uncover()

    def _page_changed(self) -> None:
        """Somebody has signed in with the password, if the window was not locked meanwhile."""
        account = self._window.app_state.account
        if self._window.app_state.page is VisiblePage.CHAT and not self.is_locked and self._read().has(account):
            self._change(lambda kept: kept.changed(account, locked=False))

    def _read(self) -> lock_file.LockFile:
        """Return what is stored now. Another window may have locked another account, or this one, meanwhile."""
        self._kept = lock_file.load(self._root)
        return self._kept

    def _change(self, changed: Callable[[lock_file.LockFile], lock_file.LockFile]) -> bool:
        """Return whether it could be stored."""
        self._kept, is_stored = lock_file.change(self._root, changed)
        return is_stored
