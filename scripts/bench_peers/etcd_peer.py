"""etcd: each message is a key of its own below the queue's prefix."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc

from scripts.bench_peers.etcd_wire import MESSAGES
from scripts.bench_peers.peer import HOST, Note, Place, Start
from scripts.bench_peers.servers import output_of
from scripts.cluster_status import insecure_channel

_TIMEOUT_S = 10.0
_PAGE = 1000
_EMPTY_S = 0.01


class EtcdPeer:
    """etcd over its gRPC API."""

    name = "etcd"
    programs: Sequence[str] = ("etcd",)
    durability = "fsync on a majority before the acknowledgement"
    remarks: Sequence[str] = (
        "plaintext",
        "no queue: a message is a key; end to end is a watch without acknowledgements; draining reads pages of 1,000 "
        "keys and deletes each page",
    )

    def prepare(self, places: Sequence[Place]) -> Sequence[Start]:
        """Need nothing besides."""
        return ()

    def start(self, place: Place, places: Sequence[Place]) -> Start:
        """Give all by flags."""
        client, peer = f"http://{place.address}", f"http://{HOST}:{place.ports[1]}"
        members = ",".join(f"{other.name}=http://{HOST}:{other.ports[1]}" for other in places)
        return Start(
            (
                "etcd",
                *("--name", place.name, "--data-dir", str(place.folder / "data"), "--initial-cluster", members),
                *("--listen-client-urls", client, "--advertise-client-urls", client),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            )
        )

    async def version(self) -> str:
        """Return what the program says."""
        return await output_of("etcd", "--version")

    async def create_queue(self, addresses: Sequence[str], queue: str) -> None:
        """Show that every server answers. A prefix needs no creation."""
        for address in addresses:
            sender = await self.sender(address, queue, "probe", repeats=False)
            try:
                await sender.put(f"ready/{queue}".encode(), b"")
            finally:
                await sender.close()

    async def verify(self, places: Sequence[Place]) -> None:
        """Know that already: the servers accept nothing unless a majority of three is there."""

    async def leader(self, addresses: Sequence[str], queue: str) -> int:
        """Ask each server who it is, and one who leads."""
        found = [await _status(address) for address in addresses]
        return [status.header.member_id for status in found].index(found[0].leader)

    async def sender(self, address: str, queue: str, name: str, *, repeats: bool) -> EtcdSender:
        """Connect a sender. A repeat writes the same key again."""
        channel = insecure_channel(address)
        async with asyncio.timeout(_TIMEOUT_S):
            await channel.channel_ready()
        return EtcdSender(channel, f"{queue}/")

    async def receiver(self, address: str, queue: str) -> EtcdReceiver:
        """Connect a receiver, which watches from now on."""
        receiver = EtcdReceiver(insecure_channel(address), f"{queue}/".encode())
        await receiver.look()
        return receiver


class EtcdSender:
    """Puts keys."""

    def __init__(self, channel: grpc.aio.Channel, prefix: str) -> None:
        self._channel = channel
        self._prefix = prefix
        self._put = _unary(channel, "KV/Put", "PutResponse")

    async def send(self, body: str, ident: str) -> None:
        """Put one key."""
        await self.put((self._prefix + ident).encode(), body.encode())

    async def put(self, key: bytes, value: bytes) -> None:
        """Put a value. Return once it is on a majority's disks."""
        await self._put(MESSAGES["PutRequest"](key=key, value=value), timeout=_TIMEOUT_S)

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()


class EtcdReceiver:
    """Watches a prefix, or reads and deletes what is below it."""

    def __init__(self, channel: grpc.aio.Channel, prefix: bytes) -> None:
        self._channel = channel
        self._prefix, self._end = prefix, prefix[:-1] + bytes([prefix[-1] + 1])
        self._range = _unary(channel, "KV/Range", "RangeResponse")
        self._delete = _unary(channel, "KV/DeleteRange", "DeleteResponse")
        self._from_revision = 0

    async def look(self) -> Sequence[Any]:
        """Return the first page of what is below the prefix. Watch from there on."""
        request = MESSAGES["RangeRequest"](key=self._prefix, range_end=self._end, limit=_PAGE)
        answer = await self._range(request, timeout=_TIMEOUT_S)
        self._from_revision = answer.header.revision + 1
        page: Sequence[Any] = answer.kvs
        return page

    async def run(self, note: Note, *, drain: bool) -> None:
        """Drain or watch."""
        await (self._drain(note) if drain else self._watch(note))

    async def _drain(self, note: Note) -> None:
        while True:
            page = await self.look()
            if not page:
                await asyncio.sleep(_EMPTY_S)
                continue
            for pair in page:
                note(pair.value.decode())
            request = MESSAGES["DeleteRequest"](key=page[0].key, range_end=page[-1].key + b"\0")
            await self._delete(request, timeout=_TIMEOUT_S)

    async def _watch(self, note: Note) -> None:
        watch: Any = self._channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=MESSAGES["WatchResponse"].FromString,
        )()
        create = MESSAGES["Create"](key=self._prefix, range_end=self._end, start_revision=self._from_revision)
        await watch.write(MESSAGES["WatchRequest"](create_request=create))
        while answer := await watch.read():
            for event in answer.events:
                note(event.kv.value.decode())

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()


def _unary(channel: grpc.aio.Channel, method: str, answer: str) -> Any:
    return channel.unary_unary(
        f"/etcdserverpb.{method}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=MESSAGES[answer].FromString,
    )


async def _status(address: str) -> Any:
    channel = insecure_channel(address)
    try:
        ask = _unary(channel, "Maintenance/Status", "StatusResponse")
        return await ask(MESSAGES["StatusRequest"](), timeout=_TIMEOUT_S)
    finally:
        await channel.close()
