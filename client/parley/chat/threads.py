"""The threads of the conversations that were opened last, by key."""

from collections.abc import Callable, ItemsView

from parley.chat.keys import ConversationKey
from parley.chat.thread import Thread

MAX_THREADS = 8


class Threads:
    """At most MAX_THREADS threads. The one that was opened longest ago goes first."""

    def __init__(self) -> None:
        self._by_key: dict[ConversationKey, Thread] = {}

    def items(self) -> ItemsView[ConversationKey, Thread]:
        """Return all threads with their keys."""
        return self._by_key.items()

    def get(self, key: ConversationKey | None) -> Thread | None:
        """Return the thread of a key, or None."""
        return None if key is None else self._by_key.get(key)

    def open(self, key: ConversationKey, make: Callable[[], Thread]) -> tuple[Thread, bool]:
        """Return the thread of a key, and whether it was made now."""
        found = self._by_key.pop(key, None)
        thread = self._by_key[key] = found or make()
        while len(self._by_key) > MAX_THREADS:
            del self._by_key[next(iter(self._by_key))]
        return thread, found is None

    def merge(self, former: ConversationKey, key: ConversationKey) -> Thread | None:
        """Make the threads of two keys one, under `key`. Return it if `former` had one, otherwise None."""
        thread, other = self._by_key.pop(former, None), self._by_key.pop(key, None)
        if thread is not None and other is not None:
            thread.absorb(other)
        merged = thread or other
        if merged is not None:
            self._by_key[key] = merged
        return thread
