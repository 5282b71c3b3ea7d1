"""Bounds and options of the server for clients, from this node's settings."""

from __future__ import annotations

from parleyd.addresses import parse_address
from parleyd.api.admission import CallLimits
from parleyd.api.callers import owner_at
from parleyd.api.marks import MARK_BYTES
from parleyd.budgets import ByteBudget, FairPlaces, Shares, StreamBudgets, shares_of
from parleyd.connections import BusyPeers, ConnectionWatch, IdleConnections
from parleyd.delivery.device_stream import FRAME_BYTES
from parleyd.machine.limits import MAX_BODY_BYTES
from parleyd.open_files import allowed_connections
from parleyd.settings.table import Settings
from parleyd.sources import source_of_host
from parleyd.transport.channels import Options

# The longest message with its target, and room for a frame around it.
MAX_FRAME_BYTES = MAX_BODY_BYTES + 64 * 1024
CONNECTION_IDLE_MS = 10 * 60 * 1000
# 65,536 marks of all accounts, 4,096 of one, 1,024 of one device.
READ_MARKS = Shares(65_536 * MARK_BYTES, 4_096 * MARK_BYTES, 1_024 * MARK_BYTES)


def call_limits(settings: Settings) -> CallLimits:
    """Return the bounds of calls in progress."""
    return CallLimits(
        calls=settings.max_calls,
        calls_per_address=settings.max_calls_per_address,
        calls_per_account=settings.max_calls_per_account,
        streams=settings.max_clients,
        streams_per_account=settings.max_clients_per_account,
        trusted_gateways=settings.trusted_gateways,
    )


def stream_budgets(settings: Settings) -> StreamBudgets:
    """Return what all streams have in common."""
    pages = max(1, settings.max_queue_bytes // FRAME_BYTES)
    return StreamBudgets(
        sends=ByteBudget(
            Shares(settings.max_send_bytes, settings.max_account_send_bytes, settings.max_device_send_bytes)
        ),
        live=ByteBudget(
            Shares(settings.max_queue_bytes, settings.max_account_queue_bytes, settings.max_session_queue_bytes)
        ),
        pages=FairPlaces(pages, shares_of(pages, settings.max_account_queue_bytes // FRAME_BYTES)),
        marks=ByteBudget(READ_MARKS),
    )


def connection_watch(settings: Settings, busy: BusyPeers) -> ConnectionWatch:
    """Return what closes connections without calls while connections run short."""
    most = allowed_connections(settings.max_connections)
    idle = IdleConnections(most, lambda host: owner_at(source_of_host(host), host))
    return ConnectionWatch(parse_address(settings.client_listen).port, idle, busy)


def server_options(settings: Settings) -> Options:
    """Return gRPC's options."""
    return [
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 500),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", MAX_FRAME_BYTES),
        ("grpc.max_concurrent_streams", settings.max_streams_per_connection),
        # Below the first bound gRPC accepts metadata, above the second it refuses it, between them by chance.
        ("grpc.max_metadata_size", settings.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", settings.max_metadata_bytes),
        # A connection that says nothing is closed, and one beyond the number that this process has files for.
        ("grpc.server_handshake_timeout_ms", settings.handshake_timeout_ms),
        ("grpc.max_allowed_incoming_connections", allowed_connections(settings.max_connections)),
        ("grpc.max_connection_idle_ms", CONNECTION_IDLE_MS),
        # A client that disconnected without a message is detected and its stream ended.
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.http2.ping_timeout_ms", 5_000),
    ]
