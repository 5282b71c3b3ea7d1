"""The record of this node, as it publishes it to the others."""

from __future__ import annotations

from parleyd.machine.levels import MAX_LEVEL, MIN_LEVEL
from parleyd.raft.types import NodeId
from parleyd.security.node_certificates import NodeCertificates
from parleyd.settings.table import Settings
from parleyd.storage.identity import PeerInfo


def own_record(settings: Settings, node_id: NodeId, certificates: NodeCertificates | None) -> PeerInfo:
    """Return the record of the node with these settings; `certificates` are None with `insecure`."""
    return PeerInfo(
        node_id,
        settings.name,
        settings.peer_advertise,
        settings.client_advertise,
        MIN_LEVEL,
        MAX_LEVEL,
        b"" if certificates is None else certificates.key_digest,
    )
