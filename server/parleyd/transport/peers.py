"""Links to the other nodes: one link per peer, each with its own channel, queue and reconnection.

A link has three streams on one HTTP/2 connection: Raft messages in one direction (`Deliver`), commands for a leader
with their results (`Forward`), and snapshots (`InstallSnapshot`). The peer opens its own link in the other direction.

Bounds: the queue of Raft messages holds at most `MAX_QUEUED_MESSAGES` or `MAX_QUEUED_BYTES`. More messages are dropped
and reported to the core, which sends again what is missing. A broken link is opened again after a random 100 to 500 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import grpc
import grpc.aio
import structlog

from parley_proto.v1 import admin_pb2, state_pb2
from parley_proto.v1 import peer_pb2 as pb
from parley_proto.v1.peer_pb2_grpc import PeerStub
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.types import NodeId
from parleyd.transport.bootstrap import HANDSHAKE_TIMEOUT_S
from parleyd.transport.call_end import writing_to
from parleyd.transport.channels import ChannelFactory
from parleyd.transport.codec import encode_message
from parleyd.transport.forwards import Forwards
from parleyd.transport.peer_calls import (
    LINK_FAULTS,
    CallMetadata,
    ForwardFailedError,
    call_faults,
    causes_of,
    one_line,
    run_to_its_end,
    was_refused_as_removed,
)
from parleyd.transport.snapshot_lane import SnapshotLane

if TYPE_CHECKING:
    from parley_proto.v1.peer_pb2_grpc import PeerAsyncStub

MAX_QUEUED_MESSAGES = 4096
MAX_QUEUED_BYTES = 64 * 1024 * 1024
MAX_BATCH_BYTES = 2 * 1024 * 1024
MAX_QUEUED_HASHES = 256
RECONNECT_MS = (100, 500)
NOTICE_DELAY_S = 0.002
"""A commit index alone waits this long for the next message to the same node, which then brings it along."""
_SAY_NO_TIME = frozenset({MessageType.APPEND, MessageType.APPEND_RESPONSE})
"""Messages at the rate of the load. The clock goes with all others: heartbeats and votes come often enough."""


class PeerEvents(Protocol):
    """What a link reports."""

    def peer_connected(self, node: NodeId) -> None:
        """Report that a connection was established."""

    def peer_lost(self, node: NodeId) -> None:
        """Report that an established connection broke."""

    def peer_unreachable(self, node: NodeId, group: int) -> None:
        """Report that messages of `group` to `node` were dropped."""

    def snapshot_sent(self, node: NodeId, group: int, *, ok: bool) -> None:
        """Report that a snapshot transfer of `group` ended."""

    def removed_from_cluster(self, by: str) -> None:
        """Report that the peer named `by` refuses this node because it was removed from the cluster."""


class SnapshotSource(Protocol):
    """Source of the snapshots to be sent."""

    def chunks(self, message: Message, group: int) -> AsyncIterator[pb.SnapshotChunk]:
        """Return the header and the data of the snapshot that `message` announces;

        raises if it does not exist any more.
        """


class PresenceSource(Protocol):
    """Source of the reports about this node's clients. A link asks for one when it can write it, so none waits."""

    def link_began(self, node: NodeId) -> None:
        """Report that a connection was established. What was sent before may be lost."""

    def next_report(self, node: NodeId) -> pb.PresenceReport | None:
        """Return what `node` has to know next; None if it may know nothing."""


@dataclass(frozen=True, slots=True)
class LinkSetup:
    """What all links of a node have in common. `on_change` is called when a link comes up or breaks."""

    call_metadata: CallMetadata
    make_channel: ChannelFactory
    events: PeerEvents
    snapshots: SnapshotSource
    on_change: Callable[[], None]
    presence: PresenceSource | None = None
    loop_lag_ms: Callable[[], int] = lambda: 0  # how late this node's event loop is


