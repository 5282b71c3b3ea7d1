"""The Admin service, and the cluster's condition as clients are told it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

from proto.parley.v1 import admin_pb2 as pb
from proto.parley.v1 import messaging_pb2
from proto.parley.v1.admin_pb2_grpc import AdminServicer
from server.api.errors import Context, unary
from server.delivery.hub import Hub
from server.machine.records import MemberRow
from server.raft.status import RaftStatus
from server.raft.types import NodeId, Role
from server.replica.replica import Replica
from server.storage.identity import Identity


@dataclass(frozen=True, slots=True)
class ClusterView:
    """Where a node's answers about the cluster come from."""

    identity: Identity
    replica: Replica
    hub: Hub
    connected: Callable[[NodeId], bool]

    async def members(self) -> list[MemberRow]:
        """All members with their addresses, by name."""
        return sorted(await self.replica.readers.run(lambda reader: reader.members()), key=lambda member: member.name)

    def is_up(self, node: NodeId) -> bool:
        """Whether this node can reach `node`; it always reaches itself."""
        return node == self.identity.node_id or self.connected(node)

    def has_majority(self) -> bool:
        """Whether commits flow as far as this node knows.

        A leader that hears no majority steps down within an election timeout (check-quorum), and a follower that hears
        no leader forgets it, so a known leader is the sign; this node's own links guard against the moments between.
        """
        voters = self.replica.raft.conf_state.voters
        up = sum(1 for voter in voters if self.is_up(voter))
        return self.replica.serving and (not self.replica.is_leader or 2 * up > len(voters))

    async def news(self) -> messaging_pb2.ClusterNews:
        """What connected clients are told."""
        members = await self.members()
        role = self.replica.role
        return messaging_pb2.ClusterNews(
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
            applied_index=self.replica.machine.applied_index,
            term=role.term,
        )


class AdminService(AdminServicer):
    """Answers about this node."""

    def __init__(self, view: ClusterView) -> None:
        self._view = view
        self._started = time.monotonic()

    @unary
    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.GetStatusResponse:  # noqa: N802
        """This node's view of itself and of the others."""
        view = self._view
        status = view.replica.raft.status()
        members = await view.members()
        applied_index, count, state_hash = await view.replica.readers.run(lambda reader: reader.summary())
        return pb.GetStatusResponse(
            cluster_id=view.identity.cluster_id,
            node_name=view.identity.name,
            node_id=view.identity.node_id,
            role=status.role.value,
            term=status.term,
            commit_index=status.commit_index,
            applied_index=applied_index,
            last_index=status.last_index,
            first_index=status.first_index,
            leader=next((member.name for member in members if member.node_id == status.leader), ""),
            connected_clients=view.hub.connected,
            messages_per_second=view.hub.messages_per_second(),
            messages_total=count,
            serving=view.has_majority(),
            members=[_member(member, status, view) for member in members],
            pid=os.getpid(),
            uptime_s=time.monotonic() - self._started,
            state_hash=state_hash,
            version=version("parley"),
        )


def _member(member: MemberRow, status: RaftStatus, view: ClusterView) -> pb.MemberStatus:
    node = NodeId(member.node_id)
    progress = status.progress.get(node) if status.role is Role.LEADER else None
    return pb.MemberStatus(
        name=member.name,
        node_id=member.node_id,
        peer_address=member.peer_address,
        client_address=member.client_address,
        voter=node in status.conf_state.voters,
        connected=view.is_up(node),
        match_index=progress.match if progress is not None else 0,
    )
