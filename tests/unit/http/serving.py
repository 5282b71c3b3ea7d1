"""A server of pages for tests, with pages that say what a test wants."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from parleyd.http.health import Verdict
from parleyd.http.pages import Page, Pages
from parleyd.http.rendering import MetricsPage
from parleyd.http.server import HttpServer
from parleyd.http.sockets import listening_socket
from parleyd.observability.figures import Sample
from tests.support.pages import Client, Reply


@dataclass
class Told:
    """What the pages tell; a test changes it. `reads` counts readings of the metrics. `more` are other pages."""

    health: Verdict = field(default_factory=Verdict)
    readiness: Verdict = field(default_factory=Verdict)
    samples: tuple[Sample, ...] = (("parley_raft_term", (), 7.0),)
    reads: int = 0
    more: dict[str, Page] = field(default_factory=dict)

    def read(self) -> Iterable[Sample]:
        """Return the samples."""
        self.reads += 1
        return self.samples

    def pages(self) -> Pages:
        """Make the pages."""
        return Pages(MetricsPage(self.read), lambda: self.health, lambda: self.readiness, self.more)


@dataclass
class Serving:
    """A server that runs."""

    server: HttpServer
    port: int

    async def connect(self, tls: ssl.SSLContext | None = None) -> Client:
        """Connect to it."""
        return Client(*await asyncio.open_connection("127.0.0.1", self.port, ssl=tls))

    async def get(self, path: str, *headers: str, method: str = "GET") -> Reply:
        """Ask once, on a connection that is closed afterwards."""
        client = await self.connect()
        try:
            return await client.ask(path, *headers, method=method)
        finally:
            await client.close()


@asynccontextmanager
async def serving(told: Told, tls: ssl.SSLContext | None = None) -> AsyncIterator[Serving]:
    """Serve on a free port while inside."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = HttpServer(told.pages(), listening_socket(f"127.0.0.1:{port}"), lambda: tls)
    running = asyncio.ensure_future(server.run())
    try:
        yield Serving(server, port)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
