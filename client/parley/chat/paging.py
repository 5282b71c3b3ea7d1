"""Tracks which pages of history are being fetched, and which could not be fetched."""

from parley.chat.keys import ConversationKey


class Paging:
    """The requests for pages.

    Each page is requested once at a time. After a failure, it is requested after a reconnect.
    """

    def __init__(self) -> None:
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

    def retry(self) -> None:
        """Permit failed pages again, because the cluster can be reached."""
        self._stalled.clear()

    def is_pending(self, key: ConversationKey) -> bool:
        """Return true while a page of the conversation is being fetched."""
        return any(loading == key for loading, _ in self._loading)

    def forget(self, key: ConversationKey) -> None:
        """Remove a key that became another one."""
        self._loading = {page for page in self._loading if page[0] != key}
        self._stalled = {page for page in self._stalled if page[0] != key}
