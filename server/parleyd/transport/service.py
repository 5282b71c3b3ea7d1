"""Answers the calls of peers: it checks the identity first, then takes messages, snapshots and forwarded commands.

admission.py says who may call what. Deliver and InstallSnapshot are open to nodes that are no members here. A node that
lags or is new must accept messages of a leader, and vote for a candidate, that joined after what it has applied (thesis
§4.1).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Protocol

import grpc
import grpc.aio
import structlog

from parley_proto.v1 import peer_pb2 as pb
from parley_proto.v1.peer_pb2_grpc import PeerServicer
from parleyd.raft.errors import PeerProtocolError
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.types import NodeId
from parleyd.storage.identity import PeerInfo
from parleyd.transport.admission import (
    Context,
    PeerAdmission,
    PeerNameOf,
    check_certificate,
    refuse,
    refuse_removed,
)
from parleyd.transport.codec import decode_message
from parleyd.transport.peer_registry import PeerRegistry


class PeerRequestHandler(Protocol):
    """What a running node does with the calls of its peers."""

    @property
    def current_term(self) -> int:
        """Return the term of this node, which bounds the terms that it takes."""

    def receive(self, message: Message) -> None:
        """Take one Raft message."""

    def state_hash(self, node: NodeId, report: pb.StateHash) -> None:
        """Take a member's report about its own state."""

    def disk_reported(self, node: NodeId, report: pb.DiskReport) -> None:
        """Take a member's report about its own disk."""

    def fetch_state(self, request: pb.FetchStateRequest, receiver: NodeId) -> AsyncGenerator[pb.SnapshotChunk]:
        """Stream a copy of the state; raises StateUnavailableError if this node cannot make one now."""

    async def rebuild(self, request: pb.RebuildRequest) -> pb.RebuildReply:
        """Replace this node's state by the leader's; never raises, the reply contains the outcome."""

    def forwarded(self, request: pb.ForwardRequest) -> asyncio.Future[pb.ForwardReply]:
        """Propose a follower's commands in the order of the calls; never raises, the reply contains the outcome."""

    async def receive_snapshot(self, header: pb.SnapshotHeader, message: Message, data: AsyncIterator[bytes]) -> bool:
        """Store and install a snapshot; False if it was not wanted. Raises PeerProtocolError for damaged data."""

    async def change_cluster(self, change: pb.ClusterChange) -> pb.ClusterChangeReply:
        """Change the cluster as its leader; never raises, the reply contains the outcome."""

    def count_log_in(self, attempt: pb.LogInAttempt) -> pb.LogInVerdict:
        """Count a log-in, if this node leads."""

    async def join(self, request: pb.JoinRequest) -> pb.JoinReply:
        """Make the caller a learner, or a voter once it has caught up; raises JoinRefusedError or TimeoutError."""


class JoinRefusedError(Exception):
    """The node is not admitted. Nothing was changed. The text contains what to do."""


class StateUnavailableError(Exception):
    """This node cannot make a copy of its state now. Another node may, or this one later."""


