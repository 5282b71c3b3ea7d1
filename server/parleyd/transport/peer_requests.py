"""What the peer port asks of a running node, once it knows who calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Protocol

from parley_proto.v1 import admin_pb2
from parley_proto.v1 import peer_pb2 as pb
from parleyd.raft.messages import Message
from parleyd.raft.types import NodeId
from parleyd.storage.identity import PeerInfo


class PeerRequestHandler(Protocol):
    """What a running node does with the calls of its peers."""

    @property
    def current_term(self) -> int:
        """Return the term of this node, which bounds the terms that it takes."""

    def receive(self, message: Message) -> None:
        """Take one Raft message."""

    def state_hash(self, node: NodeId, report: pb.StateHash) -> None:
        """Take a member's report about its own state."""

    def clock_reported(self, node: NodeId, wall_ms: int) -> None:
        """Take what a member's wall clock shows."""

    def lag_reported(self, node: NodeId, lag_ms: int) -> None:
        """Take how late a member's event loop is."""

    def disk_reported(self, node: NodeId, report: pb.DiskReport) -> None:
        """Take a member's report about its own disk."""

    def presence_reported(self, node: NodeId, report: pb.PresenceReport) -> None:
        """Take a member's report about its clients."""

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

    def list_holders(self, request: pb.ListHoldersRequest) -> pb.ListHoldersReply:
        """Return which members have an entry on disk, if this node leads."""

    async def report_status(self) -> admin_pb2.GetStatusResponse:
        """Return this node's status."""

    async def announced(self, record: PeerInfo) -> bool:
        """Publish a member's record for it, if the cluster has another one; False if no leader took it."""

    async def join(self, request: pb.JoinRequest) -> pb.JoinReply:
        """Make the caller a learner, or a voter once it has caught up; raises JoinRefusedError, JoinPendingError or
        TimeoutError."""
