"""Answers the calls of peers: it checks the identity first, then takes messages, snapshots and forwarded commands.

Every call names its cluster, its caller and its receiver. The node refuses a call for another cluster or another
incarnation, before it uses any content. It also refuses a caller that its certificate does not name, and a removed
node. It admits an unknown node whose certificate is valid. A node that lags or is new must accept messages of a leader,
and vote for a candidate, that joined after what it has applied (thesis §4.1). Requests of an unknown node are handled
like a member's. Its answers are ignored, and it may not change the members.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any, NoReturn, Protocol

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError

from parley_proto.v1 import peer_pb2 as pb
from parley_proto.v1.peer_pb2_grpc import PeerServicer
from parleyd.raft.errors import PeerProtocolError
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.types import NodeId
from parleyd.storage.identity import PeerInfo
from parleyd.transport.bootstrap import decode_peer_info
from parleyd.transport.codec import decode_message
from parleyd.transport.peer_calls import (
    METADATA_CLUSTER,
    METADATA_FROM,
    METADATA_REMOVED,
    METADATA_SELF,
    METADATA_TO,
)
from parleyd.transport.peer_registry import PeerRegistry

Context = grpc.aio.ServicerContext[Any, Any]
PeerNameOf = Callable[[Mapping[str, Iterable[bytes]]], str | None]


class PeerRequestHandler(Protocol):
    """What a running node does with the calls of its peers."""

    def receive(self, message: Message) -> None:
        """Take one Raft message."""

    def state_hash(self, node: NodeId, report: pb.StateHash) -> None:
        """Take a member's report about its own state."""

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
        self._registry: PeerRegistry | None = None
        self._cluster_id = ""
        self._node_id = NodeId(0)
        self._logger = structlog.get_logger("peer")

    def start_serving(
        self, handlers: Mapping[int, PeerRequestHandler], cluster_id: str, node_id: NodeId, registry: PeerRegistry
    ) -> None:
        """Serve members and other callers in `registry`, for the Raft groups in `handlers`."""
        self._cluster_id = cluster_id
        self._node_id = node_id
        self._registry = registry
        self._handlers = handlers

    def stop_serving(self) -> None:
        """Answer only Handshake again, while the node's state is replaced."""
        self._handlers, self._registry = {}, None

    async def Handshake(  # noqa: N802 - the name is gRPC's
        self, request: pb.HandshakeInfo, context: Context
    ) -> pb.HandshakeInfo:
        """Return this node's identity; nothing is changed."""
        await self._check_certificate(request.self.name, context)
        return self._handshake_info()

    async def Deliver(  # noqa: N802
        self,
        request_iterator: AsyncIterator[pb.RaftBatch],
        context: Context,
    ) -> pb.DeliverSummary:
        """Take Raft messages until the peer disconnects."""
        registry, sender = await self._admit(context)
        with registry.track_caller(sender):
            async for batch in request_iterator:
                if self._registry is not registry:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "this node's state was replaced. Connect again.")
                for encoded in batch.messages:
                    message = await self._decode(encoded, registry, sender, context)
                    if message.type is MessageType.SNAPSHOT:
                        await _refuse(context, "a snapshot comes with its data, through InstallSnapshot")
                    (await self._handler(encoded.group, context)).receive(message)
                if registry.is_member(sender.node_id):
                    for one in batch.state_hashes:
                        (await self._handler(one.group, context)).state_hash(sender.node_id, one)
        return pb.DeliverSummary()

    async def InstallSnapshot(  # noqa: N802
        self,
        request_iterator: AsyncIterator[pb.SnapshotChunk],
        context: Context,
    ) -> pb.SnapshotReceipt:
        """Take a snapshot; reply when it is durable here or was not wanted."""
        registry, sender = await self._admit(context)
        first = await anext(aiter(request_iterator), None)
        if first is None or not first.HasField("header"):
            await _refuse(context, "a snapshot begins with its header")
        message = await self._decode(first.header.message, registry, sender, context)
        if message.type is not MessageType.SNAPSHOT or message.snapshot is None:
            await _refuse(context, "the header carries no snapshot message")
        handler = await self._handler(first.header.message.group, context)
        try:
            with registry.track_caller(sender):
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
        await self._admit(context)
        replies: asyncio.Queue[pb.ForwardReply | None] = asyncio.Queue()

        async def read() -> None:
            async for request in request_iterator:
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
        await self._check_certificate(request.self.name, context)
        registry = self._registry
        if registry is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "this node has not joined its cluster yet")
        if request.cluster_id and request.cluster_id != self._cluster_id:
            await _refuse(
                context,
                f"the data directory of {request.self.name} belongs to cluster {request.cluster_id}, this node to "
                f"{self._cluster_id}. It is not admitted. Give the node an empty data directory, or "
                "the right addresses to join",
            )
        if registry.is_removed(NodeId(request.self.node_id)):
            await _refuse_removed(context, request.self.name)
        handler = await self._handler(request.group, context)
        try:
            return await handler.join(request)
        except JoinRefusedError as error:
            await _refuse(context, str(error))
        except TimeoutError:
            await context.abort(
                grpc.StatusCode.UNAVAILABLE, "no leader answered in time. Nothing is known to have changed. Ask again."
            )

    async def ChangeCluster(self, request: pb.ClusterChange, context: Context) -> pb.ClusterChangeReply:  # noqa: N802
        """Change the cluster, if this node leads it."""
        registry, sender = await self._admit(context)
        if not registry.is_member(sender.node_id):
            await _refuse(context, "only members may ask for a change of the cluster")
        return await (await self._handler(request.group, context)).change_cluster(request)

    async def FetchState(  # noqa: N802
        self, request: pb.FetchStateRequest, context: Context
    ) -> AsyncIterator[pb.SnapshotChunk]:
        """Send a member a copy of the state, if this node leads."""
        registry, sender = await self._admit(context)
        if not registry.is_member(sender.node_id):
            await _refuse(context, "only members may have a copy of the state")
        try:
            handler = await self._handler(request.group, context)
            async with aclosing(handler.fetch_state(request, sender.node_id)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except StateUnavailableError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))

    async def Rebuild(self, request: pb.RebuildRequest, context: Context) -> pb.RebuildReply:  # noqa: N802
        """Replace this node's state for an administrator, whose rights the calling member has checked."""
        registry, sender = await self._admit(context)
        if not registry.is_member(sender.node_id):
            await _refuse(context, "only members may have this node's state replaced")
        return await (await self._handler(request.group, context)).rebuild(request)

    async def _handler(self, group: int, context: Context) -> PeerRequestHandler:
        handler = self._handlers.get(group)
        if handler is None:
            await _refuse(context, f"this node hosts no Raft group {group}. Nothing was done.")
        return handler

    async def _admit(self, context: Context) -> tuple[PeerRegistry, PeerInfo]:
        metadata = dict(context.invocation_metadata() or ())
        registry = self._registry
        if registry is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "this node has not joined its cluster yet")
        if metadata.get(METADATA_CLUSTER) != self._cluster_id:
            await _refuse(context, f"this node belongs to cluster {self._cluster_id}, the caller to another")
        if metadata.get(METADATA_TO) != str(self._node_id):
            await _refuse(
                context, "the call is for another incarnation of this node, whose data directory was replaced"
            )
        caller = _caller(metadata)
        if caller is None:
            await _refuse(context, "the caller sends no identity. A node of this release sends one.")
        if registry.is_removed(caller.node_id):
            await _refuse_removed(context, caller.name)
        known = registry.member(caller.node_id)
        if known is None and registry.is_full:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "too many nodes call that are no members here. Try again later."
            )
        await self._check_certificate(caller.name if known is None else known.name, context)
        return registry, known or caller

    async def _check_certificate(self, name: str, context: Context) -> None:
        if self._peer_name_of is None:
            return
        certified = self._peer_name_of(context.auth_context())
        if certified != name:
            self._logger.warning("peer_certificate_refused", claims=name, certified=certified)
            await context.abort(
                grpc.StatusCode.PERMISSION_DENIED,
                f"the caller is {name!r}, but its certificate is for {certified!r}. Issue one with parleyd cert.",
            )

    async def _decode(
        self, encoded: pb.RaftMessage, registry: PeerRegistry, sender: PeerInfo, context: Context
    ) -> Message:
        if registry.is_removed(sender.node_id):
            await _refuse_removed(context, sender.name)
        try:
            message = decode_message(encoded)
        except PeerProtocolError as error:
            self._logger.error("peer_dropped", peer=sender.name, error=str(error))
            await _refuse(context, str(error))
        if message.to != self._node_id or message.sender != sender.node_id:
            await _refuse(context, "the message is for another node or not from the caller")
        return message


def _caller(metadata: Mapping[str, str | bytes]) -> PeerInfo | None:
    """Return the caller's own record; None if it sends none or contradicts itself."""
    record, claimed = metadata.get(METADATA_SELF), metadata.get(METADATA_FROM)
    if not isinstance(record, bytes):
        return None
    try:
        caller = decode_peer_info(pb.PeerInfo.FromString(record))
    except DecodeError:
        return None
    return caller if caller.node_id and caller.name and claimed == str(caller.node_id) else None


async def _data(chunks: AsyncIterator[pb.SnapshotChunk]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk.data


async def _refuse(context: Context, why: str) -> NoReturn:
    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, why)


async def _refuse_removed(context: Context, name: str) -> NoReturn:
    context.set_trailing_metadata(((METADATA_REMOVED, "1"),))
    await _refuse(
        context,
        f"{name} was removed from this cluster, with the data directory it has now. It is not admitted again. To bring "
        "the machine back, move its data directory away and start the node with --join",
    )
