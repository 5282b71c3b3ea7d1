"""Links from one node to the others that can be cut: the node connects through relays of this process.

What the others send to the node does not pass here, so the node goes on hearing its leader and follows it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from scripts.cluster_local import LocalCluster

PROGRAM = """
import json, sys
from parleyd.transport import channels
ways = json.loads(sys.argv.pop(1))
make = channels.peer_channel
channels.peer_channel = lambda address, *given, **named: make(ways.get(address, address), *given, **named)
from parleyd.__main__ import main
main()
"""
CHUNK_BYTES = 65_536


@dataclass(slots=True)
class Relay:
    """Passes connections on to one address, or refuses and breaks them all. Each way of a line takes `way_s`."""

    target: str
    port: int = 0
    way_s: float = 0.0
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None] | None] = field(default_factory=set)

    async def open(self) -> None:
        """Pass connections on, at the same port as before."""
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Refuse new connections, break those there are, and wait until they are gone."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*filter(None, self._tasks), return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            await self._connect(reader, writer)
        finally:
            self._tasks.discard(task)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self.target.rpartition(":")
        try:
            there = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, there[1]}
        try:
            await asyncio.gather(_copy(reader, there[1], self.way_s), _copy(there[0], writer, self.way_s))
        finally:
            self._writers -= {writer, there[1]}


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way_s: float) -> None:
    try:
        while content := await reader.read(CHUNK_BYTES):
            await asyncio.sleep(way_s)
            writer.write(content)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.transport.abort()


class Links:
    """The links of one node to the others."""

    def __init__(self, cluster: LocalCluster, node: str) -> None:
        self._cluster = cluster
        self.node = node
        self._relays = [Relay(cluster.layout.node(other).peer_address) for other in cluster.others(node)]

    async def lay(self) -> None:
        """Have the node use the relays from its next start on."""
        for relay in self._relays:
            await relay.open()
        ways = {relay.target: f"127.0.0.1:{relay.port}" for relay in self._relays}
        program: Sequence[str] = ("-c", PROGRAM, json.dumps(ways))
        self._cluster.run_with(program, self.node)

    async def cut(self) -> None:
        """Take the links down."""
        for relay in self._relays:
            await relay.cut()

    async def mend(self) -> None:
        """Have them again."""
        for relay in self._relays:
            await relay.open()
