"""The actions on one message: from its menu, by key, or by opening its links. And the menu of a conversation."""

from collections.abc import Callable
from functools import partial

from PySide6.QtCore import QModelIndex, QObject, QPoint, Qt, QUrl
from PySide6.QtGui import QAction, QDesktopServices, QGuiApplication, QKeySequence, QShortcut
from PySide6.QtWidgets import QAbstractItemView, QMenu, QWidget

from parley import MessageStatus, Target
from parley.chat import ConversationItem, Row, links, why_fixed
from parley.gui.app_state import ChatAppState
from parley.gui.chat import ChatPage
from parley.gui.commands import Commands
from parley.gui.conversations import ITEM_ROLE
from parley.gui.direction import apart
from parley.gui.put_away import PutAway
from parley.gui.removal import Removal

TOO_LATE = "The message was sent before your change. Your text is kept here. Enter sends it as a new message."


def new_menu(parent: QWidget) -> QMenu:
    """Return an empty menu that is deleted when it closes."""
    menu = QMenu(parent)
    menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    return menu


def offer(menu: QMenu, text: str, doing: Callable[[], None]) -> None:
    """Add an action to a menu."""
    words, tab, keys = text.partition("\t")
    action = QAction(f"{words}{tab}{apart(keys)}" if tab else text, menu)
    action.triggered.connect(lambda _checked=False: doing())
    menu.addAction(action)


def _asked_for(view: QAbstractItemView, position: QPoint) -> tuple[QModelIndex, QPoint]:
    """Return the item whose menu is asked for, by mouse or by key, and the place of the menu on the screen."""
    index = view.indexAt(position)
    if view.hasFocus() and view.currentIndex().isValid() and not view.underMouse():
        index = view.currentIndex()  # asked for by key
        position = view.visualRect(index).center()
    return index, view.viewport().mapToGlobal(position)


