"""Follows which rows are visible: marks them as read, and requests the next page of history."""

from collections.abc import Callable

from PySide6.QtCore import QTimer

from parley.gui.app_state import ChatAppState
from parley.gui.chat import ChatPage
from parley.gui.commands import Commands


class Reading:
    """The visible rows of the open conversation. Several calls of look_soon() cost one look at the next turn."""

    def __init__(self, chat: ChatPage, app_state: ChatAppState, commands: Callable[[], Commands]) -> None:
        """`commands` returns the object that carries out the commands."""
        self._chat = chat
        self._app_state = app_state
        self._commands = commands
        self._timer = QTimer(chat)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._look)
        chat.view.moved.connect(self.look_soon)

    def look_soon(self) -> None:
        """Look at the visible rows at the next turn of Qt's loop."""
        self._timer.start(0)

    def _look(self) -> None:
        """Mark visible messages as read while the window is in front. Request the next page of history."""
        key, view = self._app_state.open_key, self._chat.view
        if key is None:
            return
        if self._app_state.attentive:
            seen = self._highest_id(view.last_visible())
            conversation_id = self._app_state.saw(key, seen) if seen else 0
            if conversation_id:
                self._commands().mark_read(conversation_id, seen)
        chats = self._app_state.chats
        before_id = chats.wants_history(key, view.first_visible())
        if before_id is not None:
            self._commands().load_history(chats.target(key), before_id)
        self._chat.show_loading(chats.paging.is_pending(key))
        self._chat.show_latest_button(chats.unread_in(key))

    def _highest_id(self, last: int) -> int:
        """Return the id of the lowest row of the cluster, from row `last` upwards, or 0."""
        rows = (self._chat.rows.row(at) for at in range(last, -1, -1))
        return next((row.message_id for row in rows if row.message_id), 0)
