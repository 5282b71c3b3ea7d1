"""Which streams must learn of a change of an account, so that a change visits no others.

They are those that have sent the account to their devices, and those that are reading names just now: what they read
may be older than the change. It has an entry for each account that a stream remembers, so it is bounded as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Watcher(Protocol):
    """One stream."""

    def account_changed(self, account_id: int) -> None:
        """Record that the public data of an account changed."""


class AccountWatchers:
    """The streams of one node by account."""

    def __init__(self) -> None:
        self._by_account: dict[int, set[Watcher]] = {}
        self._reading: set[Watcher] = set()

    @property
    def watched(self) -> set[int]:
        """Return the accounts that a stream has sent."""
        return set(self._by_account)

    def changed(self, account_id: int) -> None:
        """Pass a change of an account on to the streams that must learn of it."""
        for watcher in self._by_account.get(account_id, set()) | self._reading:
            watcher.account_changed(account_id)

    def add(self, watcher: Watcher, account_ids: Iterable[int]) -> None:
        """Record that a stream has sent these accounts to its device."""
        for account_id in account_ids:
            self._by_account.setdefault(account_id, set()).add(watcher)

    def remove(self, watcher: Watcher, account_ids: Iterable[int]) -> None:
        """Record that a stream remembers these accounts no more."""
        for account_id in account_ids:
            watchers = self._by_account.get(account_id, set())
            watchers.discard(watcher)
            if not watchers:
                self._by_account.pop(account_id, None)

    def set_reading(self, watcher: Watcher, *, is_reading: bool) -> None:
        """Record whether a stream is reading names now."""
        if is_reading:
            self._reading.add(watcher)
        else:
            self._reading.discard(watcher)
