"""Handles the calls of peers on a running node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

from parley_proto.v1 import admin_pb2
from parley_proto.v1 import peer_pb2 as pb
from parleyd.group.command_router import kinds_of, reply_to
from parleyd.group.disk_monitor import decode_room
from parleyd.group.rebuild import StateRebuild
from parleyd.group.runner import GroupRunner
from parleyd.group.snapshot_store import SnapshotStore
from parleyd.group.state_copies import StateCopies
from parleyd.group.state_guard import StateGuard
from parleyd.membership.announced import AnnouncedRecords
from parleyd.membership.changes import PENDING_TEXT, MembershipChangeExecutor
from parleyd.membership.join_tokens import JoinTokens
from parleyd.membership.members import to_peer_info
from parleyd.membership.router import MembershipChangeRouter
from parleyd.raft.messages import Message
from parleyd.raft.types import NodeId
from parleyd.request_ids import RequestLog, checked, current_request_id
from parleyd.storage.errors import CopyFailedError
from parleyd.storage.identity import NodeIdentity, PeerInfo
from parleyd.transport.bootstrap import encode_peer_info
from parleyd.transport.service import JoinPendingError, JoinRefusedError, StateUnavailableError

SNAPSHOT_INSTALL_TIMEOUT_S = 60.0
JOIN_TIMEOUT_S = 5.0
COPY_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class TrustParts:
    """The parts that compare this node's state with the others' and rebuild it."""

    guard: StateGuard
    rebuild: StateRebuild
    copies: StateCopies


class PeerHandler:
    """Passes the calls of peers to the replica."""

    def __init__(
        self,
        identity: NodeIdentity,
        replica: GroupRunner,
        snapshot_store: SnapshotStore,
        changes: MembershipChangeExecutor,
        change_router: MembershipChangeRouter,
        join_tokens: JoinTokens,
        announced: AnnouncedRecords,
        trust: TrustParts,
        count_log_in: Callable[[pb.LogInAttempt], pb.LogInVerdict],
        take_presence: Callable[[NodeId, pb.PresenceReport], None],
        list_holders: Callable[[pb.ListHoldersRequest], pb.ListHoldersReply],
        report_status: Callable[[], Awaitable[admin_pb2.GetStatusResponse]],
    ) -> None:
        self._identity = identity
        self._replica = replica
        self._snapshot_store = snapshot_store
        self._changes = changes
        self._change_router = change_router
        self._join_tokens = join_tokens
        self._announced = announced
        self._trust = trust
        self._count_log_in = count_log_in
        self._take_presence = take_presence
        self._list_holders = list_holders
        self._report_status = report_status
        self._requests = RequestLog("commands")

    @property
    def current_term(self) -> int:
        """Return the term of this node."""
        return self._replica.raft.term

    def receive(self, message: Message) -> None:
        """Take one Raft message."""
        self._replica.receive(message)

    def state_hash(self, node: NodeId, report: pb.StateHash) -> None:
        """Take a member's report about its own state."""
        self._trust.guard.reported(node, [report])

    def clock_reported(self, node: NodeId, wall_ms: int) -> None:
        """Take what a member's wall clock shows."""
        self._replica.report_clock(node, wall_ms)

    def lag_reported(self, node: NodeId, lag_ms: int) -> None:
        """Take how late a member's event loop is."""
        self._replica.report_lag(node, lag_ms)

    def disk_reported(self, node: NodeId, report: pb.DiskReport) -> None:
        """Take a member's report about its own disk."""
        self._replica.report_room(node, decode_room(report))

    def presence_reported(self, node: NodeId, report: pb.PresenceReport) -> None:
        """Take a member's report about its clients."""
        self._take_presence(node, report)

    async def fetch_state(self, request: pb.FetchStateRequest, receiver: NodeId) -> AsyncGenerator[pb.SnapshotChunk]:
        """Stream a copy of the state, if this node leads and its state is trusted."""
        if not self._replica.is_leader or self._trust.guard.fence is not None:
            raise StateUnavailableError("this node does not lead. Ask the leader.")
        try:
            async with asyncio.timeout(COPY_WAIT_S):
                await self._replica.wait_applied(request.min_index)
        except TimeoutError:
            raise StateUnavailableError(f"entry {request.min_index} is not applied here yet. Ask again.") from None
        try:
            async with aclosing(self._trust.copies.stream(receiver)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except CopyFailedError as error:
            raise StateUnavailableError(f"{error} Ask again later.") from error

    async def rebuild(self, request: pb.RebuildRequest) -> pb.RebuildReply:
        """Replace this node's state by the leader's."""
        return self._trust.rebuild.request()

    def forwarded(self, request: pb.ForwardRequest) -> asyncio.Future[pb.ForwardReply]:
        """Propose a follower's commands."""
        if request_id := checked(request.client_request_id):
            self._requests.line("request_proposed", request_id=request_id, commands=kinds_of(request.commands))
        reply: asyncio.Future[pb.ForwardReply] = asyncio.get_running_loop().create_future()
        outcome = self._replica.propose(request.commands)
        outcome.add_done_callback(lambda done: reply.set_result(reply_to(request.request_id, done)))
        return reply

    async def receive_snapshot(self, header: pb.SnapshotHeader, message: Message, data: AsyncIterator[bytes]) -> bool:
        """Store the snapshot, offer it to the core, and wait until the core has installed it."""
        assert message.snapshot is not None
        index = message.snapshot.index
        await self._snapshot_store.receive(header, message.snapshot, data)
        if not await self._replica.take_snapshot(message):
            return self._replica.raft.applied_index >= index
        try:
            async with asyncio.timeout(SNAPSHOT_INSTALL_TIMEOUT_S):
                await self._replica.wait_applied(index)
        except TimeoutError:
            return False
        self._snapshot_store.discard_received(self._replica.raft.applied_index)
        return True

    async def change_cluster(self, change: pb.ClusterChange) -> pb.ClusterChangeReply:
        """Change the cluster as its leader."""
        if current_request_id():
            self._requests.line("request_proposed", change=change.WhichOneof("change"))
        return await self._changes.carry_out(change)

    def count_log_in(self, attempt: pb.LogInAttempt) -> pb.LogInVerdict:
        """Count a log-in, if this node leads."""
        return self._count_log_in(attempt)

    def list_holders(self, request: pb.ListHoldersRequest) -> pb.ListHoldersReply:
        """Return which members have an entry on disk, if this node leads."""
        return self._list_holders(request)

    async def report_status(self) -> admin_pb2.GetStatusResponse:
        """Return this node's status."""
        return await self._report_status()

    async def announced(self, record: PeerInfo) -> bool:
        """Publish a member's record for it."""
        return await self._announced.publish(record)

    async def join(self, request: pb.JoinRequest) -> pb.JoinReply:
        """Add the caller as a learner, or promote a learner that has caught up."""
        newcomer = request.self
        known = self._replica.members.rows.get(NodeId(newcomer.node_id))
        if known is None:
            admitted = await self._join_tokens.admit(request.token, newcomer.node_id)
            change = pb.ClusterChange(add=newcomer, admitted=admitted)
        elif known.node_id in self._replica.raft.conf_state.voters:
            return self._welcome(voter=True)
        elif not request.cluster_id:
            return self._welcome(voter=False)  # a repeated request, because the first answer was lost
        else:
            change = pb.ClusterChange(promote=pb.PromoteMember(name=known.name))
        reply = await self._change_router.submit(change, timeout_s=JOIN_TIMEOUT_S)
        match reply.status:
            case pb.CHANGE_STATUS_DONE:
                return self._welcome(voter=known is not None)
            case pb.CHANGE_STATUS_NOT_ADMITTED:
                raise JoinPendingError(reply.detail)
            case pb.CHANGE_STATUS_REFUSED if known is None:
                raise JoinRefusedError(reply.detail)
            case pb.CHANGE_STATUS_REFUSED | pb.CHANGE_STATUS_BUSY if known is not None:
                return self._welcome(voter=False, waits_for=reply.detail or PENDING_TEXT)
            case _:
                raise TimeoutError(reply.detail)

    def _welcome(self, *, voter: bool, waits_for: str = "") -> pb.JoinReply:
        return pb.JoinReply(
            cluster_id=self._identity.cluster_id,
            bootstrap_members=[encode_peer_info(member) for member in self._identity.bootstrap_members],
            voter=voter,
            waits_for=waits_for,
            level=self._replica.level,
            members=[to_peer_info(row) for row in self._replica.members.not_revoked()],
        )