class RowActions(QObject):
    """Copies, edits, cancels and retries messages of the open conversation, and asks who has them."""

    def __init__(self, chat: ChatPage, app_state: ChatAppState, commands: Callable[[], Commands]) -> None:
        """`commands` returns the object that carries out the commands."""
        super().__init__(chat)
        self._chat = chat
        self._app_state = app_state
        self._commands = commands
        self.put_away = PutAway(app_state, commands)
        self.removal = Removal(chat, app_state, commands, self.put_away.left.emit)
        chat.add_below_list(self.put_away)
        QWidget.setTabOrder(chat.list, self.put_away.undo)
        QWidget.setTabOrder(self.put_away.undo, self.put_away.shows)
        view = chat.view
        view.link_clicked.connect(self._open_link)
        view.activated.connect(self._activate)
        view.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        view.customContextMenuRequested.connect(self._show_menu)
        chat.list.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        chat.list.customContextMenuRequested.connect(self._show_conversation_menu)
        chat.composer.edit_last_asked.connect(self._edit_last)
        chat.composer.edit_asked.connect(self._keep_edit)
        for keys, action in (
            ("Ctrl+C", lambda: self._with_row(self._copy)),
            ("F2", lambda: self._with_row(self._edit)),
            ("Delete", lambda: self._with_row(self._cancel)),
            ("Escape", chat.composer.editor.setFocus),
        ):
            shortcut = QShortcut(QKeySequence(keys), view)
            shortcut.setContext(Qt.ShortcutContext.WidgetShortcut)
            shortcut.activated.connect(action)

    def menu(self, row: Row) -> QMenu:
        """Return the menu of a message."""
        menu = new_menu(self._chat)
        offer(menu, "Copy\tCtrl+C", lambda: self._copy(row))
        if row.status is not None and row.message_id:
            offer(menu, "Receipts", lambda: self._ask_receipts(row))
        for link in links(row.shown)[:5]:
            offer(menu, f"Open {link.url[:60].replace('&', '&&')}", partial(self._open_link, link.url))
        if row.editable:
            offer(menu, "Edit\tF2", lambda: self._edit(row))
        if row.retriable:
            offer(menu, "Try again\tCtrl+R", lambda: self._commands().retry(row.local_id))
        if row.cancellable:
            words = "Do not send\tDel" if row.editable else "Remove\tDel"
            offer(menu, words, lambda: self._cancel(row))
        return menu

    def conversation_menu(self, item: ConversationItem) -> QMenu:
        """Return the menu of a conversation of the list."""
        menu = new_menu(self._chat)
        known = item.key.conversation_id
        target = Target(conversation_id=known) if known else self._app_state.chats.target(item.key)
        words = "Unmute" if item.muted else "Mute"
        offer(menu, words, lambda: self._commands().mute(target, muted=not item.muted))
        words = "Bring back" if item.put_away else "Put away"
        offer(menu, words, lambda: self.put_away.change(item))
        if self.removal.can_remove(item):
            offer(menu, "Remove conversation…", lambda: self.removal.ask(item))
        return menu

    def retry(self) -> None:
        """Send the selected message again, or the last one that failed."""
        row = self._chat.view.current_row() if self._chat.view.hasFocus() else None
        thread = self._app_state.open_thread()
        if (row is None or not row.retriable) and thread is not None:
            row = next((row for row in reversed(thread.rows) if row.retriable), None)
        if row is not None and row.retriable:
            self._commands().retry(row.local_id)

    def check_edited(self) -> None:
        """End the editing of a message that was sent meanwhile. Its text returns to the field."""
        composer, thread = self._chat.composer, self._app_state.open_thread()
        if composer.editing is None or thread is None:
            return
        row = next((row for row in thread.rows if row.local_id == composer.editing), None)
        if row is not None and row.editable:
            return
        typed = composer.editor.toPlainText()
        composer.stop_editing()
        if row is None or typed != row.body:
            composer.give_back(typed, TOO_LATE)

    def _edit_last(self) -> None:
        thread = self._app_state.open_thread()
        row = thread.last_waiting() if thread is not None else None
        if row is None and thread is not None and thread.rows:
            row = thread.rows[-1] if thread.rows[-1].status is MessageStatus.SENDING else None
        if row is not None:
            self._edit(row)

    def _edit(self, row: Row) -> None:
        if row.editable:
            self._chat.composer.edit(row.local_id, row.body)
        elif row.retriable:
            self._chat.composer.tell("This message was not sent. Ctrl+R tries again, Delete removes it.")
        else:
            self._chat.composer.tell(why_fixed(row))

    def _keep_edit(self, local_id: int, body: str) -> None:
        key = self._app_state.open_key
        if key is not None:
            self._commands().edit(local_id, body, self._app_state.chats.target(key))

    def _cancel(self, row: Row) -> None:
        if row.cancellable:
            self._commands().cancel(row.local_id)
        else:
            self._chat.composer.tell(why_fixed(row))

    def _ask_receipts(self, row: Row) -> None:
        key = self._app_state.open_key
        if key is not None:
            self._commands().ask_receipts(self._app_state.chats.conversation_id(key), row.message_id)

    def _copy(self, row: Row) -> None:
        QGuiApplication.clipboard().setText(row.shown)

    def _with_row(self, doing: Callable[[Row], None]) -> None:
        row = self._chat.view.current_row()
        if row is not None:
            doing(row)

    def _activate(self, index: QModelIndex) -> None:
        if index.isValid():
            found = links(self._chat.rows.row(index.row()).shown)
            if found:
                self._open_link(found[0].url)

    def _open_link(self, url: str) -> None:
        QDesktopServices.openUrl(QUrl(url))

    def _show_conversation_menu(self, position: QPoint) -> None:
        index, place = _asked_for(self._chat.list, position)
        if index.isValid():
            self.conversation_menu(index.data(ITEM_ROLE)).popup(place)

    def _show_menu(self, position: QPoint) -> None:
        index, place = _asked_for(self._chat.view, position)
        if index.isValid():
            self.menu(self._chat.rows.row(index.row())).popup(place)
