"""The cluster's condition as this node sees it, for clients and administrators."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from parley_proto.v1 import messaging_pb2
from parleyd.api.auth import AppliedState
from parleyd.delivery.device_hub import DeviceHub
from parleyd.delivery.position import position
from parleyd.machine.records import MemberRow
from parleyd.membership.members import ClusterMembers
from parleyd.node_condition import NodeCondition
from parleyd.raft.quorum import has_majority
from parleyd.raft.status import RaftStatus
from parleyd.raft.types import ConfState, NodeId
from parleyd.raft.update import RoleChange
from parleyd.storage.identity import NodeIdentity


class RaftView(Protocol):
    """The position of the consensus core."""

    @property
    def conf_state(self) -> ConfState:
        """Return the membership in force."""

    def status(self) -> RaftStatus:
        """Return the state at this moment."""


class ReplicaView(AppliedState, Protocol):
    """What the api needs of a replica."""

    @property
    def raft(self) -> RaftView:
        """Return the consensus core."""

    @property
    def role(self) -> RoleChange:
        """Return role, term and leader."""

    @property
    def is_leader(self) -> bool:
        """Return whether this node leads."""

    @property
    def serving(self) -> bool:
        """Return whether a leader is known."""

    @property
    def members(self) -> ClusterMembers:
        """Return the cluster's members, as applied here."""

    @property
    def retired(self) -> bool:
        """Return whether this node was removed."""

    def next_role_change(self) -> asyncio.Future[None]:
        """Return a future of the next change of role, term or leader; it is shared, never cancel it."""


async def no_condition() -> NodeCondition:
    """Return a condition of which nothing is known."""
    return NodeCondition()


@dataclass(frozen=True, slots=True)
class ClusterView:
    """The source of a node's reports about the cluster."""

    identity: NodeIdentity
    replica: ReplicaView
    hub: DeviceHub
    connected: Callable[[NodeId], bool]
    divergence: Callable[[], str] = lambda: ""  # the text for operators about states that differ
    clock: Callable[[], str] = lambda: ""  # the text for operators about wrong clocks
    disk: Callable[[], str] = lambda: ""  # the text for operators about a disk that is nearly full
    refused: Callable[[], str] = lambda: ""  # what the cluster does not accept because of its disks, as a leader knows
    snapshots: Callable[[], str] = lambda: ""  # the text for operators about snapshots that peers do not install
    condition: Callable[[], Awaitable[NodeCondition]] = no_condition  # the node's clock, certificate, disk and files

    # With which certificates this node and those that call it call, by their digests.
    certificates: Callable[[], Mapping[NodeId, bytes]] = dict

    def members(self) -> list[MemberRow]:
        """Return all members with their addresses, by name."""
        return sorted(self.replica.members.rows.values(), key=lambda member: member.name)

    def is_up(self, node: NodeId) -> bool:
        """Return whether this node can reach `node`; it always reaches itself."""
        return node == self.identity.node_id or self.connected(node)

    def has_majority(self) -> bool:
        """Return whether commands can be committed, as far as this node knows.

        A leader without messages from a majority steps down within an election timeout (check-quorum). A follower
        without a leader's messages forgets the leader. So a known leader is the sign of a majority. This node's own
        links cover the time in between.
        """
        reached = has_majority(self.replica.raft.conf_state, self.is_up)
        return self.replica.serving and (not self.replica.is_leader or reached)

    def status_update(self) -> messaging_pb2.ClusterStatusUpdate:
        """Return the report for connected clients."""
        members = self.members()
        role = self.replica.role
        machine = self.replica.machine
        return messaging_pb2.ClusterStatusUpdate(
            leader=next((member.name for member in members if member.node_id == role.leader), ""),
            has_majority=self.has_majority(),
            nodes=[
                messaging_pb2.NodeInfo(
                    name=member.name,
                    client_address=member.client_address,
                    up=self.is_up(NodeId(member.node_id)),
                )
                for member in members
            ],
            position=position(machine.generation, machine.applied_index),
            term=role.term,
        )
