"""The accounts that have a device connected to this node, and since when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from parleyd.presence.ids import SortedIds


class OwnClients:
    """Counts the connected devices of each account. The first `max_listed` accounts are listed, the others counted."""

    def __init__(self, max_listed: int) -> None:
        self.count = 0
        self._max_listed = max_listed
        self._devices: dict[int, int] = {}
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

    def after(self, account_id: int) -> Iterator[int]:
        """Return the listed accounts with greater ids, ascending."""
        return self._ids.after(account_id)

    def connected(self, account_id: int, now_s: float) -> tuple[int, ...]:
        """Count a device. Return the accounts that the list has or lacks now."""
        self.count += 1
        self._devices[account_id] = self._devices.get(account_id, 0) + 1
        if self._devices[account_id] > 1:
            return ()
        if len(self._listed) >= self._max_listed:
            self._unlisted[account_id] = now_s
            return ()
        self._listed[account_id] = now_s
        self._ids.add((account_id,))
        return (account_id,)

    def gone(self, account_id: int) -> tuple[int, ...]:
        """Take a device off the count. Return the accounts that the list has or lacks now."""
        left = self._devices.pop(account_id, 0) - 1
        if left < 0:
            return ()
        self.count -= 1
        if left:
            self._devices[account_id] = left
            return ()
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
