"""The asyncio shell around Presence: a clock, the rhythm of the reports, and the log of clients that come and go.

An idle node sends each member one report in BEAT_S. After a change it sends the next one at once, unless the last one
left less than INTERVAL_S ago. Changes that come meanwhile share a report.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

import structlog

from parley_proto.v1 import peer_pb2 as pb
from parleyd.presence.presence import Connected, Presence
from parleyd.presence.typists import Typing, typing_in
from parleyd.raft.types import NodeId

BEAT_S = 1.0
INTERVAL_S = 0.2


class ConnectedClients:
    """The clients that are connected to the cluster, as this node knows them. Used from the event loop only."""

    def __init__(
        self,
        presence: Presence,
        send_reports: Callable[[], None],
        show_typing: Callable[[int, int, int], None],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`send_reports` makes each link ask for a report. `show_typing` is DeviceHub.show_typing()."""
        self._presence = presence
        self._send_reports = send_reports
        self._now_s = now_s
        self._due = asyncio.Event()
        self._show_typing = show_typing
        self._logger = structlog.get_logger("clients")

    async def run(self) -> None:
        """Have reports sent until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._due.clear()
            sent_at = loop.time()
            self._send_reports()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(sent_at + BEAT_S):
                    await self._due.wait()
            await asyncio.sleep(max(0.0, sent_at + INTERVAL_S - loop.time()))

    # ---- from the hub

    def client_connected(self, account_id: int) -> None:
        """Take a device that connected."""
        self._presence.client_connected(account_id, self._now_s())
        self._logger.info("client_connected", account_id=account_id, clients=self._presence.own_clients)
        self._due.set()

    def client_away(self, account_id: int, *, away: bool) -> None:
        """Take a device that is away now, or no longer."""
        self._presence.client_away(account_id, away=away)
        self._due.set()

    def client_gone(self, account_id: int, *, away: bool = False) -> None:
        """Take a device that is gone. `away` is what it had said last."""
        self._presence.client_gone(account_id, self._now_s(), away=away)
        self._logger.info("client_gone", account_id=account_id, clients=self._presence.own_clients)
        self._due.set()

    def client_types(self, typing: Typing) -> None:
        """Tell the other members of a conversation that an account types, wherever they are connected."""
        self._show(typing)
        self._presence.client_types(typing, self._now_s())
        self._due.set()

    # ---- from the links

    def link_began(self, node: NodeId) -> None:
        """Send the whole set over a new connection."""
        self._presence.link_began(node)
        self._due.set()

    def next_report(self, node: NodeId) -> pb.PresenceReport | None:
        """Return what `node` has to know next."""
        report = self._presence.next_report(node, self._now_s())
        if self._presence.has_more:
            self._due.set()
        return report

    def received(self, node: NodeId, report: pb.PresenceReport) -> None:
        """Take a member's report."""
        if self._presence.received(node, report, self._now_s()):
            self._due.set()
        if self._presence.is_believed(node):
            for typing in typing_in(report):
                self._show(typing)

    def _show(self, typing: Typing) -> None:
        self._show_typing(typing.conversation_id, typing.account_id, typing.to)

    # ---- for the api

    def clients_of(self, node: NodeId) -> int | None:
        """Return how many devices are connected to a node; None if it was not heard from."""
        return self._presence.clients_of(node, self._now_s())

    def page(self, after_account_id: int, limit: int) -> list[Connected]:
        """Return at most `limit` connected accounts with greater ids, ascending."""
        return self._presence.page(after_account_id, limit, self._now_s())

    def connected(self, account_id: int) -> Connected | None:
        """Return since when an account is connected; None if it is not."""
        return self._presence.connected(account_id, self._now_s())

    def last_seen_s(self, account_id: int) -> float | None:
        """Return when an account that is not connected was last; None if this node does not know it."""
        return self._presence.last_seen_s(account_id, self._now_s())

    def unix_ms(self, at_s: float) -> int:
        """Return the wall clock's time for one of this clock."""
        return time.time_ns() // 1_000_000 - max(0, int((self._now_s() - at_s) * 1000))
