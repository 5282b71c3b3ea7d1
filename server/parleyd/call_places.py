"""Calls in progress, bounded in total and for each part of an owner, in sum over all callers.

A call that waits for its client, to send the request or to read the answer, is of no use to others. At a bound a
newcomer takes its place: of those that have waited for a short time, the call of whoever has the most of them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Hashable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from parleyd.budgets import BoundReachedError
from parleyd.owners import Owner, OwnerTree

SURE_S = 0.25
"""A client that is no attacker sends a request and takes a small answer within this time, or tries again."""


class PlaceTakenError(BoundReachedError):
    """The call waited for its client, and a newcomer needed its place."""

    def __init__(self) -> None:
        super().__init__("others needed the place of this call, which waited for its client")


class CallPlaces:
    """The places of one kind of calls."""

    def __init__(self, total: int, shares: Sequence[int]) -> None:
        """Bound the calls in `total` and, for each part of an owner, by its share."""
        self._bounds = (total, *shares)
        self._used: Counter[Hashable] = Counter()
        self._waiting: OwnerTree[HeldPlace] = OwnerTree()

    @property
    def used(self) -> int:
        """Return the number of places in use."""
        return self._used[()]

    @property
    def total(self) -> int:
        """Return the number of places."""
        return self._bounds[0]

    @contextmanager
    def one(self, owner: Owner) -> Iterator[HeldPlace]:
        """Have a place while inside. Raises BoundReachedError."""
        self._make_room(owner)
        for key in self._keys(owner):
            self._used[key] += 1
        place = HeldPlace(self, owner)
        try:
            yield place
        finally:
            self.release(place)

    def release(self, place: HeldPlace) -> None:
        """Give a place back, unless that was done."""
        if place.is_released:
            return
        place.is_released = True
        for key in self._keys(place.owner):
            self._used[key] -= 1
            if not self._used[key]:
                del self._used[key]

    def begin_waiting(self, place: HeldPlace) -> None:
        """Offer the place to newcomers."""
        self._waiting.add(place.owner, place)

    def end_waiting(self, place: HeldPlace) -> None:
        """Offer the place no longer."""
        self._waiting.remove(place.owner, place)

    def _make_room(self, owner: Owner) -> None:
        # The narrowest part first: what is taken there is room in the wider ones, too.
        for level, (most, key) in reversed([*enumerate(zip(self._bounds, self._keys(owner), strict=True))]):
            if self._used[key] >= most and not self._take_from(owner[:level]):
                where = "from the same source" if level else "on this node"
                raise BoundReachedError(f"{most} are in progress {where}")

    def _keys(self, owner: Owner) -> list[Hashable]:
        """Return what a call counts for. An account is one, wherever it is."""
        keys: list[Hashable] = [(), *enumerate(owner)]
        return keys[: len(self._bounds)]

    def _take_from(self, part: Owner) -> bool:
        """Take the place of a call that waits for its client. Return false if there is none."""
        heaviest = self._waiting.heaviest(part)
        place = None if heaviest is None else next(self._waiting.items(heaviest))
        if place is None or not place.has_waited(SURE_S):
            return False
        self.end_waiting(place)
        self.release(place)
        place.interrupt()
        return True


class HeldPlace:
    """The place of one call."""

    def __init__(self, places: CallPlaces, owner: Owner) -> None:
        self.owner = owner
        self.is_released = False
        self._places = places
        self._limit: asyncio.Timeout  # of the wait in progress
        self._since = 0.0

    @asynccontextmanager
    async def waits(self) -> AsyncIterator[None]:
        """Let newcomers take the place while inside. Raises PlaceTakenError if one did."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as self._limit:
                self._since = loop.time()
                if not self.is_released:
                    self._places.begin_waiting(self)
                try:
                    yield
                finally:
                    self._places.end_waiting(self)
        except TimeoutError:
            if self.is_released:
                raise PlaceTakenError from None
            raise

    def has_waited(self, seconds: float) -> bool:
        """Return whether it has waited for its client for so long."""
        return asyncio.get_running_loop().time() - self._since >= seconds

    def interrupt(self) -> None:
        """End the wait."""
        self._limit.reschedule(asyncio.get_running_loop().time())
