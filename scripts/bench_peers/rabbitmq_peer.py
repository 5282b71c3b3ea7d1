"""RabbitMQ: a quorum queue on three nodes, with publisher confirms."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import aio_pika

from scripts.bench_peers.peer import HOST, SERVERS, Note, PeerFailedError, Place, Start
from scripts.bench_peers.servers import output_of

_CONTROL = "/usr/lib/rabbitmq/bin/rabbitmqctl"
_SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"
_TIMEOUT_S = 20.0
_PREFETCH = 2000
_ACKNOWLEDGE_EVERY_S = 0.02
_QUORUM = {
    "x-queue-type": "quorum",
    "x-quorum-initial-group-size": SERVERS,
    "x-queue-leader-locator": "client-local",
}


class RabbitmqPeer:
    """RabbitMQ. The queue's leader is the node over which it was declared, the first one."""

    name = "rabbitmq"
    programs: Sequence[str] = (_SERVER, "epmd")
    durability = "fsync on a majority before the confirm"
    remarks: Sequence[str] = ("plaintext",)

    def __init__(self) -> None:
        logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # connections fail until the servers are there
        self._cookie = secrets.token_hex(16)
        self._epmd_port = 0

    def prepare(self, places: Sequence[Place]) -> Sequence[Start]:
        """Write cookie and settings of each node. Run the name service of Erlang on a port of its own."""
        self._epmd_port = places[0].ports[2]
        for place in places:
            cookie = place.folder / ".erlang.cookie"
            cookie.write_text(self._cookie)
            cookie.chmod(0o400)
            (place.folder / "plugins").write_text("[].\n")
            (place.folder / "rabbitmq.conf").write_text(_settings(place, places))
        return (Start(("epmd", "-port", str(self._epmd_port), "-address", HOST)),)

    def start(self, place: Place, places: Sequence[Place]) -> Start:
        """Give paths and ports by the environment, and none of the distribution's own."""
        return Start(
            (_SERVER,),
            {
                "RUNNING_UNDER_SYSTEMD": "true",  # the script becomes the server, and leaves no shell in between
                "RABBITMQ_NODENAME": _node(place),
                "RABBITMQ_USE_LONGNAME": "true",
                "RABBITMQ_NODE_IP_ADDRESS": HOST,
                "RABBITMQ_NODE_PORT": str(place.ports[0]),
                "RABBITMQ_DIST_PORT": str(place.ports[1]),
                "RABBITMQ_CONFIG_FILE": str(place.folder / "rabbitmq.conf"),
                "RABBITMQ_CONF_ENV_FILE": os.devnull,
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(place.folder / "plugins"),
                "RABBITMQ_MNESIA_BASE": str(place.folder / "data"),
                "RABBITMQ_LOG_BASE": str(place.folder),
                "RABBITMQ_PID_FILE": str(place.folder / "pid"),
                "ERL_EPMD_PORT": str(self._epmd_port),
                "ERL_EPMD_ADDRESS": HOST,
            },
        )

    async def version(self) -> str:
        """Return the version of the Debian package."""
        return await output_of("dpkg-query", "-W", "-f", "${Version}\n", "rabbitmq-server")

    async def create_queue(self, addresses: Sequence[str], queue: str) -> None:
        """Declare the queue over the first node, once all nodes answer."""
        for address in reversed(addresses):
            connection = await _connect(address)
            await connection.close()
        connection = await _connect(addresses[0])
        try:
            channel = await connection.channel()
            declared = await channel.declare_queue(queue, durable=True, arguments=_QUORUM, timeout=_TIMEOUT_S)
            assert declared.name == queue
        finally:
            await connection.close()

    async def verify(self, places: Sequence[Place]) -> None:
        """Ask the first node for the members of its queues. A node that found no other one would serve alone."""
        environment = {**self.start(places[0], places).environment, "HOME": str(places[0].folder)}
        listed = await output_of(
            *(_CONTROL, "-n", _node(places[0]), "--longnames", "--silent", "list_queues", "members"),
            environment=environment,
        )
        if not all(_node(place) in listed for place in places):
            raise PeerFailedError(f"rabbitmq: a queue is not on three nodes: {listed}")

    async def leader(self, addresses: Sequence[str], queue: str) -> int:
        """Return the node over which the queue was declared."""
        return 0

    async def sender(self, address: str, queue: str, name: str, *, repeats: bool) -> RabbitmqSender:
        """Connect a sender. RabbitMQ detects no repeats."""
        connection = await _connect(address)
        return RabbitmqSender(connection, await connection.channel(publisher_confirms=True), queue)

    async def receiver(self, address: str, queue: str) -> RabbitmqReceiver:
        """Connect a receiver."""
        connection = await _connect(address)
        return RabbitmqReceiver(connection, queue)


class RabbitmqSender:
    """Publishes and waits for the confirm."""

    def __init__(self, connection: Any, channel: Any, queue: str) -> None:
        self._connection = connection
        self._exchange = channel.default_exchange
        self._queue = queue

    async def send(self, body: str, ident: str) -> None:
        """Publish a persistent message."""
        message = aio_pika.Message(body.encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await self._exchange.publish(message, routing_key=self._queue, timeout=_TIMEOUT_S)

    async def close(self) -> None:
        """Close the connection, which may be broken."""
        with suppress(Exception):
            await self._connection.close()


class RabbitmqReceiver:
    """Consumes with a window, and acknowledges all that came every 20 ms."""

    def __init__(self, connection: Any, queue: str) -> None:
        self._connection = connection
        self._queue = queue
        self._last: Any = None

    async def run(self, note: Note, *, drain: bool) -> None:
        """Take what is delivered."""
        channel = await self._connection.channel()
        await channel.set_qos(prefetch_count=_PREFETCH)
        queue = await channel.get_queue(self._queue, ensure=False)

        async def take(message: Any) -> None:
            note(message.body.decode())
            self._last = message

        await queue.consume(take)
        while True:
            await asyncio.sleep(_ACKNOWLEDGE_EVERY_S)
            last, self._last = self._last, None
            if last is not None:
                await last.ack(multiple=True)

    async def close(self) -> None:
        """Close the connection, which may be broken."""
        with suppress(Exception):
            await self._connection.close()


def _node(place: Place) -> str:
    return f"{place.name}@{HOST}"


def _settings(place: Place, places: Sequence[Place]) -> str:
    lines = [f"listeners.tcp.1 = {place.address}", "cluster_formation.peer_discovery_backend = classic_config"]
    lines += [f"cluster_formation.classic_config.nodes.{other.number + 1} = {_node(other)}" for other in places]
    return "\n".join([*lines, "loopback_users = none", "disk_free_limit.absolute = 50MB", ""])


async def _connect(address: str) -> Any:
    return await aio_pika.connect(f"amqp://guest:guest@{address}/", timeout=_TIMEOUT_S)
