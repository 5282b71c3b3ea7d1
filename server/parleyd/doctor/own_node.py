"""Asks the node that runs on this machine for its whole status, with the token of its data directory."""

from __future__ import annotations

import time
from pathlib import Path

import grpc

from parley_proto.v1 import admin_pb2, admin_pb2_grpc
from parleyd.addresses import parse_address
from parleyd.doctor.facts import NodeLook
from parleyd.doctor.network import reachable
from parleyd.security.certificates import node_dns_name
from parleyd.settings.table import Settings

TIMEOUT_S = 5.0
TOKEN_KEY = "x-parley-operator"  # noqa: S105 - the metadata key, not a secret


def ask_own_node(settings: Settings) -> tuple[NodeLook, dict[str, str]]:
    """Return the status, and the peer addresses of the other members by name; empty if the node does not tell."""
    try:
        token = (settings.data_dir / "operator.token").read_text().strip()
        answer, asked_ms, answered_ms = _ask(settings, token)
    except (OSError, grpc.RpcError) as error:
        return NodeLook(error=_text(error)), {}
    if not answer.version:
        return NodeLook(error="it does not accept the token in its data directory"), {}
    others = [member for member in answer.members if member.name != answer.node_name]
    look = NodeLook(
        serving=answer.serving,
        removed=answer.removed,
        divergence=answer.divergence,
        wrong_clocks=answer.clock,
        cluster_ahead_ms=answer.cluster_time_ms - int((asked_ms + answered_ms) / 2),
        disconnected=tuple(member.name for member in others if not member.connected),
    )
    return look, {member.name: member.peer_address for member in others if member.peer_address}


def _ask(settings: Settings, token: str) -> tuple[admin_pb2.GetStatusResponse, float, float]:
    target = str(reachable(parse_address(settings.client_listen)))
    with _channel(settings, target) as channel:
        asked_ms = time.time() * 1000
        answer = admin_pb2_grpc.AdminStub(channel).GetStatus(
            admin_pb2.GetStatusRequest(), metadata=((TOKEN_KEY, token),), timeout=TIMEOUT_S, wait_for_ready=False
        )
        return answer, asked_ms, time.time() * 1000


def _channel(settings: Settings, target: str) -> grpc.Channel:
    options = [("grpc.enable_http_proxy", 0)]
    if settings.insecure or settings.ca_file is None:
        return grpc.insecure_channel(target, options)
    # The certificate names the addresses that clients use, and always the node.
    named = [*options, ("grpc.ssl_target_name_override", node_dns_name(settings.name))]
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(Path(settings.ca_file).read_bytes()), named)


def _text(error: Exception) -> str:
    if isinstance(error, grpc.RpcError):
        details = getattr(error, "details", None)
        return str(details() if callable(details) else error)
    return str(error)
