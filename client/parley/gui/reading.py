"""Follows which rows are visible: marks what was seen as read, and requests the next page of history.

A read mark covers every message below it. So it moves only over messages that were on the screen, without a gap. A
conversation opens at its first unread message. Until that one is loaded the view follows the divider, unless the
person scrolls.
"""

from collections.abc import Callable

from PySide6.QtCore import QEvent, QObject, QTimer

from parley.chat import ConversationKey, Seen
from parley.gui.app_state import ANSWERING, ChatAppState
from parley.gui.chat import ChatPage
from parley.gui.commands import Commands
from parley.gui.unread_offer import UnreadOffer


class Reading(QObject):
    """The visible rows of the open conversation. Several calls of look_soon() cost one look at the next turn."""

    def __init__(self, chat: ChatPage, app_state: ChatAppState, commands: Callable[[], Commands]) -> None:
        """`commands` returns the object that carries out the commands."""
        super().__init__(chat)
        self._chat = chat
        self._app_state = app_state
        self._commands = commands
        self._seen = Seen()
        self._settling = False
        self._offer = UnreadOffer()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._look)
        view = chat.view
        chat.add_above_messages(self._offer)
        view.moved.connect(self.look_soon)
        view.verticalScrollBar().actionTriggered.connect(self._stay)
        view.installEventFilter(self)
        for asked in (chat.latest.clicked, chat.composer.send_asked, self._offer.latest_asked):
            asked.connect(self._stay)
        chat.composer.paged.connect(self._page)
        self._offer.latest_asked.connect(view.to_bottom)
        self._offer.first_asked.connect(self._to_first_unread)
        self._offer.all_read.connect(self._mark_all)

    def begin(self) -> None:
        """Begin to follow another conversation."""
        self._seen = Seen()
        self._settling = True
        self.settle()

    def settle(self) -> None:
        """Show the first unread message, as far as it is loaded."""
        thread = self._app_state.open_thread()
        if not self._settling or thread is None:
            return
        row = thread.divider_row
        if row is not None:
            self._chat.view.show_from(row)
        if thread.verified_from is not None:
            self._settling = row is not None and not thread.has_first_unread
        elif thread.rows and self._app_state.client_state.connection not in ANSWERING:
            self._settling = False  # what this device has is all there is for now

    def look_soon(self) -> None:
        """Look at the visible rows at the next turn of Qt's loop."""
        self._timer.start(0)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """End the settling as soon as the person moves by a key."""
        if event.type() == QEvent.Type.KeyPress:
            self._stay()
        return super().eventFilter(watched, event)

    def _page(self, pages: int) -> None:
        self._stay()
        bar = self._chat.view.verticalScrollBar()
        bar.setValue(bar.value() + pages * bar.pageStep())

    def _stay(self) -> None:
        self._settling = False

    def _look(self) -> None:
        """Mark what was seen as read while the window is in front. Request the next page of history."""
        key, view = self._app_state.open_key, self._chat.view
        if key is None:
            return
        chats, thread = self._app_state.chats, self._app_state.open_thread()
        if self._app_state.attentive and thread is not None and not self._settling:
            self._seen.add(map(self._chat.rows.row, self._rows_on_screen()))
            self._mark(key, self._seen.up_to(thread, chats.read_up_to(key), chats.unread_in(key)))
        before_id = chats.wants_history(key, view.first_visible())
        if before_id is not None:
            self._commands().load_history(chats.target(key), before_id, kept=not chats.paging.answering)
        pending = chats.paging.is_pending(key)
        if self._settling and not pending and thread is not None and thread.verified_from is not None:
            self._settling = False  # no page comes: the beginning, the bound, or no node
            self.look_soon()
        self._chat.show_loading(pending)
        self._chat.show_latest_button(chats.unread_in(key))
        self._offer.draw(chats.unread_in(key))

    def _rows_on_screen(self) -> range:
        """Return the rows whose last line is visible. Whoever reads a long message gets to its end."""
        view, first, last = self._chat.view, self._chat.view.first_visible(), self._chat.view.last_visible()
        if last >= 0 and view.visualRect(self._chat.rows.index(last)).bottom() >= view.viewport().height():
            last -= 1
        return range(first, last + 1)

    def _mark(self, key: ConversationKey, up_to: int) -> None:
        conversation_id = self._app_state.saw(key, up_to)
        if conversation_id:
            self._commands().mark_read(conversation_id, up_to)

    def _to_first_unread(self) -> None:
        key = self._app_state.open_key
        if key is not None:
            self._app_state.divide(key)
            self._settling = True
            self.settle()
            self.look_soon()

    def _mark_all(self) -> None:
        """Mark the whole conversation as read, because the person says so."""
        key, thread = self._app_state.open_key, self._app_state.open_thread()
        if key is not None and thread is not None:
            self._stay()
            self._mark(key, thread.last_message_id)
            self.look_soon()
