"""Which members have an entry of the log on disk, as the leader knows from their match indices.

A member's match index grows after its fsync, also the leader's own. A leader that was replaced may take it for true of
entries that the cluster never committed. So a leader answers only for entries that it knows to be committed. Those stay
where they are, so even a leader that was replaced names no member too many.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from parley_proto.v1 import peer_pb2 as pb
from parleyd.machine.limits import GROUP
from parleyd.raft.status import RaftStatus
from parleyd.raft.types import NO_NODE, NodeId, Role
from parleyd.transport.peer_calls import ForwardFailedError

ASK_TIMEOUT_S = 1.0

Ask = Callable[[NodeId, pb.ListHoldersRequest, float], Awaitable[pb.ListHoldersReply]]


class EntryHolders:
    """The holders of entries as one node finds them out, for its clients and for its peers."""

    def __init__(self, node_id: NodeId, status: Callable[[], RaftStatus], ask: Ask) -> None:
        """`ask` sends a question to another node; it raises ForwardFailedError."""
        self._node_id = node_id
        self._status = status
        self._ask = ask

    async def of(self, index: int) -> frozenset[int] | None:
        """Return the node ids of the members that have this entry on disk, or None if no leader can say it."""
        request = pb.ListHoldersRequest(group=GROUP, index=index)
        leader = self._status().leader
        if leader == NO_NODE:
            return None
        if leader == self._node_id:
            reply = self.answer(request)
        else:
            try:
                reply = await self._ask(leader, request, ASK_TIMEOUT_S)
            except ForwardFailedError:
                return None
        return frozenset(reply.node_ids) if reply.known else None

    def answer(self, request: pb.ListHoldersRequest) -> pb.ListHoldersReply:
        """Answer another member, or this node itself, if this node leads."""
        status = self._status()
        if status.role is not Role.LEADER or not 0 < request.index <= status.commit_index:
            return pb.ListHoldersReply()
        holders = [node for node, known in status.progress.items() if known.match_index >= request.index]
        return pb.ListHoldersReply(known=True, node_ids=holders)
