"""gRPC channels to nodes: one per address, each with a connection pool of its own, tuned to notice death early.

Options and why: without local subchannel pools, channels to one address share a connection and its backoff (grpc
20985); the reconnect backoff of up to two minutes is cut to one second (grpc 29996); keepalive finds a node that
vanished without a word while a call runs (nodes permit a ping per second); proxies of the environment are for the
web, not for a cluster.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import grpc

from parley.errors import BadInputError, TlsError
from parley.wire.endpoints import Endpoint

MAX_FRAME_BYTES = 16 * 1024 * 1024

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 1000),
    ("grpc.keepalive_timeout_ms", 1500),
    ("grpc.http2.ping_timeout_ms", 1500),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", MAX_FRAME_BYTES),
    ("grpc.max_send_message_length", MAX_FRAME_BYTES),
)


@dataclass(frozen=True, slots=True)
class Security:
    """How connections are made private. Without `ca_pem` the system's authorities are trusted."""

    ca_pem: bytes | None = None
    insecure: bool = False


def load_security(ca: Path | None, *, insecure: bool) -> Security:
    """Reads the CA file; errors name the file and what to do."""
    if insecure and ca is not None:
        raise BadInputError("Give either a CA or --insecure, not both.")
    if ca is None:
        return Security(None, insecure)
    try:
        pem = ca.read_bytes()
    except OSError as error:
        raise TlsError(
            f"The CA file {ca} cannot be read ({error.strerror}). Nothing was sent. Check the path."
        ) from error
    if b"-----BEGIN CERTIFICATE-----" not in pem:
        raise TlsError(f"{ca} holds no certificate in PEM form. Nothing was sent. Give the ca.pem of the cluster.")
    return Security(pem, False)


class ChannelPool:
    """Channels by address; as many as there are addresses, which are bounded."""

    def __init__(self, security: Security) -> None:
        """Opens nothing yet."""
        self.security = security
        self._channels: dict[Endpoint, grpc.aio.Channel] = {}

    def get(self, endpoint: Endpoint) -> grpc.aio.Channel:
        """The channel to an address; connects when first used."""
        channel = self._channels.get(endpoint)
        if channel is None:
            channel = self._open(endpoint)
            self._channels[endpoint] = channel
        return channel

    async def discard(self, endpoint: Endpoint) -> None:
        """Drops a channel that failed, so that the next try connects at once instead of waiting out its backoff."""
        channel = self._channels.pop(endpoint, None)
        if channel is not None:
            await channel.close()

    async def close(self) -> None:
        """Closes all channels and with them every call that still runs."""
        while self._channels:
            _, channel = self._channels.popitem()
            with contextlib.suppress(grpc.aio.UsageError):
                await channel.close()

    def _open(self, endpoint: Endpoint) -> grpc.aio.Channel:
        if self.security.insecure:
            return grpc.aio.insecure_channel(str(endpoint), options=_OPTIONS)
        credentials = grpc.ssl_channel_credentials(root_certificates=self.security.ca_pem)
        return grpc.aio.secure_channel(str(endpoint), credentials, options=_OPTIONS)
