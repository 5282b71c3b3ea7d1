"""Forwards changes of the cluster from any node to the leader.

A change that was certainly not proposed is tried again until the deadline. One that may have been proposed is not,
because the members may have changed by then. The answer contains that.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from parley_proto.v1 import peer_pb2 as pb
from parleyd.group.command_router import LEADER_WAIT_S
from parleyd.group.runner import GroupRunner
from parleyd.membership.changes import CHANGE_TIMEOUT_S, UNKNOWN_TEXT, MembershipChangeExecutor
from parleyd.raft.types import NO_NODE, NodeId
from parleyd.retry import ask_until_answered, wait_at_most
from parleyd.transport.peer_calls import ForwardFailedError

LEADER_RETRY_INTERVAL_S = 0.05
NO_LEADER_TEXT = (
    "No leader accepted the change in time. Nothing was changed. It needs a majority of the voters: look at "
    "parley cluster status and try again."
)
REMOVED_TEXT = "This node was removed from the cluster, so it passes no changes on. Nothing was proposed. Ask a member."


UNCONFIRMED_TEXT = (
    "The change was made, but no leader confirmed in time that a majority has it. Look at parley cluster status and "
    "repeat the command. Repeating it is safe."
)


@dataclass
class _Tried:
    """What earlier attempts of one change have done, and when a leader was last known."""

    leader_known_at: float
    is_applied: bool = False


class ChangeForwarder(Protocol):
    """Forwards a change to the leader."""

    async def change(self, node: NodeId, change: pb.ClusterChange, timeout_s: float) -> pb.ClusterChangeReply:
        """Request the change from `node`; raises ForwardFailedError."""


class MembershipChangeRouter:
    """Makes changes from any node."""

    def __init__(self, replica: GroupRunner, changes: MembershipChangeExecutor, forwarder: ChangeForwarder) -> None:
        self._replica = replica
        self._changes = changes
        self._forwarder = forwarder

    async def submit(self, change: pb.ClusterChange, *, timeout_s: float) -> pb.ClusterChangeReply:
        """Make `change`; never raises.

        NOT_LEADER: no leader accepted it within `timeout_s`, or none was known for LEADER_WAIT_S.
        """
        clock = asyncio.get_running_loop().time
        tried = _Tried(clock())
        deadline = clock() + timeout_s

        async def pause() -> None:
            # Only between two attempts: an attempt in progress may have been proposed.
            if self._replica.role.leader != NO_NODE:
                tried.leader_known_at = clock()
            if clock() > min(deadline, tried.leader_known_at + LEADER_WAIT_S):
                raise TimeoutError
            await wait_at_most(self._replica.role_change(), LEADER_RETRY_INTERVAL_S)

        try:
            reply = await ask_until_answered(partial(self._ask_leader, change, tried), pause)
        except TimeoutError:
            reply = pb.ClusterChangeReply(status=pb.CHANGE_STATUS_NOT_LEADER, detail=NO_LEADER_TEXT)
        if tried.is_applied and reply.status != pb.CHANGE_STATUS_DONE:
            # The refusal is true of the last attempt only.
            return pb.ClusterChangeReply(status=pb.CHANGE_STATUS_OUTCOME_UNKNOWN, detail=UNCONFIRMED_TEXT)
        return reply

    async def _ask_leader(self, change: pb.ClusterChange, tried: _Tried) -> pb.ClusterChangeReply | None:
        """Return the leader's answer, which comes within its own bound; None if nothing was proposed."""
        if self._is_done_by_removal(change):
            return pb.ClusterChangeReply(status=pb.CHANGE_STATUS_DONE)
        if self._replica.retired:
            return pb.ClusterChangeReply(status=pb.CHANGE_STATUS_NOT_LEADER, detail=REMOVED_TEXT)
        leader = self._replica.role.leader
        if leader == NO_NODE:
            return None
        try:
            reply = await self._ask(leader, change)
        except ForwardFailedError as error:
            if not error.sent:
                return None
            if self._is_done_by_removal(change):  # the removal closed this node's links under the call
                return pb.ClusterChangeReply(status=pb.CHANGE_STATUS_DONE)
            return pb.ClusterChangeReply(status=pb.CHANGE_STATUS_OUTCOME_UNKNOWN, detail=UNKNOWN_TEXT)
        if reply.status != pb.CHANGE_STATUS_NOT_LEADER:
            return reply
        tried.is_applied = tried.is_applied or reply.index > 0
        return None

    def _is_done_by_removal(self, change: pb.ClusterChange) -> bool:
        """Return whether the change is this node's own removal, which has happened."""
        node, members = self._replica.node_id, self._replica.members
        own = members.removed.get(node) or members.rows.get(node)
        asks_for_it = own is not None and change.HasField("remove") and change.remove.name == own.name
        return self._replica.retired and asks_for_it

    async def _ask(self, leader: NodeId, change: pb.ClusterChange) -> pb.ClusterChangeReply:
        if leader == self._replica.node_id:
            return await self._changes.carry_out(change)
        return await self._forwarder.change(leader, change, CHANGE_TIMEOUT_S + 1)
