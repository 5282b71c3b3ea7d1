"""Reads a node's pages for monitoring, byte by byte where a test needs that."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

Labels = tuple[tuple[str, str], ...]


@dataclass
class Reply:
    """What a server answered."""

    status: int
    headers: dict[str, str]
    body: bytes
    cookies: list[str] = field(default_factory=list)


@dataclass
class Client:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, path: str, *headers: str, method: str = "GET", body: bytes = b"", host: str = "here") -> Reply:
        """Send a request and read its answer."""
        length = (f"Content-Length: {len(body)}",) if body else ()
        lines = (f"{method} {path} HTTP/1.1", f"Host: {host}", *length, *headers, "", "")
        self.writer.write("\r\n".join(lines).encode() + body)
        return await self.reply(has_body=method != "HEAD")

    async def reply(self, *, has_body: bool = True) -> Reply:
        """Read an answer."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = [line.split(": ", 1) for line in head[1:] if line]
        headers = {name.lower(): value for name, value in pairs}
        cookies = [value for name, value in pairs if name.lower() == "set-cookie"]
        if headers.get("transfer-encoding") == "chunked":
            body = await self._chunks()
        else:
            body = await self.reader.readexactly(int(headers["content-length"])) if has_body else b""
        return Reply(int(head[0].split()[1]), headers, body, cookies)

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self.reader.readline(), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readline()
        await self.reader.readline()
        return body

    async def is_ended(self) -> bool:
        """Wait until the server has ended the connection."""
        with suppress(ConnectionError, ssl.SSLError):
            while await self.reader.read(65_536):
                pass
        return True

    async def close(self) -> None:
        """Close it."""
        self.writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()


async def ask(
    address: str, path: str, *headers: str, method: str = "GET", body: bytes = b"", host: str = "here"
) -> Reply:
    """Ask a node for a page, on a connection of its own."""
    where, _, port = address.rpartition(":")
    client = Client(*await asyncio.open_connection(where, int(port)))
    try:
        return await client.ask(path, *headers, method=method, body=body, host=host)
    finally:
        await client.close()


async def scrape(address: str) -> dict[tuple[str, Labels], float]:
    """Return each sample of a node's metrics."""
    return values_of((await ask(address, "/metrics")).body.decode())


def families_of(openmetrics: str) -> list[Metric]:
    """Return the metrics of a page in the strict format of OpenMetrics."""
    read: Any = openmetrics_parser.text_string_to_metric_families
    return list(read(openmetrics))


def values_of(text: str) -> dict[tuple[str, Labels], float]:
    """Return each sample of a page."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
