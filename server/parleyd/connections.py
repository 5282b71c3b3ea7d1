"""Closes connections of clients that have no call, while connections run short.

gRPC bounds how many connections it accepts, whoever they are from. It names nobody before a connection's first call,
so one address could have all connections and keep everybody else out. But a process can look at its own sockets. While
more than three quarters of the connections are in use, this module finds those without a call and shuts them down:
those of whoever has the most, of these the ones that have been seen longest. gRPC closes what its client has left.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from parleyd.owners import Owner, OwnerTree
from parleyd.port_sockets import PortSockets, open_files
from parleyd.sources import Peer

LOOK_INTERVAL_S = 0.5
SURE_S = 1.0
"""A connection may be without a call for so long in any case: a client's handshake and first call take less."""
LOG_INTERVAL_S = 60.0
"""Whoever opens connections must not fill the log."""


@dataclass(frozen=True, slots=True)
class BusyPeers:
    """The connections that have calls now."""

    _calls: Counter[Peer] = field(default_factory=Counter)

    @contextmanager
    def one(self, peer: Peer) -> Iterator[None]:
        """Count a call of this connection while inside."""
        self._calls[peer] += 1
        try:
            yield
        finally:
            self._calls[peer] -= 1
            if not self._calls[peer]:
                del self._calls[peer]

    @property
    def peers(self) -> frozenset[Peer]:
        """Return all of them."""
        return frozenset(self._calls)

    def __contains__(self, peer: Peer) -> bool:
        return peer in self._calls


class IdleConnections:
    """Decides which connections have to go. Pure."""

    def __init__(self, most: int, owner_of_host: Callable[[str], Owner]) -> None:
        self.enough = most * 3 // 4
        self._owner_of_host = owner_of_host
        self._idle_since: dict[Peer, float] = {}

    def excess(self, connected: Collection[Peer], busy: Collection[Peer], now_s: float) -> list[Peer]:
        """Return the connections to close, of all that there are now."""
        since = {peer: self._idle_since.get(peer, now_s) for peer in connected if peer not in busy}
        self._idle_since = since
        owners = {host: self._owner_of_host(host) for host in {host for host, _ in since}}
        idle: OwnerTree[Peer] = OwnerTree()
        for peer in sorted(since, key=since.__getitem__):
            idle.add(owners[peer[0]], peer)
        closing = []
        for _ in range(len(connected) - self.enough):
            heaviest = idle.heaviest()
            if heaviest is None:
                break
            peer = next(idle.items(heaviest))
            idle.remove(heaviest, peer)
            if now_s - since[peer] >= SURE_S:
                closing.append(peer)
        return closing


class ConnectionWatch:
    """Looks at the connections of one port of this process."""

    def __init__(self, port: int, idle: IdleConnections, busy: BusyPeers) -> None:
        self._sockets = PortSockets(port)
        self._idle = idle
        self._busy = busy
        self._closed = 0  # since the last line of the log
        self._next_line_s = 0.0

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            if len(open_files()) > self._idle.enough:
                await self.look()

    async def look(self) -> None:
        """Close what has to go now."""
        now_s = asyncio.get_running_loop().time()
        # Thousands of connections are too many for one turn of the event loop.
        connections, closed = await asyncio.to_thread(self._close_excess, self._busy.peers, now_s)
        self._closed += closed
        if self._closed and now_s >= self._next_line_s:
            self._next_line_s = now_s + LOG_INTERVAL_S
            structlog.get_logger("node").warning(
                "idle_connections_closed",
                count=self._closed,
                connections=connections,
                effect="clients without a call connect again when they need to",
            )
            self._closed = 0

    def _close_excess(self, busy: Collection[Peer], now_s: float) -> tuple[int, int]:
        """Return how many connections there are, and how many of them were closed."""
        connected = self._sockets.connected()
        closing = self._idle.excess(connected.keys(), busy, now_s)
        # Meanwhile one of them may have a call.
        closed = sum(peer not in self._busy and self._sockets.shut_down(connected[peer], peer) for peer in closing)
        return len(connected), closed
