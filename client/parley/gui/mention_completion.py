"""Completes `@` and the beginning of a name in the field, in channels.

The list appears only while the person writes, and only where the finished text would be a mention. While it is there,
five keys are its own; without a match it is not there. The input method of the system composes undisturbed: nothing
appears before it has committed its text.
"""

import re

from PySide6.QtCore import QEvent, QObject, QPoint, QRect, Qt
from PySide6.QtGui import QKeyEvent, QTextCursor

from parley import Account
from parley.chat import can_begin
from parley.gui.channel_members import ChannelMembers
from parley.gui.chat import ChatPage
from parley.gui.mention_list import MentionList, announce
from parley.gui.paragraphs import utf16_length
from parley.gui.theme import GRID

MOST_TYPED = 64  # letters of a name
LOOK_BACK = 512  # letters before it, which say whether it is in a link

_BEGUN = re.compile(rf"@([\w.-]{{0,{MOST_TYPED}}})$")
_ENDS_LATER = re.compile(r"[\w@]")


class MentionCompletion(QObject):
    """The completion of the field of a chat page."""

    def __init__(self, chat: ChatPage, members: ChannelMembers) -> None:
        """`members` are those of the open conversation."""
        super().__init__(chat)
        self._chat = chat
        self._editor = chat.composer.editor
        self._members = members
        self._start: int | None = None
        """Where the mention begins that is being written, as Qt counts."""
        self._closed: int | None = None
        """Where the mention begins for which the person closed the list."""
        self.list = MentionList(chat)
        self.list.chosen.connect(self._put)
        self._editor.installEventFilter(self)
        self._editor.written.connect(self._written)
        self._editor.cursorPositionChanged.connect(self._moved)
        for moving in (chat.composer, chat.composer.field, chat.right):
            moving.installEventFilter(self)
        chat.rows.modelReset.connect(self._left)
        members.came.connect(self._came)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Take the keys of the list while it is there. Let it follow the field, which grows with its text."""
        if watched is not self._editor:
            if event.type() in (QEvent.Type.Move, QEvent.Type.Resize) and self.list.isVisible():
                self._place()
        elif event.type() == QEvent.Type.FocusOut:
            self._end()
        elif isinstance(event, QKeyEvent) and event.type() == QEvent.Type.KeyPress and self.list.isVisible():
            return self._take_key(event)
        return super().eventFilter(watched, event)

    def _take_key(self, event: QKeyEvent) -> bool:
        """Do what a key does in the list. Return false for a key of the field."""
        if event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier:
            return False
        match event.key():
            case Qt.Key.Key_Up | Qt.Key.Key_Down:
                self.list.step(-1 if event.key() == Qt.Key.Key_Up else 1)
                announce(self._editor, self.list.spoken)
            case Qt.Key.Key_Return | Qt.Key.Key_Enter | Qt.Key.Key_Tab:
                self._put(self.list.current)
            case Qt.Key.Key_Escape:
                self._closed = self._start
                self._end()
            case _:
                return False
        return True

    # ---- what the person writes

    def _written(self) -> None:
        """Show who is meant, after a letter was written or removed."""
        begun = self._begun()
        if begun is None:
            self._closed = None
            self._end()
            return
        start, typed = begun
        if start == self._closed:
            return
        if start != self._start:
            self._start, self._closed = start, None
            self._members.begin()
        self._show(typed)

    def _moved(self) -> None:
        """Follow the text, whatever changed it. Only writing begins a mention."""
        if self._start is None and self._closed is None:
            return
        begun = self._begun()
        if begun is None or begun[0] != self._closed:
            self._closed = None  # another text may have a mention there, as after sending
        if begun is None or begun[0] != self._start:
            self._end()
        elif self.list.isVisible():
            self._show(begun[1])

    def _came(self) -> None:
        """Show members that were asked for."""
        begun = self._begun() if self._start is not None else None
        if begun is not None and begun[0] == self._start:
            self._show(begun[1])

    def _left(self) -> None:
        """Forget the conversation, because another one is shown."""
        self._closed = None
        self._end()
        self._members.forget()

    def _begun(self) -> tuple[int, str] | None:
        """Return where the mention at the cursor begins, as Qt counts, and what was typed of the name, or None."""
        cursor = self._editor.textCursor()
        if self._editor.is_composing:
            return None
        units = cursor.block().text().encode("utf-16-le", "surrogatepass")
        at = 2 * cursor.positionInBlock()
        before = units[max(0, at - 2 * LOOK_BACK) : at].decode("utf-16-le", "replace")
        after = units[at : at + 2].decode("utf-16-le", "replace")
        found = _BEGUN.search(before)
        if found is None or _ENDS_LATER.match(after) or not can_begin(before[: found.start()]):
            return None
        return cursor.position() - utf16_length(found[0]), found[1]

    # ---- the list

    def _show(self, typed: str) -> None:
        accounts = self._members.matching(typed)
        if not accounts:
            self.list.hide()
            return
        before = self.list.spoken if self.list.isVisible() else ""
        self.list.show_accounts(accounts)
        self._place()
        self.list.show()
        self.list.raise_()
        if self.list.spoken != before:
            announce(self._editor, self.list.spoken)

    def _place(self) -> None:
        """Put the list between the title and the field."""
        if self._start is None:
            return
        composer = self._chat.composer
        left = composer.mapTo(self._chat, QPoint(GRID, 0)).x()
        bottom = composer.field.mapTo(self._chat, QPoint(0, -GRID // 2)).y()
        room = QRect(left, GRID, composer.width() - 2 * GRID, bottom - GRID)
        mention = QTextCursor(self._editor.document())
        mention.setPosition(self._start)
        at = self._editor.viewport().mapTo(self._chat, self._editor.cursorRect(mention).center())
        self.list.place(at, room)

    def _end(self) -> None:
        self._start = None
        self.list.hide()

    def _put(self, account: Account) -> None:
        """Write the name into the text, in one step that can be undone."""
        if self._start is None:
            return
        cursor = self._editor.textCursor()
        end = cursor.position()
        block_end = cursor.block().position() + cursor.block().length() - 1
        cursor.setPosition(self._start)
        cursor.setPosition(end, QTextCursor.MoveMode.KeepAnchor)
        self._end()
        cursor.insertText(f"@{account.name}" + (" " if end == block_end else ""))
        if self._editor.document().characterAt(cursor.position()) == " ":
            cursor.movePosition(QTextCursor.MoveOperation.Right)
        self._editor.setTextCursor(cursor)
