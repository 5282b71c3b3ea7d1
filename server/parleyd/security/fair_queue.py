"""A queue in which nobody's requests keep those of others waiting: networks take turns, addresses and accounts do.

Pure. The queue is bounded. When it is full, a newcomer takes the place of the newest request of whoever has the most
waiting, unless that is the newcomer itself or would have no more than the newcomer then.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

from parleyd.owners import Owner, OwnerTree

T = TypeVar("T", bound=Hashable)


class FairQueue(Generic[T]):
    """Requests by owner."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._waiting: OwnerTree[T] = OwnerTree()

    def __len__(self) -> int:
        return self._waiting.count()

    def put(self, owner: Owner, request: T) -> T | None:
        """Add a request. Return the one that has no place: None, another one, or this one."""
        pushed_out = None
        if len(self) >= self._capacity:
            longest = self._waiting.heaviest()
            if longest is None or not self._has_more(longest, owner):
                return request
            pushed_out = self._waiting.last(longest)
            self._waiting.remove(longest, pushed_out)
        self._waiting.add(owner, request)
        return pushed_out

    def take(self) -> T | None:
        """Remove and return the next request: of the network, address and account whose last turn is longest ago."""
        return self._waiting.take_turn()

    def remove(self, owner: Owner, request: T) -> bool:
        """Remove a request whose caller has left. Return false if it is not there."""
        return self._waiting.remove(owner, request)

    def _has_more(self, one: Owner, other: Owner) -> bool:
        """Return whether `one` has more waiting than `other` with one request more.

        The widest parts in which they differ count. So nobody gains by naming many accounts, or from many addresses.
        """
        for level in range(1, len(one) + 1):
            if one[:level] != other[:level]:
                return self._waiting.count(one[:level]) > self._waiting.count(other[:level]) + 1
        return False
