"""All links of a node, by the receiver's id, and the part of them that one Raft group uses.

Links are added and removed while the node runs. `PeerLinks.run` owns their tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable, Sequence

from parley_proto.v1 import admin_pb2, state_pb2
from parley_proto.v1 import peer_pb2 as pb
from parleyd.raft.messages import Message
from parleyd.raft.types import NodeId
from parleyd.transport.peer_calls import ForwardFailedError
from parleyd.transport.peers import PeerLink

ANNOUNCE_TIMEOUT_S = 3.0


class GroupLinks:
    """The links of a node, as one of its Raft groups uses them."""

    def __init__(self, links: PeerLinks, group: int) -> None:
        self._links = links
        self._group = group

    def send(self, messages: Sequence[Message]) -> None:
        """Queue each message for its receiver, or drop it."""
        self._links.send(messages, self._group)

    def forward(self, node: NodeId, commands: Sequence[state_pb2.Command]) -> asyncio.Future[pb.ForwardReply] | None:
        """Forward commands to `node`, the presumed leader; None if it is no peer."""
        return self._links.forward(node, commands, self._group)

    def next_change(self) -> asyncio.Future[None]:
        """Return a future of the next time that a link can take commands; it is shared, never cancel it."""
        return self._links.next_change()

    async def change(self, node: NodeId, change: pb.ClusterChange, timeout_s: float) -> pb.ClusterChangeReply:
        """Request a change of the group from `node`, the presumed leader; raises ForwardFailedError."""
        request = pb.ClusterChange(group=self._group)
        request.MergeFrom(change)
        return await self._links.change(node, request, timeout_s)


class PeerLinks:
    """All links of a node, by the receiver's id. Links are added and removed while it runs."""

    def __init__(self) -> None:
        self._links: dict[NodeId, PeerLink] = {}
        self._running: dict[NodeId, asyncio.Task[None]] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._change: asyncio.Future[None] | None = None

    def next_change(self) -> asyncio.Future[None]:
        """Return a future of the next time that a link can take commands; it is shared, never cancel it."""
        if self._change is None:
            self._change = asyncio.get_running_loop().create_future()
        return self._change

    def _link_can_forward(self) -> None:
        changed, self._change = self._change, None
        if changed is not None:
            changed.set_result(None)

    def send(self, messages: Sequence[Message], group: int) -> None:
        """Queue each message of `group` on its receiver's link; drop a message to a node without a link."""
        for message in messages:
            link = self._links.get(message.to)
            if link is not None:
                link.send(message, group)

    def put(self, link: PeerLink) -> None:
        """Add a link; it replaces an older one to the same peer."""
        self.drop(link.node)
        self._links[link.node] = link
        link.on_can_forward = self._link_can_forward
        self._link_can_forward()  # callers may have waited for a link to this node
        if self._tasks is not None:
            self._start(self._tasks, link)

    def drop(self, node: NodeId) -> None:
        """End the link to `node`, if there is one."""
        link, task = self._links.pop(node, None), self._running.pop(node, None)
        if task is not None:
            task.cancel()
        if link is not None:
            link.abandon()

    def forward(
        self, node: NodeId, commands: Sequence[state_pb2.Command], group: int
    ) -> asyncio.Future[pb.ForwardReply] | None:
        """Forward commands to `node`, the presumed leader of `group`; None if it is no peer."""
        link = self._links.get(node)
        return None if link is None else link.forward(commands, group)

    async def change(self, node: NodeId, change: pb.ClusterChange, timeout_s: float) -> pb.ClusterChangeReply:
        """Request a change of the cluster from `node`, the presumed leader; raises ForwardFailedError."""
        link = self._links.get(node)
        if link is None:
            raise ForwardFailedError("the leader is not known here yet", sent=False)
        return await link.change(change, timeout_s)

    def send_hashes(self, hashes: Iterable[pb.StateHash], to: NodeId | None = None) -> None:
        """Queue this node's state hashes for one peer, or for all."""
        reports = tuple(hashes)
        for node, link in self._links.items():
            if to is None or node == to:
                link.send_hashes(reports)

    def send_disk(self, report: pb.DiskReport) -> None:
        """Queue this node's report about its disk for all peers."""
        for link in self._links.values():
            link.send_disk(report)

    def send_presence(self) -> None:
        """Send all peers a report about this node's clients."""
        for link in self._links.values():
            link.send_presence()

    async def announce(self, record: pb.PeerInfo) -> None:
        """Send this node's record to every peer that is connected; returns within a bounded time, never raises."""

        async def tell(link: PeerLink) -> None:
            with contextlib.suppress(ForwardFailedError):  # it is announced again until the cluster has it
                await link.announce(record, ANNOUNCE_TIMEOUT_S)

        await asyncio.gather(*(tell(link) for link in tuple(self._links.values()) if link.connected))

    async def rebuild(self, node: NodeId, request: pb.RebuildRequest, timeout_s: float) -> pb.RebuildReply:
        """Make `node` replace its state by the leader's; raises ForwardFailedError."""
        return await self._known(node).rebuild(request, timeout_s)

    async def count_log_in(self, node: NodeId, attempt: pb.LogInAttempt, timeout_s: float) -> pb.LogInVerdict:
        """Have `node`, the presumed leader, count a log-in; raises ForwardFailedError."""
        return await self._known(node).count_log_in(attempt, timeout_s)

    async def list_holders(self, node: NodeId, request: pb.ListHoldersRequest, timeout_s: float) -> pb.ListHoldersReply:
        """Ask `node`, the presumed leader, which members have an entry on disk; raises ForwardFailedError."""
        return await self._known(node).list_holders(request, timeout_s)

    async def report_status(
        self, node: NodeId, request: pb.ReportStatusRequest, timeout_s: float
    ) -> admin_pb2.GetStatusResponse:
        """Ask `node` for its status; raises ForwardFailedError."""
        return await self._known(node).report_status(request, timeout_s)

    def fetch_state(self, node: NodeId, request: pb.FetchStateRequest) -> AsyncGenerator[pb.SnapshotChunk]:
        """Stream a copy of the state of `node`, the presumed leader; raises ForwardFailedError."""
        return self._known(node).fetch_state(request)

    def _known(self, node: NodeId) -> PeerLink:
        link = self._links.get(node)
        if link is None:
            raise ForwardFailedError("the node is not known here yet", sent=False)
        return link

    def connected(self, node: NodeId) -> bool:
        """Return whether this node's own link to `node` is up."""
        link = self._links.get(node)
        return link is not None and link.connected

    def snapshot_problems(self) -> str:
        """Return which peers do not install the snapshots that they are sent, and why; empty if there are none."""
        problems = [(link.name, link.snapshots.problem) for link in self._links.values() if link.snapshots.problem]
        return "; ".join(f"{name} does not install its snapshot: {problem}" for name, problem in problems)

    async def run(self) -> None:
        """Keep all links up until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                for link in self._links.values():
                    self._start(tasks, link)
                await asyncio.get_running_loop().create_future()  # links may be added as long as the node runs
        finally:
            self._tasks = None

    def _start(self, tasks: asyncio.TaskGroup, link: PeerLink) -> None:
        self._running[link.node] = tasks.create_task(link.run(), name=f"link to {link.name}")
