"""Ends connections to the peer port that nobody known here has, beyond what they may hold.

gRPC bounds the connections of a port in sum only, and closes none that has a call. So the guard finds them among the
open files of the process, and shuts down those that have to end. Their calls end with them.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import structlog

from parleyd.port_sockets import PortSockets
from parleyd.sources import source_of_host
from parleyd.transport.peer_bounds import PeerConnections

CALM_S = 2.0
BUSY_S = 0.25
BUSY_CONNECTIONS = 64
# Looking through the files costs a node with many clients more. It gets at most this part of the time.
LONGEST_SHARE = 1 / 20
LOG_INTERVAL_S = 30.0


class ConnectionGuard:
    """Guards the connections of one port, until its task is cancelled."""

    def __init__(self, connections: PeerConnections, port: int) -> None:
        self._connections = connections
        self._sockets = PortSockets(port)
        self._log_again_at = 0.0
        self._unlogged: Counter[str] = Counter()
        self._logger = structlog.get_logger("peer")

    async def run(self) -> None:
        """Look and end connections, again and again."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            ended = await self._look(began)
            is_busy = ended or self._connections.count_others() >= BUSY_CONNECTIONS
            took = loop.time() - began
            await asyncio.sleep(max(BUSY_S if is_busy else CALM_S, took / LONGEST_SHARE))

    async def _look(self, now_s: float) -> int:
        """End what is too much; return how many that are."""
        connected = await asyncio.to_thread(self._sockets.connected)
        surplus = self._connections.surplus(connected.keys(), now_s)
        for peer in surplus:
            self._sockets.shut_down(connected[peer], peer)
        self._unlogged.update(source_of_host(address) for address, _ in surplus)
        if self._unlogged and now_s >= self._log_again_at:
            self._logger.warning(
                "peer_connections_ended",
                connections=self._unlogged.total(),
                reason="callers that are no members here hold too many connections, or hold them for too long",
                advice="let only the cluster's machines reach the peer port",
                most_from=self._unlogged.most_common(1)[0][0],
            )
            self._unlogged.clear()
            self._log_again_at = now_s + LOG_INTERVAL_S
        return len(surplus)
