"""Who the members of the cluster are, as this node has applied it: the one source for links, admission and names.

What a membership entry makes of them is in entries.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from parley_proto.v1 import peer_pb2 as pb
from parleyd.machine.records import MemberRow, Members
from parleyd.raft.membership import ConfChange, ConfChangeType, SingleChange
from parleyd.raft.types import NodeId


@dataclass(frozen=True, slots=True)
class ClusterMembers:
    """The members by id, and those that were members once."""

    rows: Mapping[NodeId, MemberRow]
    removed: Mapping[NodeId, MemberRow]

    @classmethod
    def of(cls, members: Members) -> ClusterMembers:
        """The same, by id."""
        return cls(
            MappingProxyType({NodeId(row.node_id): row for row in members.rows}),
            MappingProxyType({NodeId(row.node_id): row for row in members.removed}),
        )

    def named(self, name: str) -> MemberRow | None:
        """The member of that name."""
        return next((row for row in self.rows.values() if row.name == name), None)

    def was_named(self, name: str) -> bool:
        """Whether a member of that name was removed."""
        return any(row.name == name for row in self.removed.values())


def to_peer_info(row: MemberRow) -> pb.PeerInfo:
    """The wire form of a member's record."""
    return pb.PeerInfo(
        node_id=row.node_id,
        name=row.name,
        peer_address=row.peer_address,
        client_address=row.client_address,
        min_level=row.min_level,
        max_level=row.max_level,
    )


def to_row(member: pb.PeerInfo) -> MemberRow:
    """The reverse of `to_peer_info`."""
    return MemberRow(
        member.node_id,
        member.name,
        member.peer_address,
        member.client_address,
        member.min_level,
        member.max_level,
    )


def addition(row: MemberRow) -> ConfChange:
    """The change that adds `row` as a learner; its record travels in the entry."""
    learner = SingleChange(ConfChangeType.ADD_LEARNER, NodeId(row.node_id))
    return ConfChange((learner,), context=to_peer_info(row).SerializeToString(deterministic=True))
