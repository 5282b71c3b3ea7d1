"""The bounds of connections: how many, from one address, and how often. Pure: the time is an argument."""

import ipaddress
from collections import Counter, OrderedDict
from dataclasses import dataclass

MAX_ADDRESSES = 10_000
IPV6_PREFIX = 64
"""What one customer of a provider has at least. The nodes count the same."""


def counted(address: str) -> str:
    """Return what an address counts as: of IPv6 the network, of IPv4 in IPv6 the IPv4 address."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    return str(ip.ipv4_mapped or ipaddress.ip_network((ip, IPV6_PREFIX), strict=False))


@dataclass(slots=True)
class Allowance:
    """Takes are free up to `burst`, and then at `per_s`. The time of the last look is kept."""

    per_s: float
    burst: float
    left: float
    at_s: float

    def wait_s(self, now_s: float) -> float:
        """Return how long to wait until a take is free."""
        self._fill(now_s)
        return max(0.0, (1.0 - self.left) / self.per_s)

    def take(self, now_s: float) -> float:
        """Take one. Return how long to wait first, so that the average holds."""
        wait_s = self.wait_s(now_s)
        self.left -= 1.0
        return wait_s

    def _fill(self, now_s: float) -> None:
        self.left = min(self.burst, self.left + max(0.0, now_s - self.at_s) * self.per_s)
        self.at_s = now_s


def allowance(per_s: float, burst: float, now_s: float) -> Allowance:
    """Return a full allowance."""
    return Allowance(per_s, burst, burst, now_s)


class Failures:
    """Failed log-ins by address. At MAX_ADDRESSES the one that was used longest ago is forgotten."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._by_address: OrderedDict[str, Allowance] = OrderedDict()

    def wait_s(self, address: str, now_s: float) -> float:
        """Return how long the next log-in from this address has to wait."""
        known = self._by_address.get(counted(address))
        return 0.0 if known is None else known.wait_s(now_s)

    def add(self, address: str, now_s: float) -> None:
        """Count a failed log-in."""
        address = counted(address)
        known = self._by_address.pop(address, None) or allowance(self._per_s, self._burst, now_s)
        known.take(now_s)
        self._by_address[address] = known
        if len(self._by_address) > MAX_ADDRESSES:
            self._by_address.popitem(last=False)


class Places:
    """The connections, in all and of each address."""

    def __init__(self, most: int, most_per_address: int) -> None:
        self._most = most
        self._most_per_address = most_per_address
        self._by_address: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """Return the number of connections."""
        return self._by_address.total()

    def take(self, address: str) -> str:
        """Take a place. Return an empty text, or why there is none."""
        address = counted(address)
        if self.taken >= self._most:
            return f"The gateway has {self._most} connections, and takes no more. Try again later."
        if self._by_address[address] >= self._most_per_address:
            return f"Your address has {self._most_per_address} connections, and gets no more. Close one of them."
        self._by_address[address] += 1
        return ""

    def give_back(self, address: str) -> None:
        """Give a place back."""
        address = counted(address)
        self._by_address[address] -= 1
        if self._by_address[address] <= 0:
            del self._by_address[address]
