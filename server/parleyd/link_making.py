"""Which nodes are known, and how the link to one of them is made. Wired in wiring.py."""

from __future__ import annotations

from parleyd.raft.types import NodeId
from parleyd.settings.table import Settings
from parleyd.storage.identity import PeerInfo
from parleyd.transport.peer_links import PeerLinks
from parleyd.transport.peer_registry import PeerRegistry
from parleyd.transport.peers import LinkSetup, PeerLink


class KnownPeers:
    """The other nodes: members by the registry, which is made after the links, and connected by the links."""

    def __init__(self, links: PeerLinks) -> None:
        self.registry: PeerRegistry | None = None
        self._links = links

    def is_member(self, node: NodeId) -> bool:
        """Return whether the cluster has this member."""
        return self.registry is not None and self.registry.is_member(node)

    def connected(self, node: NodeId) -> bool:
        """Return whether this node's link to `node` is up."""
        return self._links.connected(node)


class LinkMaker:
    """Makes the link to a peer."""

    def __init__(self, settings: Settings, setup: LinkSetup) -> None:
        self._known = ({**settings.join}, {**settings.peers})
        self._setup = setup

    def make(self, peer: PeerInfo) -> PeerLink:
        """Make the link to `peer`: at the address that it published, or else at one in this node's settings.

        After all nodes moved at once, only the settings have the new addresses.
        """
        addresses = dict.fromkeys([peer.peer_address, *(known.get(peer.name, "") for known in self._known)])
        return PeerLink(peer.node_id, peer.name, [address for address in addresses if address], self._setup)
