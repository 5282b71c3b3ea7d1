"""gRPC options shared by the two ends of a peer connection, and the factory of channels to peers.

Keepalive finds a silent peer in about two seconds. The closed socket of a dead process is noticed at once.
"""

from __future__ import annotations

from collections.abc import Callable

import grpc
import grpc.aio

MAX_PEER_MESSAGE_BYTES = 16 * 1024 * 1024

Options = list[tuple[str, str | int]]
ChannelFactory = Callable[[str, str], grpc.aio.Channel]  # (node name, address)

# Peers have connections of their own, beside those of clients: a node has one to each member. peer_bounds.py divides
# them.
MAX_PEER_CONNECTIONS = 256
# A member always has a call in progress. A connection without one may be held to keep members away, so it ends soon.
PEER_IDLE_MS = 2_000
# A link has three streams, and short calls beside them. More calls than this wait at the caller.
MAX_STREAMS_PER_CONNECTION = 64

SERVER_OPTIONS: Options = [
    ("grpc.max_allowed_incoming_connections", MAX_PEER_CONNECTIONS),
    ("grpc.server_handshake_timeout_ms", 3_000),
    ("grpc.max_connection_idle_ms", PEER_IDLE_MS),
    ("grpc.max_concurrent_streams", MAX_STREAMS_PER_CONNECTION),
    ("grpc.max_receive_message_length", MAX_PEER_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_PEER_MESSAGE_BYTES),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
    # Two servers on one port would each get half of the connections. A port that is in use must be an error.
    ("grpc.so_reuseport", 0),
]

CHANNEL_OPTIONS: Options = [
    ("grpc.max_receive_message_length", MAX_PEER_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_PEER_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 1_000),
    ("grpc.keepalive_timeout_ms", 1_000),
    # Current gRPC uses this option. Its default is one minute.
    ("grpc.http2.ping_timeout_ms", 1_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # By default, channels with equal options share a connection and its backoff (grpc issue 20985).
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # An attempt is given up after this time. Handshakes over a long line, or of a busy node, take more than a second.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_retries", 0),
]

NO_PROXY: Options = [("grpc.enable_http_proxy", 0)]
"""Proxies of the environment (http_proxy, https_proxy, grpc_proxy) are for the web. A node behind one finds no peer."""


def peer_channel(
    address: str,
    credentials: grpc.ChannelCredentials | None,
    extra_options: Options | None = None,
    *,
    use_proxy: bool = False,
) -> grpc.aio.Channel:
    """Open a new connection to a peer, without TLS if `credentials` is None; through a proxy only if asked for."""
    options = CHANNEL_OPTIONS + ([] if use_proxy else NO_PROXY) + (extra_options or [])
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=options)
    return grpc.aio.secure_channel(address, credentials, options=options)
