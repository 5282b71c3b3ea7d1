"""The status of every member as one node finds it out, for its dashboard: its own, and what the others report.

A status costs a read. So nobody is asked unless somebody looks, and a status is given for FRESH_S to whoever asks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from parley_proto.v1 import admin_pb2, peer_pb2
from parleyd.api.cluster_status import full_status
from parleyd.api.cluster_view import ClusterView
from parleyd.machine.limits import GROUP
from parleyd.raft.types import NodeId
from parleyd.shared_result import SharedResult
from parleyd.transport.peer_calls import ForwardFailedError

FRESH_S = 0.5
ASK_TIMEOUT_S = 1.0

Ask = Callable[[NodeId, peer_pb2.ReportStatusRequest, float], Awaitable[admin_pb2.GetStatusResponse]]


@dataclass(frozen=True, slots=True)
class MemberReport:
    """What a member reports; without a status it gave none."""

    name: str
    is_voter: bool
    status: admin_pb2.GetStatusResponse | None


class StatusReports:
    """The reports that one node has, for its dashboard and for its peers."""

    def __init__(self, view: ClusterView, ask: Ask) -> None:
        """`ask` asks another node; it raises ForwardFailedError."""
        self._view = view
        self._ask = ask
        self._started_s = time.monotonic()
        self._own = SharedResult(lambda: full_status(view, time.monotonic() - self._started_s), FRESH_S)

    async def own(self) -> admin_pb2.GetStatusResponse:
        """Return this node's status."""
        return await self._own.get()

    async def of_all(self) -> list[MemberReport]:
        """Return a report for each member, by name. It takes ASK_TIMEOUT_S and its own status at most."""
        voters = self._view.replica.raft.conf_state.voters
        members = [(member.name, NodeId(member.node_id)) for member in self._view.members()]
        found = await asyncio.gather(*(self._of(node) for _, node in members))
        return [MemberReport(name, node in voters, status) for (name, node), status in zip(members, found, strict=True)]

    async def _of(self, node: NodeId) -> admin_pb2.GetStatusResponse | None:
        if node == self._view.identity.node_id:
            return await self.own()
        try:
            return await self._ask(node, peer_pb2.ReportStatusRequest(group=GROUP), ASK_TIMEOUT_S)
        except ForwardFailedError:
            return None
