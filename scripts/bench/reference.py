"""A fixed loop, to whose cost `make bench-smoke` compares that of messages, so that its bounds hold on any machine.

One operation hashes a body, encodes and parses it, stores it in SQLite with a sync, and sends it through TLS on
loopback and back. It runs nothing of Parley. One process for each core runs the loop, because a cluster keeps all cores
busy, and a core is slower while its neighbours work. A change here makes the recorded ratios void: record them anew.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import ssl
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.wrappers_pb2 import BytesValue

from scripts.bench.figures import percentiles

BODY = b"x" * 256


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds of 1,000 operations, and the time of one that other work did not disturb (10th percentile)."""

    cpu_s_per_1000: float
    p10_ms: float


@dataclass(frozen=True, slots=True)
class Identity:
    """The files with which the loop's server proves that it is `host`."""

    host: str
    ca_file: str
    cert_file: str
    key_file: str


async def measure_reference(identity: Identity, folder: Path, operations: int) -> Cost:
    """Run the loop. Its database is made anew in `folder`."""
    accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accepting.load_cert_chain(identity.cert_file, identity.key_file)
    trusting = ssl.create_default_context(cafile=identity.ca_file)
    file = folder / f"reference-{os.getpid()}.sqlite"
    file.unlink(missing_ok=True)
    server = await asyncio.start_server(_echo, identity.host, 0, ssl=accepting)
    port = server.sockets[0].getsockname()[1]
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("CREATE TABLE messages (id INTEGER PRIMARY KEY, digest BLOB, body BLOB)")
        async with server:
            reader, writer = await asyncio.open_connection(identity.host, port, ssl=trusting)
            took_ms: list[float] = []
            began_cpu_s = time.process_time()
            for _ in range(operations):
                began_s = time.perf_counter()
                await _operate(database, reader, writer)
                took_ms.append((time.perf_counter() - began_s) * 1000)
            cpu_s = time.process_time() - began_cpu_s
            writer.close()
            await writer.wait_closed()
    return Cost(cpu_s / operations * 1000, percentiles(took_ms)["p10_ms"])


async def _operate(database: sqlite3.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    frame = BytesValue(value=BODY).SerializeToString()
    digest = hashlib.sha256(frame).digest()
    database.execute("INSERT INTO messages (digest, body) VALUES (?, ?)", (digest, BytesValue.FromString(frame).value))
    writer.write(frame)
    if await reader.readexactly(len(frame)) != frame:
        raise RuntimeError("the echo differs from what was sent")


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
    writer.close()
