"""Bounds that hold in sum over all callers of a node: bytes in use, and places for work that needs memory.

Both know an owner beside the node as a whole, so that one caller cannot use up what is meant for all. Neither reads a
clock. What waits, waits in `FairPlaces` only; `ByteBudget` answers at once.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shares:
    """The most bytes in use: on this node, of one account, of one device."""

    node: int
    account: int
    device: int


class ByteBudget:
    """Bytes in use, by account and device.

    A device may always have one piece of any size in use, if account and node have room for it. Otherwise a piece above
    the device's share could never be taken.
    """

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._total = 0
        self._accounts: Counter[int] = Counter()
        self._devices: Counter[Hashable] = Counter()

    @property
    def in_use(self) -> int:
        """Return the bytes in use on this node."""
        return self._total

    def take(self, account_id: int, device: Hashable, size: int) -> bool:
        """Take `size` bytes; return False, and take nothing, if a share has no room for them."""
        used = self._devices[device]
        shares = self._shares
        if (
            (used and used + size > shares.device)
            or self._accounts[account_id] + size > shares.account
            or self._total + size > shares.node
        ):
            self._forget_unused(account_id, device)
            return False
        self._devices[device] += size
        self._accounts[account_id] += size
        self._total += size
        return True

    def give_back(self, account_id: int, device: Hashable, size: int) -> None:
        """Return bytes that were taken for this device."""
        self._devices[device] -= size
        self._accounts[account_id] -= size
        self._total -= size
        self._forget_unused(account_id, device)

    def _forget_unused(self, account_id: int, device: Hashable) -> None:
        if not self._devices[device]:
            del self._devices[device]
        if not self._accounts[account_id]:
            del self._accounts[account_id]


class DeviceShare:
    """What one device has in use of a budget."""

    def __init__(self, budget: ByteBudget, account_id: int, device: Hashable) -> None:
        self._budget = budget
        self._account_id = account_id
        self._device = (account_id, device)
        self.in_use = 0

    def take(self, size: int) -> bool:
        """Take `size` bytes; return False, and take nothing, if there is no room for them."""
        taken = self._budget.take(self._account_id, self._device, size)
        self.in_use += size if taken else 0
        return taken

    def give_back(self, size: int) -> None:
        """Return bytes that were taken."""
        self._budget.give_back(self._account_id, self._device, size)
        self.in_use -= size

    def close(self) -> None:
        """Return everything."""
        self.give_back(self.in_use)


class FairPlaces:
    """A number of places, of which one owner has at most a share. Who waits gets one in the order of arrival.

    A waiter whose owner has its share in use does not hold up the others. The callers bound how many wait.
    """

    def __init__(self, total: int, share: int) -> None:
        self._free = total
        self._share = share
        self._used: Counter[Hashable] = Counter()
        self._waiting: deque[tuple[Hashable, asyncio.Future[None]]] = deque()

    @property
    def used(self) -> int:
        """Return the number of places in use."""
        return self._used.total()

    def ask(self, owner: Hashable) -> asyncio.Future[None]:
        """Ask for a place: the future is done when the owner has it. `leave` ends it in every case."""
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._has_place(owner):
            self._give(owner, place)
        else:
            self._waiting.append((owner, place))
        return place

    def leave(self, owner: Hashable, place: asyncio.Future[None]) -> None:
        """Give a place back, to the first waiter that may have it, or stop waiting for it."""
        if not place.done() or place.cancelled():
            self._waiting.remove((owner, place))
            return
        self._free += 1
        self._used[owner] -= 1
        if not self._used[owner]:
            del self._used[owner]
        for waiter in self._waiting:
            if self._has_place(waiter[0]):
                self._waiting.remove(waiter)
                self._give(*waiter)
                return

    def _has_place(self, owner: Hashable) -> bool:
        return self._free > 0 and self._used[owner] < self._share

    def _give(self, owner: Hashable, place: asyncio.Future[None]) -> None:
        self._free -= 1
        self._used[owner] += 1
        place.set_result(None)


@dataclass(frozen=True, slots=True)
class StreamBudgets:
    """What all streams of this node have in common.

    `sends`: bytes of sends without a result. `live`: bytes of messages that wait for devices. `pages`: frames of stored
    messages that are not yet written. `marks`: bytes of read marks that wait for the log.
    """

    sends: ByteBudget
    live: ByteBudget
    pages: FairPlaces
    marks: ByteBudget


class BoundReachedError(Exception):
    """A bound of this node is reached. Nothing was done. The text completes a sentence for the caller."""


class Counts:
    """How many are there now, by owner and in total, each with a bound."""

    def __init__(self, total: int, share: int) -> None:
        self._most = total
        self._share = share
        self._used: Counter[Hashable] = Counter()
        self._total = 0

    @contextmanager
    def one(self, owner: Hashable) -> Iterator[None]:
        """Count one more while inside. Raises BoundReachedError."""
        if self._total >= self._most:
            raise BoundReachedError(f"{self._most} are in progress on this node")
        if self._used[owner] >= self._share:
            raise BoundReachedError(f"{self._share} are in progress from the same source")
        self._total += 1
        self._used[owner] += 1
        try:
            yield
        finally:
            self._total -= 1
            self._used[owner] -= 1
            if not self._used[owner]:
                del self._used[owner]
