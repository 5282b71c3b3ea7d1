"""The accounts that have a device connected to this node, since when, and whether they are away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from parleyd.presence.ids import SortedIds


class OwnClients:
    """Counts the connected devices of each account. The first `max_listed` accounts are listed, the others counted."""

    def __init__(self, max_listed: int) -> None:
        self.count = 0
        self._max_listed = max_listed
        self._devices: dict[int, int] = {}
        self._away: dict[int, int] = {}  # account -> how many of its devices are away
        self._listed: dict[int, float] = {}  # account -> since when
        self._ids = SortedIds()
        self._unlisted: dict[int, float] = {}  # in the order in which they came

    @property
    def listed(self) -> Iterable[int]:
        """Return the listed accounts."""
        return self._listed.keys()

    def since_s(self, account_id: int) -> float | None:
        """Return since when a listed account is connected; None for any other."""
        return self._listed.get(account_id)

    def has(self, account_id: int) -> bool:
        """Return whether an account has a connected device, listed or not."""
        return account_id in self._devices

    def is_away(self, account_id: int) -> bool:
        """Return whether all connected devices of an account are away."""
        return account_id in self._away and self._away[account_id] == self._devices[account_id]

    def after(self, account_id: int) -> Iterator[int]:
        """Return the listed accounts with greater ids, ascending."""
        return self._ids.after(account_id)

    def connected(self, account_id: int, now_s: float) -> tuple[int, ...]:
        """Count a device, which is not away. Return the accounts of the list that changed."""
        self.count += 1
        was_away = self.is_away(account_id)
        self._devices[account_id] = self._devices.get(account_id, 0) + 1
        if self._devices[account_id] > 1:
            return (account_id,) if was_away and account_id in self._listed else ()
        if len(self._listed) >= self._max_listed:
            self._unlisted[account_id] = now_s
            return ()
        self._listed[account_id] = now_s
        self._ids.add((account_id,))
        return (account_id,)

    def set_away(self, account_id: int, *, away: bool) -> tuple[int, ...]:
        """Count a device of an account as away, or no longer. Return the accounts of the list that changed."""
        was_away = self.is_away(account_id)
        count = self._away.pop(account_id, 0) + (1 if away else -1)
        if count > 0:
            self._away[account_id] = min(count, self._devices[account_id])
        return (account_id,) if self.is_away(account_id) != was_away and account_id in self._listed else ()

    def gone(self, account_id: int, *, away: bool = False) -> tuple[int, ...]:
        """Take a device off the count, which was `away`. Return the accounts of the list that changed."""
        if account_id not in self._devices:
            return ()
        was_away = self.is_away(account_id)
        if away:
            self.set_away(account_id, away=False)
        left = self._devices.pop(account_id) - 1
        self.count -= 1
        if left:
            self._devices[account_id] = left
            return (account_id,) if self.is_away(account_id) != was_away and account_id in self._listed else ()
        if self._unlisted.pop(account_id, None) is not None:
            return ()
        del self._listed[account_id]
        self._ids.remove((account_id,))
        if not self._unlisted:
            return (account_id,)
        oldest = next(iter(self._unlisted))
        self._listed[oldest] = self._unlisted.pop(oldest)
        self._ids.add((oldest,))
        return (account_id, oldest)