class PeerService(PeerServicer):
    """The peer port. Until `start_serving` it answers only Handshake, which bootstrapping uses."""

    def __init__(self, handshake_info: Callable[[], pb.HandshakeInfo], peer_name_of: PeerNameOf | None) -> None:
        """Keep what Handshake needs. `peer_name_of` reads the node name from the TLS context; None without TLS."""
        self._handshake_info = handshake_info
        self._peer_name_of = peer_name_of
        self._handlers: Mapping[int, PeerRequestHandler] = {}
        self._admission: PeerAdmission | None = None
        self._cluster_id = ""
        self._node_id = NodeId(0)
        self._logger = structlog.get_logger("peer")

    def start_serving(
        self, handlers: Mapping[int, PeerRequestHandler], cluster_id: str, node_id: NodeId, registry: PeerRegistry
    ) -> None:
        """Serve members and other callers in `registry`, for the Raft groups in `handlers`."""
        self._cluster_id = cluster_id
        self._node_id = node_id
        self._admission = PeerAdmission(cluster_id, node_id, registry, self._peer_name_of)
        self._handlers = handlers

    def stop_serving(self) -> None:
        """Answer only Handshake again, while the node's state is replaced."""
        self._handlers, self._admission = {}, None

    async def Handshake(  # noqa: N802 - the name is gRPC's
        self, request: pb.HandshakeInfo, context: Context
    ) -> pb.HandshakeInfo:
        """Return this node's identity; nothing is changed."""
        await check_certificate(request.self.name, self._peer_name_of, context)
        return self._handshake_info()

    async def Deliver(  # noqa: N802
        self,
        request_iterator: AsyncIterator[pb.RaftBatch],
        context: Context,
    ) -> pb.DeliverSummary:
        """Take Raft messages until the peer disconnects."""
        admission = await self._serving(context)
        sender = await admission.admit("Deliver", context)
        with admission.registry.track_caller(sender):
            async for batch in request_iterator:
                if self._admission is not admission:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "this node's state was replaced. Connect again.")
                await admission.check_standing("Deliver", sender, context)
                for encoded in batch.messages:
                    handler = await self._handler(encoded.group, context)
                    message = await self._decode(encoded, handler, sender, context)
                    if message.type is MessageType.SNAPSHOT:
                        await refuse(context, "a snapshot comes with its data, through InstallSnapshot")
                    handler.receive(message)
                if admission.registry.is_member(sender.node_id):
                    for one in batch.state_hashes:
                        (await self._handler(one.group, context)).state_hash(sender.node_id, one)
                    if batch.HasField("disk"):
                        for handler in self._handlers.values():
                            handler.disk_reported(sender.node_id, batch.disk)
        return pb.DeliverSummary()

    async def InstallSnapshot(  # noqa: N802
        self,
        request_iterator: AsyncIterator[pb.SnapshotChunk],
        context: Context,
    ) -> pb.SnapshotReceipt:
        """Take a snapshot; reply when it is durable here or was not wanted."""
        admission = await self._serving(context)
        sender = await admission.admit("InstallSnapshot", context)
        first = await anext(aiter(request_iterator), None)
        if first is None or not first.HasField("header"):
            await refuse(context, "a snapshot begins with its header")
        handler = await self._handler(first.header.message.group, context)
        message = await self._decode(first.header.message, handler, sender, context)
        if message.type is not MessageType.SNAPSHOT or message.snapshot is None:
            await refuse(context, "the header carries no snapshot message")
        try:
            with admission.registry.track_caller(sender):
                installed = await handler.receive_snapshot(first.header, message, _data(request_iterator))
        except PeerProtocolError as error:
            await context.abort(grpc.StatusCode.DATA_LOSS, f"{error}. Nothing was installed. Send the snapshot again.")
        return pb.SnapshotReceipt(installed=installed)

    async def Forward(  # noqa: N802
        self,
        request_iterator: AsyncIterator[pb.ForwardRequest],
        context: Context,
    ) -> AsyncIterator[pb.ForwardReply]:
        """Propose a follower's commands in their order; reply to each when it is done."""
        admission = await self._serving(context)
        sender = await admission.identify(context)
        replies: asyncio.Queue[pb.ForwardReply | None] = asyncio.Queue()

        async def read() -> None:
            async for request in request_iterator:
                # A link opens this stream before it needs it. The receiver may hear of the caller's admission later.
                await admission.check_standing("Forward", sender, context)
                handler = await self._handler(request.group, context)
                handler.forwarded(request).add_done_callback(lambda done: replies.put_nowait(done.result()))
            replies.put_nowait(None)

        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(read(), name="forwarded commands")
            try:
                while (reply := await replies.get()) is not None:
                    yield reply
            finally:
                reading.cancel()

    async def Join(self, request: pb.JoinRequest, context: Context) -> pb.JoinReply:  # noqa: N802
        """Admit a new node."""
        await check_certificate(request.self.name, self._peer_name_of, context)
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
        try:
            return await handler.join(request)
        except JoinRefusedError as error:
            await refuse(context, str(error))
        except TimeoutError:
            await context.abort(
                grpc.StatusCode.UNAVAILABLE, "no leader answered in time. Nothing is known to have changed. Ask again."
            )

    async def ChangeCluster(self, request: pb.ClusterChange, context: Context) -> pb.ClusterChangeReply:  # noqa: N802
        """Change the cluster, if this node leads it."""
        await (await self._serving(context)).admit("ChangeCluster", context)
        return await (await self._handler(request.group, context)).change_cluster(request)

    async def CountLogIn(self, request: pb.LogInAttempt, context: Context) -> pb.LogInVerdict:  # noqa: N802
        """Count a log-in for a member, if this node leads."""
        await (await self._serving(context)).admit("CountLogIn", context)
        return (await self._handler(request.group, context)).count_log_in(request)

    async def FetchState(  # noqa: N802
        self, request: pb.FetchStateRequest, context: Context
    ) -> AsyncIterator[pb.SnapshotChunk]:
        """Send a member a copy of the state, if this node leads."""
        sender = await (await self._serving(context)).admit("FetchState", context)
        try:
            handler = await self._handler(request.group, context)
            async with aclosing(handler.fetch_state(request, sender.node_id)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except StateUnavailableError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))

    async def Rebuild(self, request: pb.RebuildRequest, context: Context) -> pb.RebuildReply:  # noqa: N802
        """Replace this node's state for an administrator, whose rights the calling member has checked."""
        await (await self._serving(context)).admit("Rebuild", context)
        return await (await self._handler(request.group, context)).rebuild(request)

    async def _serving(self, context: Context) -> PeerAdmission:
        if self._admission is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "this node has not joined its cluster yet")
        return self._admission

    async def _handler(self, group: int, context: Context) -> PeerRequestHandler:
        handler = self._handlers.get(group)
        if handler is None:
            await refuse(context, f"this node hosts no Raft group {group}. Nothing was done.")
        return handler

    async def _decode(
        self, encoded: pb.RaftMessage, handler: PeerRequestHandler, sender: PeerInfo, context: Context
    ) -> Message:
        try:
            message = decode_message(encoded, handler.current_term)
        except PeerProtocolError as error:
            self._logger.error("peer_dropped", peer=sender.name, error=str(error))
            await refuse(context, str(error))
        if message.to != self._node_id or message.sender != sender.node_id:
            await refuse(context, "the message is for another node or not from the caller")
        return message


async def _data(chunks: AsyncIterator[pb.SnapshotChunk]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk.data
