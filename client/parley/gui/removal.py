"""Removing a conversation: the window asks first, because there is no way back."""

from collections.abc import Callable

from PySide6.QtCore import QObject, Qt
from PySide6.QtWidgets import QMessageBox, QWidget

from parley import Target
from parley.chat import ConversationItem, ConversationKey
from parley.gui.app_state import ChatAppState
from parley.gui.commands import Commands

REMOVES_TEXT = (
    "All messages up to now disappear from all your devices, for good. The others keep everything. A newer message "
    "brings the conversation back, without what was removed."
)
STAYS_MEMBER_TEXT = "You stay a member of the channel. To get no more messages of it, leave it first."
STILL_SENT_TEXT = "Your messages that wait here stay, and are still sent."


class Removal(QObject):
    """Asks whether a conversation is to be removed, and removes what was there when it asked."""

    def __init__(
        self,
        window: QWidget,
        app_state: ChatAppState,
        commands: Callable[[], Commands],
        leave: Callable[[], None],
    ) -> None:
        """`commands` returns the object that carries out the commands, `leave` closes the open conversation."""
        super().__init__(window)
        self._window = window
        self._app_state = app_state
        self._commands = commands
        self._leave = leave
        self.question: QMessageBox | None = None

    def can_remove(self, item: ConversationItem) -> bool:
        """Return whether there is anything to remove."""
        return self._newest(item.key) > 0

    def ask(self, item: ConversationItem) -> None:
        """Ask about a conversation, unless a question is open."""
        newest = self._newest(item.key)
        if self.question is not None or not newest:
            return
        waiting = bool(self._app_state.chats.conversations.look(item.key).open)
        texts = (REMOVES_TEXT, STAYS_MEMBER_TEXT if item.channel else "", STILL_SENT_TEXT if waiting else "")
        box = QMessageBox(
            QMessageBox.Icon.Warning, "Remove a conversation", f"Remove {item.title}?", parent=self._window
        )
        box.setTextFormat(Qt.TextFormat.PlainText)
        box.setInformativeText(" ".join(filter(None, texts)))
        remove = box.addButton("Remove", QMessageBox.ButtonRole.DestructiveRole)
        cancel = box.addButton(QMessageBox.StandardButton.Cancel)
        box.setDefaultButton(cancel)
        box.setEscapeButton(cancel)
        asked = (self._app_state.account, item.key, newest)
        box.finished.connect(lambda: self._answered(asked, is_yes=box.clickedButton() is remove))
        self.question = box
        box.open()

    def ask_open(self) -> None:
        """Ask about the open conversation."""
        key = self._app_state.open_key
        if key is not None:
            self.ask(self._app_state.chats.item(key))

    def close(self) -> None:
        """Close the question, because nobody is signed in any more."""
        if self.question is not None:
            self.question.reject()

    def _answered(self, asked: tuple[str, ConversationKey, int], *, is_yes: bool) -> None:
        box, self.question = self.question, None
        if box is not None:
            box.deleteLater()
        account, key, newest = asked
        if not is_yes or account != self._app_state.account:
            return
        chats = self._app_state.chats
        key = chats.conversations.resolve(key)
        known = chats.conversation_id(key)
        if key == self._app_state.open_key:
            self._leave()  # a draft is stored before it is removed
        self._commands().remove_conversation(
            Target(conversation_id=known) if known else self._app_state.chats.target(key), newest
        )

    def _newest(self, key: ConversationKey) -> int:
        return self._app_state.chats.conversations.look(key).newest
