"""Letters typed anywhere on the chat page go into the field, and so does what is pasted."""

from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtGui import QKeyEvent, QKeySequence
from PySide6.QtWidgets import QApplication

from parley.gui.chat import ChatPage

_KEPT_MODIFIERS = (
    Qt.KeyboardModifier.ShiftModifier | Qt.KeyboardModifier.KeypadModifier | Qt.KeyboardModifier.GroupSwitchModifier
)


class TypingAnywhere(QObject):
    """Moves the focus into the field when somebody begins to type elsewhere. The first letter is not lost."""

    def __init__(self, chat: ChatPage) -> None:
        super().__init__(chat)
        self._chat = chat
        # Both views would take letters for a search. Buttons take none, so those reach the page.
        for place in (chat, chat.list, chat.view):
            place.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Pass letters and pasted text on to the field."""
        editor = self._chat.composer.editor
        if not isinstance(event, QKeyEvent) or event.type() != QEvent.Type.KeyPress or not editor.isVisible():
            return super().eventFilter(watched, event)
        plain = not event.modifiers() & ~_KEPT_MODIFIERS
        is_text = plain and event.text() != "" and event.text().isprintable()
        if not is_text and not event.matches(QKeySequence.StandardKey.Paste):
            return super().eventFilter(watched, event)
        editor.setFocus()
        QApplication.sendEvent(editor, event)
        return True