class PeerLink:
    """The link to one peer, for all Raft groups of this node."""

    def __init__(self, node: NodeId, name: str, addresses: Sequence[str], setup: LinkSetup) -> None:
        """Prepare the link; `addresses` are tried in turn until the peer with this id answers at one."""
        self.node = node
        self.name = name
        self._addresses = deque(addresses)
        self._call_metadata = setup.call_metadata
        self._setup = setup
        self._queue: deque[tuple[Message, int]] = deque()
        self._queued_bytes = 0
        self._queue_filled = asyncio.Event()
        self._notice_timer: asyncio.Handle | None = None
        self._hashes: deque[pb.StateHash] = deque(maxlen=MAX_QUEUED_HASHES)
        self._disk: pb.DiskReport | None = None
        self._presence_due = False
        self.snapshots = SnapshotLane(node, name, setup)
        self._forwards = Forwards()
        self.on_can_forward: Callable[[], None] = lambda: None
        self._stub: PeerAsyncStub | None = None
        self.connected = False
        self._logger = structlog.get_logger("peer").bind(peer=name)

    def send(self, message: Message, group: int) -> None:
        """Queue one Raft message of `group`; drop it if the link is down or its queue full."""
        if message.type is MessageType.SNAPSHOT:
            if self.connected:
                self.snapshots.request(message, group)
            else:
                self._setup.events.snapshot_sent(self.node, group, ok=False)
            return
        size = _approximate_bytes(message)
        full = len(self._queue) >= MAX_QUEUED_MESSAGES or self._queued_bytes + size > MAX_QUEUED_BYTES
        if not self.connected or full:
            if message.type is MessageType.APPEND:
                self._setup.events.peer_unreachable(self.node, group)
            return
        if message.type is MessageType.APPEND:
            self._drop_notice_before(message, group)
        self._queue.append((message, group))
        self._queued_bytes += size
        if message.is_notice:
            self._fill_later()
        else:
            self._queue_filled.set()

    def _drop_notice_before(self, message: Message, group: int) -> None:
        """Remove a commit index that waits, because `message` brings it or a higher one."""
        if not self._queue:
            return
        last, its_group = self._queue[-1]
        if last.is_notice and its_group == group and last.term == message.term:
            self._queue.pop()
            self._queued_bytes -= _approximate_bytes(last)

    def _fill_later(self) -> None:
        if self._notice_timer is None:
            self._notice_timer = asyncio.get_running_loop().call_later(NOTICE_DELAY_S, self._notice_is_due)

    def _notice_is_due(self) -> None:
        self._notice_timer = None
        if self._queue:
            self._queue_filled.set()

    def send_hashes(self, hashes: Iterable[pb.StateHash]) -> None:
        """Queue this node's state hashes; drop the oldest of too many, and all if the link is down."""
        if self.connected:
            self._hashes.extend(hashes)
            self._queue_filled.set()

    def send_disk(self, report: pb.DiskReport) -> None:
        """Queue this node's report about its disk; a newer one replaces it."""
        if self.connected:
            self._disk = report
            self._queue_filled.set()

    def send_presence(self) -> None:
        """Send a report about this node's clients with the next batch."""
        if self.connected:
            self._presence_due = True
            self._queue_filled.set()

    def forward(self, commands: Sequence[state_pb2.Command], group: int) -> asyncio.Future[pb.ForwardReply]:
        """Send commands to this peer, the presumed leader; fails with ForwardFailedError if the link breaks."""
        reply: asyncio.Future[pb.ForwardReply] = asyncio.get_running_loop().create_future()
        if not self.connected:
            reply.set_exception(ForwardFailedError(f"no connection to {self.name}", sent=False))
        elif not self._forwards.add(commands, group, reply):
            reply.set_exception(ForwardFailedError(f"too many requests are on their way to {self.name}", sent=False))
        return reply

    def _connected_stub(self) -> PeerAsyncStub:
        if self._stub is None or not self.connected:
            raise ForwardFailedError(f"no connection to {self.name}", sent=False)
        return self._stub

    def _metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self._call_metadata.of_request_to(self.node)

    async def change(self, change: pb.ClusterChange, timeout_s: float) -> pb.ClusterChangeReply:
        """Request a change of the cluster from this peer, the presumed leader; raises ForwardFailedError."""
        with call_faults():
            return await self._connected_stub().ChangeCluster(change, metadata=self._metadata(), timeout=timeout_s)

    async def announce(self, record: pb.PeerInfo, timeout_s: float) -> None:
        """Send this node's record to this peer; raises ForwardFailedError."""
        with call_faults():
            await self._connected_stub().AnnounceMember(record, metadata=self._metadata(), timeout=timeout_s)

    async def rebuild(self, request: pb.RebuildRequest, timeout_s: float) -> pb.RebuildReply:
        """Make this peer replace its state by the leader's; raises ForwardFailedError."""
        with call_faults():
            return await self._connected_stub().Rebuild(request, metadata=self._metadata(), timeout=timeout_s)

    async def count_log_in(self, attempt: pb.LogInAttempt, timeout_s: float) -> pb.LogInVerdict:
        """Have this peer, the presumed leader, count a log-in; raises ForwardFailedError."""
        with call_faults():
            return await self._connected_stub().CountLogIn(attempt, metadata=self._metadata(), timeout=timeout_s)

    async def list_holders(self, request: pb.ListHoldersRequest, timeout_s: float) -> pb.ListHoldersReply:
        """Ask this peer, the presumed leader, which members have an entry on disk; raises ForwardFailedError."""
        with call_faults():
            return await self._connected_stub().ListHolders(request, metadata=self._metadata(), timeout=timeout_s)

    async def report_status(self, request: pb.ReportStatusRequest, timeout_s: float) -> admin_pb2.GetStatusResponse:
        """Ask this peer for its status; raises ForwardFailedError."""
        with call_faults():
            return await self._connected_stub().ReportStatus(request, metadata=self._metadata(), timeout=timeout_s)

    async def fetch_state(self, request: pb.FetchStateRequest) -> AsyncGenerator[pb.SnapshotChunk]:
        """Stream a copy of the state of this peer, the presumed leader; raises ForwardFailedError."""
        call = self._connected_stub().FetchState(request, metadata=self._metadata())
        try:
            with call_faults():
                async for chunk in call:
                    yield chunk
        finally:
            call.cancel()

    def abandon(self) -> None:
        """Fail all requests that wait for this link. The caller must also cancel `run`."""
        self._disconnected("the node is no member any more, has another address, or its key or certificate is revoked")

    async def run(self) -> None:
        """Keep the link up until cancelled. An error ends the conversation but not the link."""
        while True:
            channel = self._setup.make_channel(self.name, self._addresses[0])
            # The conversation has its own task: grpc may end a call with a CancelledError or InvalidStateError. Neither
            # of these may end this link.
            conversation = asyncio.create_task(self._converse(channel), name=f"conversation with {self.name}")
            try:
                await asyncio.wait([conversation])
                if not self.connected:
                    self._addresses.rotate(-1)
                self._conversation_ended(conversation)
            finally:
                conversation.cancel()
                await asyncio.gather(conversation, return_exceptions=True)
                self._stub = None
                with contextlib.suppress(Exception):
                    await channel.close(grace=None)
            await asyncio.sleep(random.uniform(*RECONNECT_MS) / 1000)  # noqa: S311 - jitter, no secret

    def _conversation_ended(self, conversation: asyncio.Task[None]) -> None:
        """Record a broken connection; raises any other error."""
        error = asyncio.CancelledError() if conversation.cancelled() else conversation.exception()
        if error is None:
            return
        if not all(isinstance(cause, LINK_FAULTS) for cause in causes_of(error)):
            raise error
        self._disconnected(one_line(causes_of(error)[0]))
        if any(isinstance(cause, grpc.aio.AioRpcError) and was_refused_as_removed(cause) for cause in causes_of(error)):
            self._setup.events.removed_from_cluster(self.name)

    async def _converse(self, channel: grpc.aio.Channel) -> None:
        stub = PeerStub(channel)
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            info = await stub.Handshake(self._call_metadata.info, wait_for_ready=False)
        self._check_handshake(info)
        self._stub = stub
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(run_to_its_end(self._deliver(stub)), name=f"deliver to {self.name}")
            tasks.create_task(run_to_its_end(self._forward(stub)), name=f"forward to {self.name}")
            tasks.create_task(run_to_its_end(self.snapshots.run(stub)), name=f"snapshots to {self.name}")

    def _check_handshake(self, info: pb.HandshakeInfo) -> None:
        """Check that the peer is the expected member: same cluster, same incarnation."""
        if info.self.node_id == self.node and not info.cluster_id:
            raise ConnectionError("the node has not joined yet")
        if info.cluster_id != self._call_metadata.cluster_id or info.self.node_id != self.node:
            self._logger.error(
                "peer_identity_mismatched",
                effect="this node sends nothing to the node at this address",
                advice="if its data directory was replaced, remove the old member and add the new one",
                address=self._addresses[0],
                expected_cluster=self._call_metadata.cluster_id,
                actual_cluster=info.cluster_id or "none yet",
                actual_name=info.self.name,
            )
            raise ConnectionError("identity mismatch")

    async def _deliver(self, stub: PeerAsyncStub) -> None:
        call = stub.Deliver(metadata=self._call_metadata.to(self.node))
        async with writing_to(call) as write, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch(call), name="watch")
            self._connected()
            while True:
                await self._queue_filled.wait()
                await write(self._next_batch())

    async def _watch(self, call: grpc.aio.StreamUnaryCall[pb.RaftBatch, pb.DeliverSummary]) -> None:
        """Raise when the call ends: the peer never ends it, so the connection or the peer is gone."""
        await call
        raise ConnectionError("the peer ended the stream")

    def _next_batch(self) -> pb.RaftBatch:
        batch = pb.RaftBatch()
        size = 0
        while self._queue and size < MAX_BATCH_BYTES:
            message, group = self._queue.popleft()
            if message.type not in _SAY_NO_TIME:
                batch.wall_ms = time.time_ns() // 1_000_000
            bytes_ = _approximate_bytes(message)
            size += bytes_
            self._queued_bytes -= bytes_
            batch.messages.append(encode_message(message, group))
        if batch.wall_ms:
            batch.loop_lag_ms = self._setup.loop_lag_ms()
        batch.state_hashes.extend(self._hashes)
        self._hashes.clear()
        if self._disk is not None:
            batch.disk.CopyFrom(self._disk)
            self._disk = None
        if self._presence_due and self._setup.presence is not None:
            # None leaves the field unset.
            batch.MergeFrom(pb.RaftBatch(presence=self._setup.presence.next_report(self.node)))
        self._presence_due = False
        if not self._queue:
            self._queue_filled.clear()
        return batch

    async def _forward(self, stub: PeerAsyncStub) -> None:
        call = stub.Forward(metadata=self._call_metadata.to(self.node))
        async with writing_to(call) as write, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read_replies(call), name="replies")
            while True:
                await self._forwards.filled.wait()
                await write(self._forwards.next_batch())

    async def _read_replies(self, call: grpc.aio.StreamStreamCall[pb.ForwardBatch, pb.ForwardReplyBatch]) -> None:
        async for batch in call:
            for reply in batch.replies:
                self._forwards.answered(reply)
            if self._forwards.take_room():
                self.on_can_forward()
        raise ConnectionError("the peer ended the stream")

    def _connected(self) -> None:
        self.connected = True
        self._logger.info("peer_connected", address=self._addresses[0])
        self._setup.events.peer_connected(self.node)
        if self._setup.presence is not None:
            self._setup.presence.link_began(self.node)
        self.on_can_forward()
        self._setup.on_change()

    def _disconnected(self, reason: str) -> None:
        was_connected, self.connected = self.connected, False
        self._queue.clear()
        self._queued_bytes = 0
        self._queue_filled.clear()
        self.snapshots.clear()
        self._hashes.clear()
        self._forwards.fail_all(ForwardFailedError(f"the connection to {self.name} broke: {reason}", sent=True))
        if was_connected:
            self._logger.warning("peer_disconnected", reason=reason)
            self._setup.events.peer_lost(self.node)
            self._setup.on_change()


def _approximate_bytes(message: Message) -> int:
    return 64 + sum(len(entry.data) + 24 for entry in message.entries)
