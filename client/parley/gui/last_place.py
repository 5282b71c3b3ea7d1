"""Keeps which conversation was open and how wide the list was, and shows them at the next start.

A conversation that is opened again by itself was not asked for by anybody who is there. So nothing of it counts as read
before the person does something in the window.
"""

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QObject, QTimer
from PySide6.QtWidgets import QApplication

from parley import Target, parse_json, read_private, replace_private

if TYPE_CHECKING:
    from parley.gui.main_window import MainWindow

FILE_NAME = "place.json"
MAX_BYTES = 65_536
MOST_ACCOUNTS = 64
MAX_WIDTH = 10_000
_DONE_BY_A_PERSON = (QEvent.Type.KeyPress, QEvent.Type.MouseButtonPress, QEvent.Type.Wheel, QEvent.Type.TouchBegin)


@dataclass(frozen=True, slots=True)
class Place:
    """The width of the list, 0 if it was never chosen, and the open conversation of each account by its id."""

    list_width: int = 0
    opened: tuple[tuple[str, int], ...] = ()

    def of(self, account: str) -> int:
        """Return the id of the conversation that an account had open, or 0."""
        return dict(self.opened).get(account.lower(), 0)

    def with_opened(self, account: str, conversation_id: int) -> "Place":
        """Return it with another open conversation of an account. 0 means none."""
        others = tuple(one for one in self.opened if one[0] != account.lower())
        mine = ((account.lower(), conversation_id),) if conversation_id else ()
        return replace(self, opened=(*others, *mine)[-MOST_ACCOUNTS:])


def load(root: Path) -> Place:
    """Return what is stored. What cannot be understood counts as nothing, because nobody chose it."""
    try:
        found = parse_json(read_private(root / FILE_NAME, MAX_BYTES))
        width, opened = found["list_width"], found["opened"]
        if type(width) is not int or not 0 <= width <= MAX_WIDTH:
            return Place()
        if not all(type(one) is int and 0 < one < 2**63 for one in opened.values()):
            return Place()
        return Place(width, tuple(opened.items())[-MOST_ACCOUNTS:])
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Place()


def save(root: Path, place: Place) -> None:
    """Store the place. Errors are ignored, because a full disk must not stop the window."""
    with suppress(OSError):
        replace_private(root / FILE_NAME, json.dumps({"list_width": place.list_width, "opened": dict(place.opened)}))


class LastPlace(QObject):
    """Opens the last conversation of the account that is signed in, once its list is there."""

    def __init__(self, window: "MainWindow", root: Path) -> None:
        """Show the stored width of the list at once."""
        super().__init__(window)
        self._window = window
        self._root = root
        self._place = load(root)
        self._account = ""
        if self._place.list_width:
            window.chat.set_list_width(self._place.list_width)
        window.chat.split.splitterMoved.connect(self._keep_width)
        soon = QTimer(self)  # not while the list changes
        soon.setSingleShot(True)
        soon.timeout.connect(self._listed)
        for changed in (window.chat.items.rowsInserted, window.chat.items.modelReset):
            changed.connect(lambda: soon.start(0))

    def store(self) -> None:
        """Store the present place."""
        state = self._window.app_state
        if state.account:
            key = state.open_key
            conversation_id = 0 if key is None else state.chats.conversation_id(key)
            self._place = self._place.with_opened(state.account, conversation_id)
        save(self._root, self._place)

    def _keep_width(self, width: int, _handle: int) -> None:
        self._place = replace(self._place, list_width=min(max(width, 0), MAX_WIDTH))

    def _listed(self) -> None:
        """Open the conversation when it is in the list. That is tried for one sign-in once."""
        state = self._window.app_state
        if not state.account and self._account:  # nothing of somebody who has signed out is left here
            self._place, self._account = self._place.with_opened(self._account, 0), ""
            save(self._root, self._place)
        if not state.account or state.account == self._account or not self._window.chat.items.rowCount():
            return
        self._account = state.account
        wanted = self._place.of(state.account)
        known = {item.key.conversation_id for item in state.items() if not item.put_away}
        if state.open_key is None and wanted in known and self._window.chat.isVisible():
            self._window.untouched = True
            self._window.pay_attention()
            self._window.open_conversation(Target(conversation_id=wanted))
            self._wait_for_somebody()

    def _wait_for_somebody(self) -> None:
        app = QApplication.instance()
        if app is not None:
            app.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Count what is on the screen as seen from the first key or click on."""
        if event.type() in _DONE_BY_A_PERSON and self._window.isActiveWindow():
            app = QApplication.instance()
            if app is not None:
                app.removeEventFilter(self)
            self._window.untouched = False
            self._window.pay_attention()
        return super().eventFilter(watched, event)
