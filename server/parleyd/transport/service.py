"""Answers the calls of peers: it checks the identity first, then takes messages, snapshots and forwarded commands.

admission.py says who may call what. Nothing is read from a node that no known member vouches for yet. peer_server.py
admits a call before its method runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import aclosing
from dataclasses import replace

import grpc
import grpc.aio
import structlog

from parley_proto.v1 import admin_pb2
from parley_proto.v1 import peer_pb2 as pb
from parley_proto.v1.peer_pb2_grpc import PeerServicer
from parleyd.call_errors import ungrouped
from parleyd.raft.errors import PeerProtocolError
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.types import NodeId
from parleyd.request_ids import begin_request
from parleyd.sources import Peer
from parleyd.transport.admission import (
    REQUIRED,
    Caller,
    CertificateReader,
    Context,
    PeerAdmission,
    Standing,
    check_certificate,
    claimed_name,
    digests_of,
    refuse,
    refuse_removed,
    refuse_revoked,
)
from parleyd.transport.bootstrap import decode_peer_info, encode_peer_info
from parleyd.transport.codec import decode_message
from parleyd.transport.forwards import MAX_FRAME_BYTES
from parleyd.transport.peer_bounds import PeerCalls, PeerConnections
from parleyd.transport.peer_registry import PeerRegistry
from parleyd.transport.peer_requests import PeerRequestHandler
from parleyd.transport.vouching import Vouching

SNAPSHOT_HEADER_TIMEOUT_S = 10.0


class JoinRefusedError(Exception):
    """The node is not admitted. Nothing was changed. The text contains what to do."""


class JoinPendingError(Exception):
    """The node is not admitted yet. It may ask again. The text contains what admits it."""


class StateUnavailableError(Exception):
    """This node cannot make a copy of its state now. Another node may, or this one later."""


class PeerService(PeerServicer):
    """The peer port. Until `start_serving` it answers only Handshake, which bootstrapping uses."""

    def __init__(
        self,
        handshake_info: Callable[[], pb.HandshakeInfo],
        certificates: CertificateReader | None,
        expected: Collection[str] = (),
        *,
        has_cluster: bool = False,
    ) -> None:
        """Keep what Handshake needs; `certificates` is None without TLS.

        `expected` are the names of the nodes that this node knows from its settings, until it serves a cluster. A node
        that `has_cluster` answers nothing before it serves: its state says which certificates are revoked.
        """
        self._handshake_info = handshake_info
        self._certificates = certificates
        self._has_name: Callable[[str], bool] = frozenset(expected).__contains__
        self.calls = PeerCalls()
        self._is_revoked: Callable[[Iterable[bytes]], bool] | None = None if has_cluster else lambda _: False
        self.connections = PeerConnections(
            self.is_known, lambda digests: bool(self._is_revoked and self._is_revoked(digests))
        )
        self._handlers: Mapping[int, PeerRequestHandler] = {}
        self._admission: PeerAdmission | None = None
        self._absence = "this node has not joined its cluster yet"
        self._cluster_id = ""
        self._node_id = NodeId(0)
        self._logger = structlog.get_logger("peer")

    def start_serving(
        self,
        handlers: Mapping[int, PeerRequestHandler],
        cluster_id: str,
        node_id: NodeId,
        registry: PeerRegistry,
        vouching: Vouching,
    ) -> None:
        """Serve members and other callers in `registry`, for the Raft groups in `handlers`."""
        self._cluster_id = cluster_id
        self._node_id = node_id
        self._admission = PeerAdmission(cluster_id, node_id, registry, vouching, self._certificates)
        self._handlers = handlers
        self._has_name = registry.is_known_name
        self._is_revoked = registry.is_revoked

    def stop_serving(self, reason: str) -> None:
        """Answer only Handshake again, and other calls with `reason`."""
        self._handlers, self._admission = {}, None
        self._absence = reason

    def is_known(self, name: str) -> bool:
        """Return whether a member has this name, or a node that a member vouches for and that calls now."""
        return self._has_name(name)

    async def name_of(self, context: Context) -> str:
        """Return the name that a call counts for; end the call of a certificate that names no node."""
        if self._certificates is None:
            return claimed_name(context) or context.peer()
        name = self._certificates.name_of(context.auth_context())
        if name is None:
            self._logger.warning("peer_certificate_refused", claims=claimed_name(context), certified=None)
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "the caller's certificate names no node")
        return name

    async def check_revoked(self, name: str, peer: Peer, context: Context) -> None:
        """End the call of a revoked certificate, and any call while this node does not know yet what is revoked."""
        if self._is_revoked is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "this node starts. Nothing was done. Try again.")
        digests = digests_of(self._certificates, context)
        self.connections.presented(peer, digests)
        if self._is_revoked(digests):
            await refuse_revoked(context, name)

    async def check_caller(self, rpc: str, context: Context) -> None:
        """End a unary call that its caller may not make. Handshake and Join say in their bodies who calls."""
        if REQUIRED[rpc] is not Standing.CERTIFIED:
            await (await self._serving(context)).admit(rpc, context, any_incarnation=rpc == "DescribeMember")

    async def Handshake(  # noqa: N802 - the name is gRPC's
        self, request: pb.HandshakeInfo, context: Context
    ) -> pb.HandshakeInfo:
        """Return this node's identity; nothing is changed."""
        await check_certificate(request.self.name, self._certificates, context)
        return self._handshake_info()

    async def Deliver(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.RaftBatch], context: Context
    ) -> pb.DeliverSummary:
        """Take Raft messages until the peer disconnects."""
        admission = await self._serving(context)
        caller = await admission.admit("Deliver", context)
        await admission.wait_for_standing("Deliver", caller, context)
        with admission.registry.track_caller(caller.info):
            async for batch in request_iterator:
                await admission.check_standing("Deliver", caller, context)
                await admission.wait_for_standing("Deliver", caller, context)
                if self._admission is not admission:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, f"{self._absence}. Connect again.")
                messages = await self._decode_batch(batch, caller, context)
                for handler, message in messages:
                    handler.receive(message)
                if admission.registry.is_member(caller.info.node_id):
                    await self._take_reports(batch, caller, context)
        return pb.DeliverSummary()

    async def _take_reports(self, batch: pb.RaftBatch, caller: Caller, context: Context) -> None:
        """Take what a member says about itself."""
        member = caller.info.node_id
        for one in batch.state_hashes:
            (await self._handler(one.group, context)).state_hash(member, one)
        # After the messages: the vote that makes this node leader brings the clock that it may go by.
        for handler in self._handlers.values() if batch.wall_ms else ():
            handler.clock_reported(member, batch.wall_ms)
        for handler in self._handlers.values() if batch.HasField("loop_lag_ms") else ():
            handler.lag_reported(member, batch.loop_lag_ms)
        for handler in self._handlers.values() if batch.HasField("disk") else ():
            handler.disk_reported(member, batch.disk)
        for handler in self._handlers.values() if batch.HasField("presence") else ():
            handler.presence_reported(member, batch.presence)

    async def InstallSnapshot(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.SnapshotChunk], context: Context
    ) -> pb.SnapshotReceipt:
        """Take a snapshot; reply when it is durable here or was not wanted."""
        admission = await self._serving(context)
        caller = await admission.admit("InstallSnapshot", context)
        if not await admission.is_believed(caller):
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"no member known here vouches for {caller.info.name}")
        first = await _first_chunk(request_iterator)
        if first is None or not first.HasField("header"):
            await refuse(context, "a snapshot begins with its header")
        handler, message = await self._decode(first.header.message, caller, context)
        if message.type is not MessageType.SNAPSHOT or message.snapshot is None:
            await refuse(context, "the header carries no snapshot message")
        try:
            with admission.registry.track_caller(caller.info):
                installed = await handler.receive_snapshot(first.header, message, _data(request_iterator))
        except PeerProtocolError as error:
            await context.abort(grpc.StatusCode.DATA_LOSS, f"{error}. Nothing was installed. Send the snapshot again.")
        return pb.SnapshotReceipt(installed=installed)

    async def Forward(  # type: ignore[override]  # noqa: N802 - a coroutine that writes by the context is one, too
        self,
        request_iterator: AsyncIterator[pb.ForwardBatch],
        context: Context,
    ) -> None:
        """Propose a follower's commands in their order; reply to each when it is done."""
        admission = await self._serving(context)
        caller = await admission.identify(context)
        await admission.wait_for_standing("Forward", caller, context)
        await ungrouped(self._forward(admission, caller, request_iterator, context))

    async def _forward(
        self, admission: PeerAdmission, caller: Caller, batches: AsyncIterator[pb.ForwardBatch], context: Context
    ) -> None:
        replies: asyncio.Queue[pb.ForwardReply | None] = asyncio.Queue()

        async def write() -> None:
            while (reply := await replies.get()) is not None:
                await context.write(with_waiting(reply, replies))

        async with asyncio.TaskGroup() as tasks:
            # Requests are read here and not in a task: gRPC takes an abort only from the call's own coroutine.
            tasks.create_task(write(), name="forwarded results")
            async for batch in batches:
                await admission.check_standing("Forward", caller, context)
                for request in batch.requests:
                    handler = await self._handler(request.group, context)
                    handler.forwarded(request).add_done_callback(lambda done: replies.put_nowait(done.result()))
            replies.put_nowait(None)

    async def Join(self, request: pb.JoinRequest, context: Context) -> pb.JoinReply:  # noqa: N802
        """Admit a new node."""
        await check_certificate(request.self.name, self._certificates, context)
        admission = await self._serving(context)
        if request.cluster_id and request.cluster_id != self._cluster_id:
            await refuse(
                context,
                f"the data directory of {request.self.name} belongs to cluster {request.cluster_id}, this node to "
                f"{self._cluster_id}. It is not admitted. Give the node an empty data directory, or "
                "the right addresses to join",
            )
        if admission.registry.is_removed(NodeId(request.self.node_id)):
            await refuse_removed(context, request.self.name)
        handler = await self._handler(request.group, context)
        if self._certificates is not None:
            request.self.key_digest = self._certificates.key_digest_of(context.auth_context())
        try:
            return await handler.join(request)
        except JoinPendingError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        except JoinRefusedError as error:
            await refuse(context, str(error))
        except TimeoutError:
            await context.abort(
                grpc.StatusCode.UNAVAILABLE, "no leader answered in time. Nothing is known to have changed. Ask again."
            )

    async def ChangeCluster(self, request: pb.ClusterChange, context: Context) -> pb.ClusterChangeReply:  # noqa: N802
        """Change the cluster, if this node leads it."""
        await (await self._serving(context)).admit("ChangeCluster", context)
        begin_request(context.invocation_metadata(), is_carried=False)
        return await (await self._handler(request.group, context)).change_cluster(request)

    async def CountLogIn(self, request: pb.LogInAttempt, context: Context) -> pb.LogInVerdict:  # noqa: N802
        """Count a log-in for a member, if this node leads."""
        await (await self._serving(context)).admit("CountLogIn", context)
        return (await self._handler(request.group, context)).count_log_in(request)

    async def ListHolders(  # noqa: N802
        self, request: pb.ListHoldersRequest, context: Context
    ) -> pb.ListHoldersReply:
        """Tell a member which members have an entry on disk, if this node leads."""
        await (await self._serving(context)).admit("ListHolders", context)
        return (await self._handler(request.group, context)).list_holders(request)

    async def ReportStatus(  # noqa: N802
        self, request: pb.ReportStatusRequest, context: Context
    ) -> admin_pb2.GetStatusResponse:
        """Tell a member this node's status."""
        await (await self._serving(context)).admit("ReportStatus", context)
        return await (await self._handler(request.group, context)).report_status()

    async def FetchState(  # noqa: N802
        self, request: pb.FetchStateRequest, context: Context
    ) -> AsyncIterator[pb.SnapshotChunk]:
        """Send a member a copy of the state, if this node leads."""
        caller = await (await self._serving(context)).admit("FetchState", context)
        try:
            handler = await self._handler(request.group, context)
            async with aclosing(handler.fetch_state(request, caller.info.node_id)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except StateUnavailableError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))

    async def Rebuild(self, request: pb.RebuildRequest, context: Context) -> pb.RebuildReply:  # noqa: N802
        """Replace this node's state for an administrator, whose rights the calling member has checked."""
        await (await self._serving(context)).admit("Rebuild", context)
        begin_request(context.invocation_metadata(), is_carried=False)
        return await (await self._handler(request.group, context)).rebuild(request)

    async def DescribeMember(  # noqa: N802
        self, request: pb.DescribeMemberRequest, context: Context
    ) -> pb.DescribeMemberReply:
        """Return a member's record to a member that has not heard of it."""
        admission = await self._serving(context)
        await admission.admit("DescribeMember", context, any_incarnation=True)
        node = NodeId(request.node_id)
        member = admission.registry.member(node)
        if admission.registry.is_node_revoked(node):
            member = None  # who asks may not have the list yet, so nobody vouches for it
        return pb.DescribeMemberReply(
            member=None if member is None else encode_peer_info(member), removed=admission.registry.is_removed(node)
        )

    async def AnnounceMember(self, request: pb.PeerInfo, context: Context) -> pb.AnnounceMemberReply:  # noqa: N802
        """Publish the caller's new addresses for it; a member announces nobody but itself."""
        caller = await (await self._serving(context)).admit("AnnounceMember", context)
        announced = decode_peer_info(request)
        info = caller.info
        record = replace(announced, node_id=info.node_id, name=info.name, key_digest=caller.key_digest)
        for handler in self._handlers.values():
            if not await handler.announced(record):
                await context.abort(grpc.StatusCode.UNAVAILABLE, "no leader published the record. Announce it again.")
        return pb.AnnounceMemberReply()

    async def _serving(self, context: Context) -> PeerAdmission:
        if self._admission is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, self._absence)
        return self._admission

    async def _handler(self, group: int, context: Context) -> PeerRequestHandler:
        handler = self._handlers.get(group)
        if handler is None:
            await self._serving(context)
            await refuse(context, f"this node hosts no Raft group {group}. Nothing was done.")
        return handler

    async def _decode_batch(
        self, batch: pb.RaftBatch, caller: Caller, context: Context
    ) -> list[tuple[PeerRequestHandler, Message]]:
        decoded = [await self._decode(encoded, caller, context) for encoded in batch.messages]
        if any(message.type is MessageType.SNAPSHOT for _, message in decoded):
            await refuse(context, "a snapshot comes with its data, through InstallSnapshot")
        return decoded

    async def _decode(
        self, encoded: pb.RaftMessage, caller: Caller, context: Context
    ) -> tuple[PeerRequestHandler, Message]:
        handler = await self._handler(encoded.group, context)
        try:
            message = decode_message(encoded, handler.current_term)
        except PeerProtocolError as error:
            self._logger.error("peer_dropped", peer=caller.info.name, error=str(error))
            await refuse(context, str(error))
        if message.to != self._node_id or message.sender != caller.info.node_id:
            await refuse(context, "the message is for another node or not from the caller")
        return handler, message


def with_waiting(first: pb.ForwardReply, waiting: asyncio.Queue[pb.ForwardReply | None]) -> pb.ForwardReplyBatch:
    """Return a frame with the replies that wait, up to the bound of a frame."""
    batch = pb.ForwardReplyBatch(replies=[first])
    size = first.ByteSize()
    while size < MAX_FRAME_BYTES and not waiting.empty():
        reply = waiting.get_nowait()
        if reply is None:
            waiting.put_nowait(None)  # the end comes after this frame
            break
        batch.replies.append(reply)
        size += reply.ByteSize()
    return batch


async def _first_chunk(chunks: AsyncIterator[pb.SnapshotChunk]) -> pb.SnapshotChunk | None:
    """Return the first chunk; None if none comes in time."""
    try:
        async with asyncio.timeout(SNAPSHOT_HEADER_TIMEOUT_S):
            return await anext(aiter(chunks), None)
    except TimeoutError:
        return None


async def _data(chunks: AsyncIterator[pb.SnapshotChunk]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk.data
