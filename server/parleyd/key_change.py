"""Takes over a new key of this node while it runs: its links present the key first, then the cluster is told.

The order matters. A member may call with any key that is not barred. When it publishes its new key, the others bar the
old one, and end what was opened with it. So nothing may use the old key any more by then. A link is opened anew only
after the one before is connected again, so this node keeps all others but one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from parleyd.membership.members import ClusterMembers
from parleyd.raft.types import NodeId
from parleyd.security.node_certificates import NodeCertificates
from parleyd.transport.peer_links import PeerLinks
from parleyd.transport.peer_registry import PeerRegistry

RECONNECT_S = 3.0


class KeyChanges:
    """The changes of a serving node's key. Its certificates ask it before they take one over."""

    def __init__(
        self,
        certificates: NodeCertificates,
        registry: PeerRegistry,
        links: PeerLinks,
        members: Callable[[], ClusterMembers],
        publish: Callable[[bytes], None],
    ) -> None:
        """`publish` makes the cluster know the key with this digest as this node's."""
        self._certificates = certificates
        self._registry = registry
        self._links = links
        self._members = members
        self._publish = publish
        self._logger = structlog.get_logger("certificates")

    async def run(self) -> None:
        """Permit new keys and take them over, until cancelled."""
        changed = asyncio.Event()
        loop = asyncio.get_running_loop()

        def note() -> None:
            loop.call_soon_threadsafe(changed.set)

        with self._certificates.taking_keys(self.why_not, note):
            while True:
                await changed.wait()
                changed.clear()
                await self.take_over()

    def why_not(self, digests: frozenset[bytes]) -> str:
        """Return why the cluster would refuse a certificate, by the digests of it and its key; empty if it would not.

        Any thread.
        """
        members = self._members()
        if digests & {barred.key_digest for barred in members.barred}:
            return "the cluster refuses this key: its node has had a newer one since, or was removed"
        if digests & {revoked.digest for revoked in members.revoked}:
            return "an administrator revoked this certificate or its key"
        return ""

    async def take_over(self) -> None:
        """Open all links anew, one after the other, then publish the key."""
        for node in self._registry.linked():
            if self._links.connected(node):
                self._registry.reconnect(node)
                await self._connected(node)
        self._publish(self._certificates.key_digest)
        self._logger.warning("key_changed", effect="the other nodes refuse the key of before from now on")

    async def _connected(self, node: NodeId) -> None:
        """Wait until a link is up, for a bounded time: the member may have stopped meanwhile."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + RECONNECT_S
        while not self._links.connected(node) and (left_s := until_s - loop.time()) > 0:
            await asyncio.wait({self._links.next_change()}, timeout=left_s)
