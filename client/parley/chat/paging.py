"""Tracks which pages of history are being fetched, and which could not be fetched."""

from parley.chat.keys import ConversationKey
from parley.chat.thread import Thread


class Paging:
    """The requests for pages.

    Each page is requested once at a time. After a failure, it is requested after a reconnect. While the cluster is not
    `answering`, and after a failure, older pages are those that this device has.
    """

    def __init__(self, *, answering: bool = True) -> None:
        """Begin without requests."""
        self.answering = answering
        self._loading: set[tuple[ConversationKey, int]] = set()
        self._stalled: set[tuple[ConversationKey, int]] = set()

    def begin(self, key: ConversationKey, before_id: int) -> bool:
        """Record that a page is requested. Return false if it must not be requested now."""
        page = (key, before_id)
        if page in self._loading or page in self._stalled:
            return False
        self._loading.add(page)
        return True

    def came(self, key: ConversationKey, before_id: int) -> None:
        """Record that the page has arrived."""
        self._loading.discard((key, before_id))

    def failed(self, key: ConversationKey, before_id: int) -> None:
        """Record that the cluster could not return the page."""
        self._loading.discard((key, before_id))
        self._stalled.add((key, before_id))

    def take_answering(self, *, answering: bool) -> None:
        """Record whether the cluster can be asked. Permit failed pages again."""
        self.answering = answering
        self._stalled.clear()

    def next_page(self, key: ConversationKey, thread: Thread, first_visible_row: int) -> int | None:
        """Begin the next page of a thread whose topmost visible row this is. Return its place, or None."""
        before_id = thread.wants_before(first_visible_row)
        if self.answering and before_id is not None and self.begin(key, before_id):
            return before_id
        if self.answering and (key, before_id or 0) not in self._stalled:
            return None
        before_id = thread.wants_kept_before(first_visible_row)
        return before_id if before_id is not None and self.begin(key, before_id) else None

    def is_pending(self, key: ConversationKey) -> bool:
        """Return true while a page of the conversation is being fetched."""
        return any(loading == key for loading, _ in self._loading)

    def forget(self, key: ConversationKey) -> None:
        """Remove a key that became another one."""
        self._loading = {page for page in self._loading if page[0] != key}
        self._stalled = {page for page in self._stalled if page[0] != key}
