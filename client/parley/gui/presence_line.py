"""The line below the title of the open conversation: who types, or whether the other person is there."""

from collections.abc import Callable

from PySide6.QtCore import QTimer

from parley.chat import presence_text, safe_name, typing_text
from parley.gui.app_state import ChatAppState
from parley.gui.bubble import today
from parley.gui.chat import ChatPage
from parley.gui.commands import Commands

DRAW_EVERY_MS = 1000
DRAWN_PER_QUESTION = 5


class PresenceLine:
    """Asks now and then while the window is in front. Draws the line anew, because what it says ends by itself."""

    def __init__(self, chat: ChatPage, app_state: ChatAppState, commands: Callable[[], Commands]) -> None:
        """`commands` returns the object that carries out the commands."""
        self._chat = chat
        self._app_state = app_state
        self._commands = commands
        self._timer = QTimer(chat)
        self._timer.setInterval(DRAW_EVERY_MS)
        self._timer.timeout.connect(self._tick)
        self._timer.start()
        self._drawn = 0

    def typed(self, text: str) -> None:
        """Tell the others in the open conversation that the person types."""
        key = self._app_state.open_key
        conversation_id = 0 if key is None else self._app_state.chats.conversation_id(key)
        if conversation_id and text.strip():
            self._commands().say_typing(conversation_id)

    def _tick(self) -> None:
        self.draw()
        self._drawn += 1
        if self._drawn >= DRAWN_PER_QUESTION:
            self.ask()

    def ask(self) -> None:
        """Ask whether the other person is there, while the window is in front."""
        self._drawn = 0
        partner_id = self._partner_id()
        if partner_id and self._app_state.attentive:
            self._commands().ask_presence(partner_id)

    def draw(self) -> None:
        """Show who types, or whether the other person is there, or the topic of a channel."""
        key = self._app_state.open_key
        if key is None:
            return
        chats = self._app_state.chats
        typists = self._app_state.typists.of(chats.conversation_id(key))
        text = typing_text([safe_name(chats.book.name(account_id)) for account_id in typists])
        presence = self._app_state.presence
        is_known = presence is not None and presence.account_id == self._partner_id()
        if not text and presence is not None and is_known and self._app_state.attentive:  # otherwise nobody asks
            text = presence_text(presence, today())
        self._chat.show_below_title(text or chats.item(key).topic)

    def _partner_id(self) -> int:
        """Return the other account of the open conversation; 0 for a channel, for notes, and if it is not known."""
        key = self._app_state.open_key
        return 0 if key is None else self._app_state.chats.partner_id(key)
