"""The Admin service, and the cluster's condition as clients are told it."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import version

import grpc

from parley_proto.v1 import admin_pb2 as pb
from parley_proto.v1 import messaging_pb2, peer_pb2, state_pb2
from parley_proto.v1.admin_pb2_grpc import AdminServicer
from parleyd.api.auth import Authenticator
from parleyd.api.errors import ApiError, Context, check_result, unary
from parleyd.delivery.device_hub import DeviceHub
from parleyd.group.command_router import CommandRouter
from parleyd.group.runner import GroupRunner
from parleyd.machine.queries import SessionRecord
from parleyd.machine.records import MemberRow
from parleyd.membership.router import MembershipChangeRouter
from parleyd.raft.status import RaftStatus
from parleyd.raft.types import NodeId, Role
from parleyd.security.names import validate_node_name
from parleyd.storage.identity import NodeIdentity

CHANGE_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class ClusterView:
    """Where a node's answers about the cluster come from."""

    identity: NodeIdentity
    replica: GroupRunner
    hub: DeviceHub
    connected: Callable[[NodeId], bool]

    def members(self) -> list[MemberRow]:
        """All members with their addresses, by name."""
        return sorted(self.replica.members.rows.values(), key=lambda member: member.name)

    def is_up(self, node: NodeId) -> bool:
        """Whether this node can reach `node`; it always reaches itself."""
        return node == self.identity.node_id or self.connected(node)

    def has_majority(self) -> bool:
        """Whether commits flow as far as this node knows.

        A leader that hears no majority steps down within an election timeout (check-quorum), and a follower that hears
        no leader forgets it, so a known leader is the sign; this node's own links guard against the moments between.
        """
        conf_state = self.replica.raft.conf_state
        halves = [conf_state.voters, *([conf_state.voters_outgoing] if conf_state.voters_outgoing else [])]
        reached = all(2 * sum(map(self.is_up, voters)) > len(voters) for voters in halves)
        return self.replica.serving and (not self.replica.is_leader or reached)

    def status_update(self) -> messaging_pb2.ClusterStatusUpdate:
        """What connected clients are told."""
        members = self.members()
        role = self.replica.role
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
            applied_index=self.replica.machine.applied_index,
            term=role.term,
        )


HandshakeCall = Callable[[str, str], Awaitable[peer_pb2.HandshakeInfo | None]]  # (node name, peer address)


