"""Which pages of history are being fetched, and which could not be had."""

from parley.chat.keys import ConversationKey


class Paging:
    """Each page is asked for once at a time; one that could not be had only after the next reconnect."""

    def __init__(self) -> None:
        """Nothing is on its way."""
        self._loading: set[tuple[ConversationKey, int]] = set()
        self._stalled: set[tuple[ConversationKey, int]] = set()

    def begin(self, key: ConversationKey, before_id: int) -> bool:
        """Notes that a page is asked for; false where it should not be asked for now."""
        page = (key, before_id)
        if page in self._loading or page in self._stalled:
            return False
        self._loading.add(page)
        return True

    def came(self, key: ConversationKey, before_id: int) -> None:
        """The page is no longer on its way."""
        self._loading.discard((key, before_id))

    def failed(self, key: ConversationKey, before_id: int) -> None:
        """The page could not be had from the cluster."""
        self._loading.discard((key, before_id))
        self._stalled.add((key, before_id))

    def retry(self) -> None:
        """The cluster can be reached again."""
        self._stalled.clear()

    def is_pending(self, key: ConversationKey) -> bool:
        """True while a page of the conversation is on its way."""
        return any(loading == key for loading, _ in self._loading)

    def forget(self, key: ConversationKey) -> None:
        """The key has become another one."""
        self._loading = {page for page in self._loading if page[0] != key}
        self._stalled = {page for page in self._stalled if page[0] != key}
