"""The nodes that this node communicates with: members of the applied state, and callers that are no members here.

Links and admission both follow it. A non-member is a node that calls and is in no membership applied here. This node
lags behind then, or is new. A non-member that a member vouches for has a link while it calls, because it must be
answered. A removed node has no link. peer_bounds.py bounds the calls of non-members.

A node whose certificate or key is revoked has no link either: whoever answers at its address may have stolen it. That
ends when it calls with another certificate, or has published another key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from parleyd.raft.types import NodeId
from parleyd.storage.identity import PeerInfo
from parleyd.transport.peer_links import PeerLinks
from parleyd.transport.peers import PeerLink


class PeerRegistry:
    """Opens and closes peer links to match the members and the current callers."""

    def __init__(self, own_id: NodeId, links: PeerLinks, make_link: Callable[[PeerInfo], PeerLink]) -> None:
        self._own_id = own_id
        self._links = links
        self._make_link = make_link
        self._members: dict[NodeId, PeerInfo] = {}
        self._removed: frozenset[NodeId] = frozenset()
        self._barred_keys: frozenset[bytes] = frozenset()
        self._revoked: frozenset[bytes] = frozenset()
        self._certificates: dict[NodeId, bytes] = {}
        self._calls: dict[NodeId, int] = {}
        self._callers: dict[NodeId, PeerInfo] = {}
        self._linked: dict[NodeId, PeerInfo] = {}

    def update(
        self,
        members: Iterable[PeerInfo],
        removed: Iterable[NodeId],
        barred_keys: Iterable[bytes] = (),
        revoked: Iterable[bytes] = (),
    ) -> None:
        """Take over the members, the former members, the keys that an administrator has to admit again, and what is
        revoked."""
        self._members = {member.node_id: member for member in members}
        self._removed = frozenset(removed)
        self._barred_keys = frozenset(barred_keys) - {b""}
        self._revoked = frozenset(revoked) - {b""}
        self._certificates = {node: seen for node, seen in self._certificates.items() if node in self._members}
        self._relink()

    def member(self, node: NodeId) -> PeerInfo | None:
        """Return the record of a member."""
        return self._members.get(node)

    def is_member(self, node: NodeId) -> bool:
        """Return whether `node` is in the applied membership."""
        return node in self._members

    def is_removed(self, node: NodeId) -> bool:
        """Return whether `node` was a member and may never be one again."""
        return node in self._removed

    def is_key_barred(self, key_digest: bytes) -> bool:
        """Return whether the key is that of a removed node, or one that a member has replaced."""
        return key_digest in self._barred_keys

    def is_revoked(self, digests: Iterable[bytes]) -> bool:
        """Return whether a certificate is revoked; `digests` are its own and that of its key."""
        return not self._revoked.isdisjoint(digests)

    def is_node_revoked(self, node: NodeId) -> bool:
        """Return whether a member's key is revoked, or the certificate with which it called last."""
        member = self._members.get(node)
        return self.is_revoked((self._certificates.get(node, b""), b"" if member is None else member.key_digest))

    @property
    def certificates(self) -> Mapping[NodeId, bytes]:
        """Return the digests of the certificates with which members called last."""
        return self._certificates

    def called_with(self, node: NodeId, certificate: bytes) -> None:
        """Record with which certificate a member calls."""
        if certificate and node in self._members and self._certificates.get(node) != certificate:
            self._certificates[node] = certificate
            self._relink()

    def linked(self) -> tuple[NodeId, ...]:
        """Return the nodes that this node has a link to."""
        return tuple(self._linked)

    def reconnect(self, node: NodeId) -> None:
        """Replace the link to a node by a new one, if there is one."""
        peer = self._linked.get(node)
        if peer is not None:
            self._links.put(self._make_link(peer))

    def is_known_name(self, name: str) -> bool:
        """Return whether a member has this name, or a node that is believed and calls now."""
        return any(known.name == name for known in (*self._members.values(), *self._callers.values()))

    @contextmanager
    def track_caller(self, caller: PeerInfo) -> Iterator[None]:
        """Keep a link to `caller` while it calls, so that it can be answered, member or not."""
        node = caller.node_id
        self._calls[node] = self._calls.get(node, 0) + 1
        self._callers[node] = caller
        self._relink()
        try:
            yield
        finally:
            self._calls[node] -= 1
            if not self._calls[node]:
                del self._calls[node], self._callers[node]
                self._relink()

    def _relink(self) -> None:
        # A removed node calls nobody, but it answers nodes that still have it as a member (docs/adr/0006).
        members = {} if self._own_id in self._removed else self._members
        wanted = {node: peer for node, peer in {**self._callers, **members}.items() if self._is_wanted(node)}
        for node in [linked for linked in self._linked if linked not in wanted]:
            del self._linked[node]
            self._links.drop(node)
        for node, peer in wanted.items():
            known = self._linked.get(node)
            if known is None or known.peer_address != peer.peer_address:
                self._linked[node] = peer
                self._links.put(self._make_link(peer))

    def _is_wanted(self, node: NodeId) -> bool:
        if node == self._own_id or node in self._removed:
            return False
        return not self.is_node_revoked(node)
