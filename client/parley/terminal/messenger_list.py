"""The list of conversations in the messenger: which entry is chosen, and which part of the list is on the screen. Pure.

The chosen entry stays the same conversation while the order changes.
"""

from datetime import date

from parley.chat import Chats, ConversationItem, ConversationKey
from parley.terminal.messenger_lines import Line, item_lines

PER_ITEM = 2


class ConversationList:
    """The list and its chosen entry."""

    def __init__(self, chats: Chats) -> None:
        self._chats = chats
        self._items: list[ConversationItem] | None = None
        self._chosen: ConversationKey | None = None
        self._at = 0
        self._first = 0

    def changed(self) -> None:
        """Make the entries again at the next look."""
        self._items = None

    @property
    def items(self) -> list[ConversationItem]:
        """Return the entries, the latest first."""
        if self._items is None:
            self._items = self._chats.items()
            self._at = self._find(self._items)
        return self._items

    @property
    def chosen(self) -> ConversationKey | None:
        """Return the conversation of the chosen entry, or None if the list is empty."""
        items = self.items
        return items[self._at].key if items else None

    def move(self, by: int) -> None:
        """Choose another entry."""
        items = self.items
        if items:
            self._at = max(0, min(self._at + by, len(items) - 1))
            self._chosen = items[self._at].key

    def choose(self, key: ConversationKey | None) -> None:
        """Choose the entry of a conversation."""
        self._chosen = key
        self.changed()

    def draw(self, room: int, height: int, today: date, *, active: bool) -> list[Line]:
        """Return the lines on the screen. The chosen entry is among them; it is marked while the list is active."""
        items = self.items
        if not items:
            return [(("class:quiet", "(no conversations)"[: max(0, room)]),)]
        fit = max(1, height // PER_ITEM)
        self._first = max(0, min(self._first, self._at, len(items) - fit))
        self._first = max(self._first, self._at - fit + 1)
        lines: list[Line] = []
        for at in range(self._first, min(self._first + fit, len(items))):
            chosen = active and at == self._at
            is_open = items[at].key == self._chats.open_key
            lines += item_lines(items[at], room, today, chosen=chosen, open_=is_open)
        return lines[: max(0, height)]

    def _find(self, items: list[ConversationItem]) -> int:
        """Return the place of the chosen conversation, or of what took its place."""
        if self._chosen is not None:
            key = self._chats.conversations.resolve(self._chosen)
            for at, item in enumerate(items):
                if item.key == key:
                    return at
        return max(0, min(self._at, len(items) - 1))
