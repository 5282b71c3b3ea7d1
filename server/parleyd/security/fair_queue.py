"""A queue in which nobody's requests keep those of others waiting: addresses take turns, and so do accounts of one.

Pure. The queue is bounded. When it is full, a newcomer takes the place of the newest request of whoever has the most
waiting, unless that is the newcomer's own address and account.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the address that the request came from, and the account that it names."""

    address: str = ""
    account: str = ""


class FairQueue(Generic[T]):
    """Requests by caller."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._size = 0
        self._waiting: OrderedDict[str, OrderedDict[str, deque[T]]] = OrderedDict()

    def __len__(self) -> int:
        return self._size

    def put(self, caller: Caller, request: T) -> T | None:
        """Add a request. Return the one that has no place: None, another one, or this one."""
        pushed_out = None
        if self._size >= self._capacity:
            longest = self._longest()
            if not self._has_more(longest, caller):
                return request
            pushed_out = self._waiting[longest.address][longest.account][-1]
            self.remove(longest, pushed_out)
        accounts = self._waiting.setdefault(caller.address, OrderedDict())
        accounts.setdefault(caller.account, deque()).append(request)
        self._size += 1
        return pushed_out

    def take(self) -> T | None:
        """Remove and return the next request: of the address and account whose last turn is longest ago."""
        if not self._waiting:
            return None
        address, accounts = next(iter(self._waiting.items()))
        account, requests = next(iter(accounts.items()))
        request = requests[0]
        self.remove(Caller(address, account), request)
        if address in self._waiting:
            self._waiting.move_to_end(address)
            if account in accounts:
                accounts.move_to_end(account)
        return request

    def remove(self, caller: Caller, request: T) -> bool:
        """Remove a request whose caller has left. Return false if it is not there."""
        accounts = self._waiting.get(caller.address)
        requests = None if accounts is None else accounts.get(caller.account)
        if accounts is None or requests is None or request not in requests:
            return False
        requests.remove(request)
        self._size -= 1
        if not requests:
            del accounts[caller.account]
        if not accounts:
            del self._waiting[caller.address]
        return True

    def _has_more(self, one: Caller, other: Caller) -> bool:
        """Return whether `one` has more waiting than `other` with one request more.

        Of two addresses the sums count, so an address gains nothing by naming many accounts.
        """
        if one.address != other.address:
            return self._count(one.address) > self._count(other.address) + 1
        accounts = self._waiting[one.address]
        return len(accounts[one.account]) > len(accounts.get(other.account, ())) + 1

    def _count(self, address: str) -> int:
        return sum(map(len, self._waiting.get(address, {}).values()))

    def _longest(self) -> Caller:
        """Return the address with the most requests, and of its accounts the one with the most."""
        address = max(self._waiting, key=self._count)
        accounts = self._waiting[address]
        return Caller(address, max(accounts, key=lambda account: len(accounts[account])))