class AdminService(AdminServicer):
    """Answers about this node, and changes of the cluster on behalf of administrators."""

    def __init__(
        self,
        view: ClusterView,
        authenticator: Authenticator,
        router: CommandRouter,
        change_router: MembershipChangeRouter,
        handshake: HandshakeCall,
    ) -> None:
        self._view = view
        self._authenticator = authenticator
        self._router = router
        self._change_router = change_router
        self._handshake = handshake
        self._started = time.monotonic()

    @unary
    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.GetStatusResponse:  # noqa: N802
        """This node's view of itself and of the others."""
        view = self._view
        status = view.replica.raft.status()
        members = view.members()
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
            joint=bool(status.conf_state.voters_outgoing),
            removed=view.replica.retired,
        )

    @unary
    async def AddMember(self, request: pb.AddMemberRequest, context: Context) -> pb.ClusterChangeResponse:  # noqa: N802
        """Add the fresh node that waits at an address, as a learner."""
        await self._administrator(context)
        validate_node_name(request.name)
        info = await self._handshake(request.name, request.peer_address)
        if info is None:
            raise ApiError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"no node answers at {request.peer_address}, or not with a certificate of {request.name}; nothing was "
                "changed. Start it there with --join first",
            )
        own_cluster = self._view.identity.cluster_id
        if info.self.name != request.name or info.cluster_id not in ("", own_cluster):
            belongs = f", and it belongs to cluster {info.cluster_id}" if info.cluster_id else ""
            raise ApiError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"the node at {request.peer_address} says it is {info.self.name}{belongs}; nothing was changed. "
                f"Give {request.name} an empty data directory and start it with --join",
            )
        return await self._change(peer_pb2.ClusterChange(add=info.self))

    @unary
    async def PromoteMember(  # noqa: N802
        self, request: pb.PromoteMemberRequest, context: Context
    ) -> pb.ClusterChangeResponse:
        """Make a learner a voter."""
        await self._administrator(context)
        return await self._change(peer_pb2.ClusterChange(promote=peer_pb2.PromoteMember(name=request.name)))

    @unary
    async def RemoveMember(  # noqa: N802
        self, request: pb.RemoveMemberRequest, context: Context
    ) -> pb.ClusterChangeResponse:
        """Remove a member for good."""
        await self._administrator(context)
        remove = peer_pb2.RemoveMember(name=request.name, force=request.force)
        return await self._change(peer_pb2.ClusterChange(remove=remove))

    @unary
    async def TransferLeadership(  # noqa: N802
        self, request: pb.TransferLeadershipRequest, context: Context
    ) -> pb.ClusterChangeResponse:
        """Hand leadership to another voter."""
        await self._administrator(context)
        return await self._change(peer_pb2.ClusterChange(transfer=peer_pb2.TransferLeadership(name=request.name)))

    @unary
    async def SetAdministrator(  # noqa: N802
        self, request: pb.SetAdministratorRequest, context: Context
    ) -> pb.SetAdministratorResponse:
        """Make an account an administrator, or take that from it."""
        session = await self._administrator(context)
        command = state_pb2.SetRole(
            session_id=session.session_id, account=request.account, administrator=request.administrator
        )
        applied = await self._router.submit([state_pb2.Command(set_role=command)], timeout_s=CHANGE_TIMEOUT_S)
        check_result(applied.results[0])
        return pb.SetAdministratorResponse(applied_index=applied.index)

    async def _administrator(self, context: Context) -> SessionRecord:
        session = await self._authenticator.session(context)
        if not session.administrator:
            # The grant may be newer than this node's state: look again where it is known to be current.
            await self._authenticator.read_barrier()
            session = await self._authenticator.session(context)
        if not session.administrator:
            raise ApiError(
                grpc.StatusCode.PERMISSION_DENIED,
                f"{session.account_name} is no administrator; nothing was changed. An administrator can change that: "
                f"parley cluster grant {session.account_name}",
            )
        return session

    async def _change(self, change: peer_pb2.ClusterChange) -> pb.ClusterChangeResponse:
        reply = await self._change_router.submit(change, timeout_s=CHANGE_TIMEOUT_S)
        if reply.status != peer_pb2.CHANGE_STATUS_DONE:
            raise ApiError(CHANGE_STATUS.get(reply.status, grpc.StatusCode.INTERNAL), reply.detail)
        return pb.ClusterChangeResponse(applied_index=reply.index, leader=reply.leader)


CHANGE_STATUS: dict[int, grpc.StatusCode] = {
    peer_pb2.CHANGE_STATUS_REFUSED: grpc.StatusCode.FAILED_PRECONDITION,
    peer_pb2.CHANGE_STATUS_BUSY: grpc.StatusCode.FAILED_PRECONDITION,
    peer_pb2.CHANGE_STATUS_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    peer_pb2.CHANGE_STATUS_NOT_LEADER: grpc.StatusCode.UNAVAILABLE,
    peer_pb2.CHANGE_STATUS_OUTCOME_UNKNOWN: grpc.StatusCode.ABORTED,
}


def _member(member: MemberRow, status: RaftStatus, view: ClusterView) -> pb.MemberStatus:
    node = NodeId(member.node_id)
    progress = status.progress.get(node) if status.role is Role.LEADER else None
    return pb.MemberStatus(
        name=member.name,
        node_id=member.node_id,
        peer_address=member.peer_address,
        client_address=member.client_address,
        voter=node in status.conf_state.voters,
        learner=node in status.conf_state.learners,
        connected=view.is_up(node),
        match_index=progress.match_index if progress is not None else 0,
    )
