"""Bounds of the peer port: calls in progress, bodies being read, and connections.

A certificate of the cluster's CA names a node and admits nobody. A name is known here if a member has it, or a node
that a member vouches for. Calls and connections of all other names have few places in sum, and each name and each
address a part of them. So no certificate and no address keeps others away, and none of them takes a member's place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager

from parleyd.budgets import FairPlaces
from parleyd.call_places import CallPlaces
from parleyd.sources import Peer, source_of_host

MAX_NON_MEMBER_CALLS = 32
MAX_CALLS_PER_NAME = 6
MAX_CALLS_PER_ADDRESS = 16
# A link has three streams and few calls besides. A member opens another connection to ask about a node or to join.
MAX_CALLS_PER_MEMBER = 128
MAX_BODIES = 4
MAX_BODIES_PER_NAME = 2

NON_MEMBER_CONNECTION_S = 30.0
"""A node that asks to join has its answer sooner. It opens a connection for each request."""
MAX_NON_MEMBER_CONNECTIONS = 64
MAX_CONNECTIONS_PER_NAME = 8
MAX_CONNECTIONS_PER_ADDRESS = 32
MAX_CONNECTIONS_PER_MEMBER = 16


class PeerCalls:
    """The calls in progress at the peer port, by name and by address."""

    def __init__(self) -> None:
        self._names = CallPlaces(MAX_NON_MEMBER_CALLS, (MAX_CALLS_PER_NAME,))
        self._addresses = CallPlaces(MAX_NON_MEMBER_CALLS, (MAX_CALLS_PER_ADDRESS,))
        self._members = CallPlaces(16 * MAX_CALLS_PER_MEMBER, (MAX_CALLS_PER_MEMBER,))
        self.bodies = FairPlaces(MAX_BODIES, (MAX_BODIES - 1, MAX_BODIES_PER_NAME))

    @contextmanager
    def one(self, name: str, address: str, *, is_known: bool) -> Iterator[None]:
        """Count one more call while inside. Raises BoundReachedError."""
        if is_known:
            with self._members.one((name,)):
                yield
        else:
            with self._names.one((name,)), self._addresses.one((address,)):
                yield


class PeerConnections:
    """The connections to the peer port, with the names in their callers' certificates."""

    def __init__(
        self, is_known: Callable[[str], bool], is_revoked: Callable[[Iterable[bytes]], bool] = lambda _: False
    ) -> None:
        """`is_known` returns whether a name is that of a member, or of a node that a member vouches for.

        `is_revoked` returns whether a certificate is revoked, by the digests of it and its key.
        """
        self._is_known = is_known
        self._is_revoked = is_revoked
        self._digests: dict[Peer, tuple[bytes, ...]] = {}
        self._names: dict[Peer, str] = {}
        self._since: dict[Peer, float] = {}
        self._unseen: set[Peer] = set()

    def called(self, peer: Peer, name: str) -> None:
        """Record that the certificate of this connection has `name`."""
        self._names[peer] = name

    def presented(self, peer: Peer, digests: tuple[bytes, ...]) -> None:
        """Record the digests of this connection's certificate and its key."""
        self._digests[peer] = digests

    def count_others(self) -> int:
        """Return how many of the connections that were open last are those of no known name."""
        return sum(not self._is_known(self._names.get(peer, "")) for peer in self._since)

    def surplus(self, peers: Collection[Peer], now_s: float) -> set[Peer]:
        """Return which of the open connections have to end.

        `peers` may be older than the names: a connection may have been made, and called, after the list was made. So a
        name is forgotten when two lists in a row lack its connection.
        """
        self._since = {peer: self._since.get(peer, now_s) for peer in peers}
        unseen = self._names.keys() - self._since.keys()
        for peer in unseen & self._unseen:
            del self._names[peer]
            self._digests.pop(peer, None)
        self._unseen = unseen
        known = self._oldest_first(one for one in self._since if self._is_known(self._names.get(one, "")))
        ended = set(_beyond(known, self._name_of, MAX_CONNECTIONS_PER_MEMBER))
        ended |= {one for one in self._since if self._is_revoked(self._digests.get(one, ()))}
        others = self._since.keys() - known
        ended |= {one for one in others if now_s - self._since[one] > NON_MEMBER_CONNECTION_S}
        for group_of, most in ((self._name_of, MAX_CONNECTIONS_PER_NAME), (_source_of, MAX_CONNECTIONS_PER_ADDRESS)):
            ended |= _beyond(self._oldest_first(others - ended), group_of, most)
        return ended | self._beyond_the_sum(others - ended)

    def _beyond_the_sum(self, others: set[Peer]) -> set[Peer]:
        """Return what is too much in sum: each time the oldest connection of the name or address that has the most."""
        left = self._oldest_first(others)
        counts = Counter(map(self._name_of, left))
        ended: set[Peer] = set()
        while len(left) > MAX_NON_MEMBER_CONNECTIONS:
            most = max(counts.values())
            first = next(peer for peer in left if counts[self._name_of(peer)] == most)
            left.remove(first)
            counts[self._name_of(first)] -= 1
            ended.add(first)
        return ended

    def _oldest_first(self, peers: Iterable[Peer]) -> list[Peer]:
        return sorted(peers, key=lambda peer: (self._since[peer], peer))

    def _name_of(self, peer: Peer) -> str:
        """Return the name, or the source of a connection that had no call yet. No node has a name with a colon."""
        return self._names.get(peer) or f"source:{_source_of(peer)}"


def _source_of(peer: Peer) -> str:
    return source_of_host(peer[0])


def _beyond(oldest_first: Iterable[Peer], group_of: Callable[[Peer], str], most: int) -> set[Peer]:
    """Return the oldest connections of each group, beyond the `most` of it that may stay."""
    groups: dict[str, list[Peer]] = {}
    for peer in oldest_first:
        groups.setdefault(group_of(peer), []).append(peer)
    return {peer for group in groups.values() for peer in group[: max(0, len(group) - most)]}
