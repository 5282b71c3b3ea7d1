"""gRPC channels to nodes, each with its own connection pool: one per address for calls, and others for streams.

The options detect a dead node early. Without local subchannel pools, channels to one address share a connection and its
backoff (grpc 20985). The reconnect backoff of up to two minutes is limited to one second (grpc 29996). Keepalive
detects a node that disappeared during a call (nodes permit a ping per second).

Proxies of the environment (http_proxy, https_proxy, grpc_proxy) are used only with PARLEY_USE_HTTP_PROXY=1, because
they are for the web and reach no node.
"""

import asyncio
import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from parley.errors import BadInputError, TlsError
from parley.wire.endpoints import Endpoint
from parley.wire.node_health import Pulse

MAX_FRAME_BYTES = 16 * 1024 * 1024
STARTS_AT_ONCE = 32
"""So many streams start at once. When a node is lost, hundreds would take the next node's time from each other."""
STREAMS_PER_CHANNEL = 128
"""A node serves 256 calls and sessions on one connection by default. Beyond that, a stream would wait for another's."""
KEEPALIVE_MS = (1000, 1500)
"""Interval and limit of the pings of a connection."""
SHARED_KEEPALIVE_MS = (5000, 5000)
"""The same for connections of many accounts: a wrong suspicion would make all of them connect anew."""
PROXY_VARIABLE = "PARLEY_USE_HTTP_PROXY"

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 2000),  # an attempt is given up then
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", MAX_FRAME_BYTES),
    ("grpc.max_send_message_length", MAX_FRAME_BYTES),
)


@dataclass(frozen=True, slots=True)
class Security:
    """The TLS settings of the connections. Without `ca_pem` the certificate authorities of the system are trusted."""

    ca_pem: bytes | None = None
    insecure: bool = False
    insecure_network: bool = False

    @property
    def loopback_only(self) -> bool:
        """Return true if nothing may leave this machine, because it would be readable on the network."""
        return self.insecure and not self.insecure_network

    def check(self, endpoints: Iterable[Endpoint]) -> None:
        """Raise BadInputError if an address is of another machine, and nothing may leave this one."""
        others = [str(endpoint) for endpoint in endpoints if not endpoint.is_loopback]
        if self.loopback_only and others:
            raise BadInputError(
                f"{', '.join(others[:3])}: other machines are reached without encryption only if that is asked for "
                "each time, because passwords and messages can be read on the network. Nothing was sent. Give the CA "
                "of the cluster with --ca FILE, or --insecure if you mean it."
            )


def load_security(ca: Path | None, *, insecure: bool, insecure_network: bool) -> Security:
    """Read the CA file. Raise BadInputError, with the name of the file, if it cannot be used."""
    if insecure and ca is not None:
        raise BadInputError("Both a CA and --insecure were given. Nothing was sent. Give only one of them.")
    if ca is None:
        return Security(None, insecure, insecure_network)
    try:
        pem = ca.read_bytes()
    except (OSError, ValueError) as error:  # a path with a null byte is a ValueError
        reason = error.strerror if isinstance(error, OSError) else error
        raise TlsError(f"The CA file {ca} cannot be read ({reason}). Nothing was sent. Check the path.") from error
    if b"-----BEGIN CERTIFICATE-----" not in pem:
        raise TlsError(f"{ca} holds no certificate in PEM form. Nothing was sent. Give the ca.pem of the cluster.")
    return Security(pem)


def channel_options(keepalive_ms: tuple[int, int]) -> tuple[tuple[str, int], ...]:
    """Return the options of every channel of this SDK."""
    interval_ms, limit_ms = keepalive_ms
    return (
        *_OPTIONS,
        ("grpc.keepalive_time_ms", interval_ms),
        ("grpc.keepalive_timeout_ms", limit_ms),
        ("grpc.http2.ping_timeout_ms", limit_ms),
        ("grpc.enable_http_proxy", int(os.environ.get(PROXY_VARIABLE) == "1")),
    )


@dataclass(slots=True, eq=False)
class StreamChannel:
    """A channel that streams share. Set `is_broken` if the connection has failed: then no further stream uses it."""

    endpoint: Endpoint
    channel: grpc.aio.Channel
    streams: int = 0
    is_broken: bool = False
    pulse: Pulse = field(default_factory=Pulse)


class ChannelPool:
    """The channels by address. The number of addresses is bounded, and of their streams by the number of accounts."""

    def __init__(self, security: Security, keepalive_ms: tuple[int, int] = KEEPALIVE_MS) -> None:
        """Make an empty pool."""
        self.security = security
        self.starts = asyncio.Semaphore(STARTS_AT_ONCE)
        """Held by a stream from its first frame to its welcome."""
        self._options = channel_options(keepalive_ms)
        self._channels: dict[Endpoint, grpc.aio.Channel] = {}
        self._shared: list[StreamChannel] = []

    def get(self, endpoint: Endpoint) -> grpc.aio.Channel:
        """Return the channel for calls to an address. It connects when it is first used."""
        channel = self._channels.get(endpoint)
        if channel is None:
            channel = self._open(endpoint)
            self._channels[endpoint] = channel
        return channel

    def take(self, endpoint: Endpoint) -> StreamChannel:
        """Return a channel for one stream, which up to STREAMS_PER_CHANNEL streams share. See release()."""
        for shared in self._shared:
            if shared.endpoint == endpoint and not shared.is_broken and shared.streams < STREAMS_PER_CHANNEL:
                break
        else:
            shared = StreamChannel(endpoint, self._open(endpoint))
            self._shared.append(shared)
        shared.streams += 1
        return shared

    async def release(self, shared: StreamChannel) -> None:
        """End the use by one stream. The last one closes the channel.

        The next attempt then connects at once, without the backoff of this channel.
        """
        shared.streams -= 1
        if shared.streams == 0 and shared in self._shared:
            self._shared.remove(shared)
            await shared.channel.close()

    async def close(self) -> None:
        """Close all channels, and with them every running call."""
        while self._channels or self._shared:
            channel = self._shared.pop().channel if self._shared else self._channels.popitem()[1]
            with contextlib.suppress(grpc.aio.UsageError):
                await channel.close()

    def _open(self, endpoint: Endpoint) -> grpc.aio.Channel:
        if self.security.insecure:
            return grpc.aio.insecure_channel(str(endpoint), options=self._options)
        credentials = grpc.ssl_channel_credentials(root_certificates=self.security.ca_pem)
        return grpc.aio.secure_channel(str(endpoint), credentials, options=self._options)
