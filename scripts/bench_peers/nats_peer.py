"""NATS JetStream: a stream of three replicas in files."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import nats
from nats.js.api import AckPolicy, ConsumerConfig, StorageType, StreamConfig

from scripts.bench_peers.peer import HOST, SERVERS, Note, Place, Start
from scripts.bench_peers.servers import output_of

_TIMEOUT_S = 10.0
_WINDOW = 20_000
_ACKNOWLEDGE_EVERY_S = 0.02
_PENDING_BYTES = 1 << 30


class NatsPeer:
    """NATS with JetStream. It acknowledges what a majority has received, and syncs every two minutes."""

    name = "nats"
    programs: Sequence[str] = ("nats-server",)
    durability = "written by a majority, no fsync before the acknowledgement (default of the server)"
    remarks: Sequence[str] = ("plaintext", "the receiver's acknowledgements are not confirmed")

    def prepare(self, places: Sequence[Place]) -> Sequence[Start]:
        """Need nothing besides."""
        return ()

    def start(self, place: Place, places: Sequence[Place]) -> Start:
        """Give all by flags."""
        routes = ",".join(f"nats://{HOST}:{other.ports[1]}" for other in places)
        return Start(
            (
                "nats-server",
                *("-a", HOST, "-p", str(place.ports[0]), "-n", place.name, "--cluster_name", "bench"),
                *("--cluster", f"nats://{HOST}:{place.ports[1]}", "--routes", routes),
                *("-js", "-sd", str(place.folder / "data")),
            )
        )

    async def version(self) -> str:
        """Return what the program says."""
        return await output_of("nats-server", "--version")

    async def create_queue(self, addresses: Sequence[str], queue: str) -> None:
        """Make a stream with one subject."""
        client = await _connect(addresses[0])
        try:
            stream = StreamConfig(name=queue, subjects=[queue], storage=StorageType.FILE, num_replicas=SERVERS)
            await client.jetstream(timeout=_TIMEOUT_S).add_stream(stream)
        finally:
            await client.close()

    async def verify(self, places: Sequence[Place]) -> None:
        """Know that already: the servers accept nothing unless a majority of three is there."""

    async def leader(self, addresses: Sequence[str], queue: str) -> int:
        """Ask any server."""
        client = await _connect(addresses[0])
        try:
            info = await client.jetstream(timeout=_TIMEOUT_S).stream_info(queue)
        finally:
            await client.close()
        return int(info.cluster.leader[1:]) - 1

    async def sender(self, address: str, queue: str, name: str, *, repeats: bool) -> NatsSender:
        """Connect a sender."""
        return NatsSender(await _connect(address), queue, repeats=repeats)

    async def receiver(self, address: str, queue: str) -> NatsReceiver:
        """Connect a receiver."""
        return NatsReceiver(await _connect(address), queue)


class NatsSender:
    """Publishes and waits for the stream's acknowledgement."""

    def __init__(self, client: Any, queue: str, *, repeats: bool) -> None:
        self._client = client
        self._stream = client.jetstream(timeout=_TIMEOUT_S)
        self._queue = queue
        self._repeats = repeats

    async def send(self, body: str, ident: str) -> None:
        """Publish."""
        headers = {"Nats-Msg-Id": ident} if self._repeats else None
        await self._stream.publish(self._queue, body.encode(), headers=headers)

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()


class NatsReceiver:
    """A durable push consumer that acknowledges all that came, every 20 ms."""

    def __init__(self, client: Any, queue: str) -> None:
        self._client = client
        self._queue = queue
        self._last: Any = None

    async def run(self, note: Note, *, drain: bool) -> None:
        """Take what is pushed."""
        stream = self._client.jetstream(timeout=_TIMEOUT_S)
        config = ConsumerConfig(ack_policy=AckPolicy.ALL, max_ack_pending=_WINDOW)

        async def take(message: Any) -> None:
            note(message.data.decode())
            self._last = message

        await stream.subscribe(
            self._queue,
            cb=take,
            durable="receiver",
            manual_ack=True,
            config=config,
            pending_msgs_limit=10 * _WINDOW,
            pending_bytes_limit=_PENDING_BYTES,
        )
        while True:
            await asyncio.sleep(_ACKNOWLEDGE_EVERY_S)
            last, self._last = self._last, None
            if last is not None:
                await last.ack()

    async def close(self) -> None:
        """Close the connection, which may be broken."""
        with suppress(Exception):
            await self._client.close()


async def _silent(_: Exception) -> None:
    """Leave reports of lost connections to the calls that fail."""


async def _connect(address: str) -> Any:
    return await nats.connect(f"nats://{address}", error_cb=_silent, connect_timeout=5, max_reconnect_attempts=2)
