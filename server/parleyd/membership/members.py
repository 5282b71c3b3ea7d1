"""The members of the cluster, as this node has applied them: the only source for links, admission and names.

entries.py converts membership entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from parley_proto.v1 import peer_pb2 as pb
from parleyd.machine.records import BarredNode, MemberRow, Members, RevokedCertificate
from parleyd.raft.membership import ConfChange, ConfChangeType, SingleChange
from parleyd.raft.types import NodeId


@dataclass(frozen=True, slots=True)
class ClusterMembers:
    """The members by id, the former members, and the names and keys that an administrator has to admit again.

    `revoked` is what administrators revoked.
    """

    rows: Mapping[NodeId, MemberRow]
    removed: Mapping[NodeId, MemberRow]
    barred: tuple[BarredNode, ...] = ()
    revoked: tuple[RevokedCertificate, ...] = ()

    @classmethod
    def of(cls, members: Members) -> ClusterMembers:
        """Convert the state machine's members."""
        return cls(
            MappingProxyType({NodeId(row.node_id): row for row in members.rows}),
            MappingProxyType({NodeId(row.node_id): row for row in members.removed}),
            members.barred,
            members.revoked,
        )

    def not_revoked(self) -> tuple[MemberRow, ...]:
        """Return the members whose keys are not revoked."""
        revoked = {one.digest for one in self.revoked}
        return tuple(row for row in self.rows.values() if row.key_digest not in revoked)

    def revocations(self) -> frozenset[tuple[bytes, str]]:
        """Return the digest of each revoked certificate and key, and the name of the member that had it, or empty."""
        return frozenset((one.digest, one.name) for one in self.revoked)

    def named(self, name: str) -> MemberRow | None:
        """Return the member with that name."""
        return next((row for row in self.rows.values() if row.name == name), None)

    def name_of(self, node_id: NodeId) -> str:
        """Return the name of a present or former member; of another node its id as text, and empty for none."""
        row = self.rows.get(node_id) or self.removed.get(node_id)
        return row.name if row is not None else str(node_id) if node_id else ""

    def was_named(self, name: str) -> bool:
        """Return whether a member with that name was removed."""
        return any(row.name == name for row in self.removed.values())


def to_peer_info(row: MemberRow) -> pb.PeerInfo:
    """Encode a member's record for the wire."""
    return pb.PeerInfo(
        node_id=row.node_id,
        name=row.name,
        peer_address=row.peer_address,
        client_address=row.client_address,
        min_level=row.min_level,
        max_level=row.max_level,
        key_digest=row.key_digest,
    )


def to_row(member: pb.PeerInfo) -> MemberRow:
    """Decode a member's record from the wire."""
    return MemberRow(
        member.node_id,
        member.name,
        member.peer_address,
        member.client_address,
        member.min_level,
        member.max_level,
        member.key_digest,
    )


def addition(row: MemberRow) -> ConfChange:
    """Build the change that adds `row` as a learner; the entry contains its record."""
    learner = SingleChange(ConfChangeType.ADD_LEARNER, NodeId(row.node_id))
    return ConfChange((learner,), context=to_peer_info(row).SerializeToString(deterministic=True))
