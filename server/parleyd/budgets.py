"""Bounds that hold in sum over all callers of a node: bytes in use, and places for work that needs memory.

Both know an owner beside the node as a whole, so that one caller cannot use up what is meant for all. Neither reads a
clock. What waits, waits in `FairPlaces` only; `ByteBudget` answers at once.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Self

from parleyd.owners import Owner

PLACE_TIMEOUT_S = 5.0


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

    @property
    def most(self) -> int:
        """Return the most bytes in use on this node."""
        return self._shares.node

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


def shares_of(total: int, account: int) -> tuple[int, ...]:
    """Return the most places of a network, of an address and of an account, so that none of them has all."""
    return max(1, total * 3 // 4), max(1, total // 2), max(1, account)


class FairPlaces:
    """A number of places, of which each part of an owner has at most a share.

    A place goes to the waiter whose network has the fewest, then whose address has, then whose account has. Of equal
    ones the account whose last turn is longest ago comes first. A newcomer counts as one whose last turn was as many
    turns ago as there are places. So it comes before those that have a place now, and newcomers without end do not
    hold up an account that waits. A waiter whose share is in use does not hold up the others. The callers bound how
    many wait.
    """

    def __init__(self, total: int, shares: Sequence[int]) -> None:
        """Bound the places in `total` and, for each part of an owner, by its share."""
        self._total = total
        self._free = total
        self._shares = tuple(shares)
        self._used: Counter[tuple[int, Hashable]] = Counter()
        self._held: Counter[Owner] = Counter()
        self._turns: dict[Owner, int] = {}  # of owners that have a place or wait for one
        self._last_turn = 0
        self._waiting: dict[Owner, deque[asyncio.Future[None]]] = {}

    @property
    def used(self) -> int:
        """Return the number of places in use."""
        return self._held.total()

    @property
    def total(self) -> int:
        """Return the number of places."""
        return self._total

    def ask(self, owner: Owner) -> asyncio.Future[None]:
        """Ask for a place: the future is done when the owner has it. `leave` ends it in every case."""
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._has_place(owner):
            self._give(owner, place)
        else:
            self._turns.setdefault(owner, self._last_turn - self._total)
            self._waiting.setdefault(owner, deque()).append(place)
        return place

    def leave(self, owner: Owner, place: asyncio.Future[None]) -> None:
        """Give a place back, to the next waiter that may have it, or stop waiting for it."""
        if not place.done() or place.cancelled():
            self._stop_waiting(owner, place)
            self._forget_unused(owner)
            return
        self._count(owner, -1)
        waiters = [waiter for waiter in self._waiting if self._has_place(waiter)]
        if waiters:
            first = min(waiters, key=self._order)
            self._give(first, self._waiting[first][0])
            self._stop_waiting(first, self._waiting[first][0])
        self._forget_unused(owner)

    def is_wanted_from(self, owner: Owner) -> bool:
        """Return whether a waiter could have the place that this owner has."""
        self._count(owner, -1)
        try:
            return any(self._has_place(waiter) for waiter in self._waiting)
        finally:
            self._count(owner, 1)

    def _has_place(self, owner: Owner) -> bool:
        return self._free > 0 and all(
            self._used[key] < share for key, share in zip(enumerate(owner), self._shares, strict=True)
        )

    def _order(self, owner: Owner) -> tuple[int, ...]:
        return (*(self._used[key] for key in enumerate(owner)), self._turns[owner])

    def _give(self, owner: Owner, place: asyncio.Future[None]) -> None:
        self._count(owner, 1)
        self._last_turn += 1
        self._turns[owner] = self._last_turn
        place.set_result(None)

    def _count(self, owner: Owner, change: int) -> None:
        self._free -= change
        self._held[owner] += change
        for key in enumerate(owner):
            self._used[key] += change

    def _stop_waiting(self, owner: Owner, place: asyncio.Future[None]) -> None:
        waiting = self._waiting[owner]
        waiting.remove(place)
        if not waiting:
            del self._waiting[owner]

    def _forget_unused(self, owner: Owner) -> None:
        for key in enumerate(owner):
            if not self._used[key]:
                del self._used[key]
        if not self._held[owner]:
            del self._held[owner]
            if owner not in self._waiting:
                self._turns.pop(owner, None)


class Place:
    """One place for one owner: not asked for, waited for, or held."""

    def __init__(self, places: FairPlaces, owner: Owner) -> None:
        self._places = places
        self._owner = owner
        self._asked: asyncio.Future[None] | None = None

    @property
    def is_held(self) -> bool:
        """Return whether the owner has it."""
        return self._asked is not None and self._asked.done()

    @property
    def is_awaited(self) -> bool:
        """Return whether the owner waits for it."""
        return self._asked is not None and not self._asked.done()

    def ask(self) -> asyncio.Future[None]:
        """Ask for it, unless that was done: the future is done when the owner has it."""
        if self._asked is None:
            self._asked = self._places.ask(self._owner)
        return self._asked

    async def wait(self, reason: str) -> None:
        """Wait until the owner has it. Raises BoundReachedError, for `reason`, if it does not come in time."""
        try:
            async with asyncio.timeout(PLACE_TIMEOUT_S):
                await asyncio.shield(self.ask())
        except TimeoutError:
            raise BoundReachedError(reason) from None

    def leave(self) -> None:
        """Give it back, or wait for it no longer."""
        if self._asked is not None:
            self._places.leave(self._owner, self._asked)
            self._asked = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def is_wanted(self) -> bool:
        """Return whether it is held, and somebody waits who could have it."""
        return self.is_held and self._places.is_wanted_from(self._owner)


@dataclass(frozen=True, slots=True)
class StreamBudgets:
    """What all streams of this node have in common.

    `sends`: bytes of sends without a result. `live`: bytes of messages that wait for devices. `pages`: large frames of
    stored messages that are not yet written. `marks`: bytes of read marks that wait for the log.
    """

    sends: ByteBudget
    live: ByteBudget
    pages: FairPlaces
    marks: ByteBudget


class BoundReachedError(Exception):
    """A bound of this node is reached. Nothing was done. The text completes a sentence for the caller."""
