"""Reports the cluster's condition to health checks and connected clients, after every change."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from grpc_health.v1 import health, health_pb2

from parley_proto.v1 import accounts_pb2, admin_pb2, conversations_pb2, messaging_pb2
from parleyd.api.cluster_view import ClusterView

STATUS_INTERVAL_S = 0.5
CLOCK_SERVICE = "parley.clock"
"""Health of the clocks, apart from the services: NOT_SERVING on a leader that knows of a wrong one."""
SERVICE_NAMES = tuple(
    descriptor.full_name
    for module in (accounts_pb2, messaging_pb2, conversations_pb2, admin_pb2)
    for descriptor in module.DESCRIPTOR.services_by_name.values()
)


class StatusPublisher:
    """Checks when `due` is set, and at intervals, because the links do not report a lost majority."""

    def __init__(self, view: ClusterView, health_service: health.aio.HealthServicer, due: asyncio.Event) -> None:
        self._view = view
        self._health = health_service
        self._due = due

    async def run(self) -> None:
        """Publish until cancelled."""
        announced: messaging_pb2.ClusterStatusUpdate | None = None
        watched: asyncio.Future[None] | None = None
        while True:
            if watched is not self._view.replica.next_role_change():
                watched = self._view.replica.next_role_change()
                watched.add_done_callback(lambda _: self._due.set())
            self._due.clear()
            status = self._view.status_update()
            if announced is None or not _is_same(announced, status):
                announced = status
                await self._announce(status)
            await self._health.set(CLOCK_SERVICE, _answer(is_good=not self._view.clock()))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STATUS_INTERVAL_S):
                    await self._due.wait()

    async def _announce(self, status: messaging_pb2.ClusterStatusUpdate) -> None:
        self._view.hub.announce(status)
        for name in ("", *SERVICE_NAMES):
            await self._health.set(name, _answer(is_good=status.has_majority))


def _answer(*, is_good: bool) -> Any:  # the stubs have no type for it
    answer = health_pb2.HealthCheckResponse
    return answer.SERVING if is_good else answer.NOT_SERVING


def _is_same(one: messaging_pb2.ClusterStatusUpdate, other: messaging_pb2.ClusterStatusUpdate) -> bool:
    return (one.leader, one.term, one.has_majority, list(one.nodes)) == (
        other.leader,
        other.term,
        other.has_majority,
        list(other.nodes),
    )
