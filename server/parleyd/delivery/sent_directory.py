"""The accounts and conversations that one stream has sent to its device, and those that it must send again.

A frame names accounts and conversations by id, so the stream sends them before. Sending one twice does no harm: beyond
its bound this memory is cleared.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from parley_proto.v1 import messaging_pb2 as pb
from parleyd.delivery.account_watchers import AccountWatchers, Watcher

MAX_REMEMBERED = 16_384
CHANGES_PER_FRAME = 256


class _Nobody:
    """The watcher of a directory that is in no index."""

    def account_changed(self, account_id: int) -> None:
        """Ignore it."""


_NOBODY = _Nobody()


class SentDirectory:
    """Sent and changed entries: at most MAX_REMEMBERED accounts, as many conversations, and as many removals."""

    def __init__(self) -> None:
        self._watchers = AccountWatchers()
        self._watcher: Watcher = _NOBODY
        self._accounts: set[int] = set()
        self._conversations: set[int] = set()
        self._changed_accounts: set[int] = set()
        self._changed_conversations: set[int] = set()
        self._removed: dict[int, int] = {}  # conversations that are removed up to a message, still to be sent
        self._sent_removed: dict[int, int] = {}
        self._is_asking = False

    def watch(self, watchers: AccountWatchers, watcher: Watcher) -> None:
        """Keep the index of a node current for this stream, from before the first name on."""
        self._watchers, self._watcher = watchers, watcher

    def release(self) -> None:
        """Leave the index, after the end of the stream."""
        self._watchers.remove(self._watcher, self._accounts)
        self._set_asking(False)
        self._accounts.clear()
        self._watcher = _NOBODY  # the stream refers to this object, and what refers to itself waits for a collection

    def account_changed(self, account_id: int) -> None:
        """Record a change of the account: it is sent again, if it was sent or may be among what is being read now."""
        if self._is_asking or account_id in self._accounts:
            _add(self._changed_accounts, (account_id,))

    def conversation_changed(self, conversation_id: int) -> None:
        """Record that the conversation must be sent, for the first time or again."""
        _add(self._changed_conversations, (conversation_id,))

    def conversation_removed(self, conversation_id: int, up_to: int) -> None:
        """Record that the account has removed a conversation up to a message, unless that was sent."""
        if up_to > max(self._removed.get(conversation_id, 0), self._sent_removed.get(conversation_id, 0)):
            self._removed[conversation_id] = up_to

    @property
    def has_changes(self) -> bool:
        """Return whether something must be sent that no frame names."""
        return bool(self._changed_accounts or self._changed_conversations or self._removed)

    def take_removed(self) -> dict[int, int]:
        """Return all removals that were not sent. They count as sent from now on."""
        taken, self._removed = self._removed, {}
        if len(self._sent_removed) >= MAX_REMEMBERED:
            self._sent_removed.clear()
        self._sent_removed |= taken
        return taken

    def take(self, accounts: set[int], conversations: set[int]) -> tuple[set[int], set[int]]:
        """Return what to send before a frame with these names: the unsent ones, and some of what changed.

        They count as sent from now on, so that a change during their read makes the stream send them again.
        """
        accounts = (accounts - self._accounts) | _some(self._changed_accounts)
        conversations = (conversations - self._conversations) | _some(self._changed_conversations)
        self._add_accounts(accounts)
        _add(self._conversations, conversations)
        self._set_asking(bool(accounts or conversations))
        return accounts, conversations

    def sent(self, directory: pb.Directory) -> None:
        """Record that what was taken has been read, with the members of conversations."""
        self._add_accounts({account.id for account in directory.accounts})
        self._set_asking(False)

    def _add_accounts(self, account_ids: set[int]) -> None:
        if len(self._accounts) >= MAX_REMEMBERED:
            self._watchers.remove(self._watcher, self._accounts)
        _add(self._accounts, account_ids)
        self._watchers.add(self._watcher, account_ids)

    def _set_asking(self, is_asking: bool) -> None:
        self._is_asking = is_asking
        self._watchers.set_reading(self._watcher, is_reading=is_asking)


def _some(changed: set[int]) -> set[int]:
    taken = set(islice(changed, CHANGES_PER_FRAME))
    changed -= taken
    return taken


def _add(ids: set[int], more: Iterable[int]) -> None:
    if len(ids) >= MAX_REMEMBERED:
        ids.clear()
    ids.update(more)
