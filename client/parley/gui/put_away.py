"""What was put away: out of the list, below a line at its end, with a way back.

A conversation that is open is listed whatever happens to it elsewhere, so nothing disappears under the person's hands.
"""

from collections.abc import Callable, Sequence

from PySide6.QtCore import QTimer, Signal
from PySide6.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from parley import Target
from parley.chat import ConversationItem, ConversationKey, plural
from parley.gui.app_state import ChatAppState
from parley.gui.commands import Commands
from parley.gui.elided_label import ElidedLabel
from parley.gui.theme import GRID

UNDO_MS = 10_000


class PutAway(QWidget):
    """The line below the list: what was put away, and for some seconds the way back of the last one."""

    left = Signal()
    """The open conversation was put away by the person."""
    toggled = Signal()

    def __init__(self, app_state: ChatAppState, commands: Callable[[], Commands]) -> None:
        """`commands` returns the object that carries out the commands."""
        super().__init__()
        self._app_state = app_state
        self._commands = commands
        self._asked: tuple[str, ConversationKey] | None = None  # account and conversation
        self.said = ElidedLabel()
        self.undo = QPushButton("Undo")
        self.undo.setProperty("flat", True)
        self.undo.clicked.connect(self._undo)
        self.line = QWidget()
        row = QHBoxLayout(self.line)
        row.setContentsMargins(2 * GRID, 0, GRID, 0)
        row.addWidget(self.said, 1)
        row.addWidget(self.undo)
        self.line.hide()
        self.shows = QPushButton()
        self.shows.setCheckable(True)
        self.shows.setProperty("flat", True)
        self.shows.toggled.connect(self.toggled)
        self.shows.hide()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.line)
        column.addWidget(self.shows)
        self._expiry = QTimer(self)
        self._expiry.setSingleShot(True)
        self._expiry.setInterval(UNDO_MS)
        self._expiry.timeout.connect(self._forget)

    def listed(self, items: Sequence[ConversationItem]) -> list[ConversationItem]:
        """Return what the list shows of all conversations. Show how many others there are."""
        away = [item for item in items if item.put_away]
        if not away:
            self.shows.setChecked(False)
        unread = sum(item.unread for item in away)
        self.shows.setText(f"Put away ({len(away)})" + (f", {unread} unread" if unread else ""))
        counted = f"{plural(len(away), 'conversation')} put away, {plural(unread, 'unread message')}"
        self.shows.setAccessibleName(counted)
        self.shows.setVisible(bool(away))
        self._show_undo(items)
        open_key, all_ = self._app_state.open_key, self.shows.isChecked()
        return [item for item in items if all_ or not item.put_away or item.key == open_key]

    def change(self, item: ConversationItem) -> None:
        """Put a conversation away, or bring it back."""
        if item.put_away:
            self._commands().bring_back(self._target(item.key))
            return
        self._forget()
        self._asked = (self._app_state.account, item.key)
        self._commands().put_away(self._target(item.key), self._app_state.chats.conversations.look(item.key).newest)
        if item.key == self._app_state.open_key:
            self.left.emit()

    def change_open(self) -> None:
        """Put the open conversation away, or bring it back."""
        key = self._app_state.open_key
        if key is not None:
            self.change(self._app_state.chats.item(key))

    def _show_undo(self, items: Sequence[ConversationItem]) -> None:
        account = self._app_state.account
        item = next((item for item in items if (account, item.key) == self._asked), None)
        if item is None or not item.put_away:
            self.line.hide()  # not yet, or it is back
        elif self.line.isHidden():
            self.said.setText(f"Put away: {item.title}")
            self.undo.setAccessibleName(f"Bring {item.title} back")
            self.line.show()
            self._expiry.start()

    def _undo(self) -> None:
        if self._asked is not None:
            self._commands().bring_back(self._target(self._asked[1]))
        self._forget()

    def _forget(self) -> None:
        self._asked = None
        self.line.hide()

    def _target(self, key: ConversationKey) -> Target:
        known = self._app_state.chats.conversation_id(key)
        return Target(conversation_id=known) if known else self._app_state.chats.target(key)
