"""What this node answers to its peers: identity first, then Raft messages, snapshots and forwarded commands.

Every call says which cluster it belongs to, who calls and whom it means; anything else than this cluster, this very
incarnation and the node named in the caller's certificate is refused before a byte of it is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, NoReturn, Protocol

import grpc
import grpc.aio
import structlog

from proto.parley.v1 import peer_pb2 as pb
from proto.parley.v1.peer_pb2_grpc import PeerServicer
from server.raft.invariant import PeerProtocolError
from server.raft.messages import Message, MessageType
from server.raft.types import NodeId
from server.transport.codec import decode_message
from server.transport.peers import METADATA_CLUSTER, METADATA_FROM, METADATA_TO

Context = grpc.aio.ServicerContext[Any, Any]
PeerNameOf = Callable[[Mapping[str, Iterable[bytes]]], str | None]


class PeerHandler(Protocol):
    """What a running node does with what its peers say."""

    def receive(self, message: Message) -> None:
        """Take one Raft message."""

    def forwarded(self, request: pb.ForwardRequest) -> asyncio.Future[pb.ForwardReply]:
        """Propose a follower's commands, in the order of the calls; never fails, says what happened in the reply."""

    async def receive_snapshot(self, header: pb.SnapshotHeader, message: Message, data: AsyncIterator[bytes]) -> bool:
        """Store and install a snapshot; False if it was not wanted. Raises PeerProtocolError for damaged data."""


class PeerService(PeerServicer):
    """The peer port; until the node runs (`start_serving`) it answers only Greet, by which clusters are founded."""

    def __init__(self, greeting: Callable[[], pb.Greeting], peer_name_of: PeerNameOf | None) -> None:
        """`peer_name_of` reads the node name from the caller's authentication context; None where peers use no TLS."""
        self._greeting = greeting
        self._peer_name_of = peer_name_of
        self._handler: PeerHandler | None = None
        self._names: Mapping[NodeId, str] = {}
        self._cluster_id = ""
        self._node_id = NodeId(0)
        self._logger = structlog.get_logger("peer")

    def start_serving(
        self, handler: PeerHandler, cluster_id: str, node_id: NodeId, names: Mapping[NodeId, str]
    ) -> None:
        """Take Raft messages from the members in `names` from now on."""
        self._cluster_id = cluster_id
        self._node_id = node_id
        self._names = names
        self._handler = handler

    async def Greet(  # noqa: N802 - the name is gRPC's
        self, request: pb.Greeting, context: Context
    ) -> pb.Greeting:
        """Say who this node is; nothing is changed."""
        await self._check_certificate(request.self.name, context)
        return self._greeting()

    async def Deliver(  # noqa: N802
        self,
        request_iterator: AsyncIterator[pb.RaftBatch],
        context: Context,
    ) -> pb.DeliverSummary:
        """Take Raft messages until the peer goes away."""
        handler, sender = await self._admit(context)
        async for batch in request_iterator:
            for encoded in batch.messages:
                message = await self._decode(encoded, sender, context)
                if message.type is MessageType.SNAPSHOT:
                    await _refuse(context, "a snapshot comes with its data, through InstallSnapshot")
                handler.receive(message)
        return pb.DeliverSummary()

    async def InstallSnapshot(  # noqa: N802
        self,
        request_iterator: AsyncIterator[pb.SnapshotChunk],
        context: Context,
    ) -> pb.SnapshotReceipt:
        """Take a snapshot; answered when it is durable here or was not wanted."""
        handler, sender = await self._admit(context)
        first = await anext(aiter(request_iterator), None)
        if first is None or not first.HasField("header"):
            await _refuse(context, "a snapshot begins with its header")
        message = await self._decode(first.header.message, sender, context)
        if message.type is not MessageType.SNAPSHOT or message.snapshot is None:
            await _refuse(context, "the header carries no snapshot message")
        try:
            installed = await handler.receive_snapshot(first.header, message, _data(request_iterator))
        except PeerProtocolError as error:
            await context.abort(grpc.StatusCode.DATA_LOSS, f"{error}; nothing was installed, send it again")
        return pb.SnapshotReceipt(installed=installed)

    async def Forward(  # noqa: N802
        self,
        request_iterator: AsyncIterator[pb.ForwardRequest],
        context: Context,
    ) -> AsyncIterator[pb.ForwardReply]:
        """Propose what a follower passes on, in its order; reply as each is done."""
        handler, _ = await self._admit(context)
        replies: asyncio.Queue[pb.ForwardReply | None] = asyncio.Queue()

        async def read() -> None:
            async for request in request_iterator:
                handler.forwarded(request).add_done_callback(lambda done: replies.put_nowait(done.result()))
            replies.put_nowait(None)

        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(read(), name="forwarded commands")
            try:
                while (reply := await replies.get()) is not None:
                    yield reply
            finally:
                reading.cancel()

    async def _admit(self, context: Context) -> tuple[PeerHandler, NodeId]:
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        if self._handler is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "this node has not joined its cluster yet")
        if metadata.get(METADATA_CLUSTER) != self._cluster_id:
            await _refuse(context, f"this node belongs to cluster {self._cluster_id}, the caller to another")
        if metadata.get(METADATA_TO) != str(self._node_id):
            await _refuse(context, "the caller means another incarnation of this node; its data directory was replaced")
        claimed = metadata.get(METADATA_FROM, "")
        sender = NodeId(int(claimed) if claimed.isdecimal() else 0)
        name = self._names.get(sender)
        if name is None:
            await _refuse(context, "the caller is not a member; a wiped or replaced data directory must be added anew")
        await self._check_certificate(name, context)
        return self._handler, sender

    async def _check_certificate(self, name: str, context: Context) -> None:
        if self._peer_name_of is None:
            return
        certified = self._peer_name_of(context.auth_context())
        if certified != name:
            self._logger.warning("peer refused: certificate is for another node", claims=name, certified=certified)
            await context.abort(
                grpc.StatusCode.PERMISSION_DENIED,
                f"the caller says it is {name!r}, its certificate says {certified!r}; issue it one with parleyd cert",
            )

    async def _decode(self, encoded: pb.RaftMessage, sender: NodeId, context: Context) -> Message:
        try:
            message = decode_message(encoded)
        except PeerProtocolError as error:
            self._logger.error("peer dropped: it broke the protocol", peer=self._names.get(sender), error=str(error))
            await _refuse(context, str(error))
        if message.to != self._node_id or message.sender not in self._names:
            await _refuse(context, "the message is for another node or from a stranger")
        return message


async def _data(chunks: AsyncIterator[pb.SnapshotChunk]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk.data


async def _refuse(context: Context, why: str) -> NoReturn:
    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, why)
