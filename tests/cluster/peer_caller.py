"""Calls the peer port of a real node over TLS, as whoever the test wants to be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from parley_proto.v1 import peer_pb2 as pb
from parley_proto.v1.peer_pb2_grpc import PeerStub
from parleyd.machine.levels import NODE_KEYS_LEVEL
from parleyd.security.certificates import issue_node_certificate
from parleyd.transport.peer_calls import METADATA_CLUSTER, METADATA_FROM, METADATA_SELF, METADATA_TO
from scripts.cluster_layout import Layout
from scripts.cluster_local import LocalCluster

Pair = tuple[bytes, bytes]  # certificate and key, PEM


def pair_of(layout: Layout, name: str) -> Pair:
    """The certificate and key of a node."""
    folder = layout.folder(name)
    return (folder / "node.pem").read_bytes(), (folder / "node.key").read_bytes()


def replace_pair(layout: Layout, name: str) -> None:
    """Give a node a new certificate and a new key, which it has from its next start on."""
    host, _, _ = layout.node(name).peer_address.rpartition(":")
    folder = layout.folder(name)
    for file, content in zip(("node.pem", "node.key"), issue(layout, name, host), strict=True):
        (folder / file).write_bytes(content)


def issue(layout: Layout, name: str, host: str = "127.0.0.1") -> Pair:
    """A new certificate of the cluster's CA, with a new key."""
    authority = x509.load_pem_x509_certificate(layout.ca_file.read_bytes())
    key = serialization.load_pem_private_key((layout.root / "ca" / "ca.key").read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    issued = issue_node_certificate(authority, key, name, [host])
    return issued.certificate_pem, issued.key_pem


@dataclass(frozen=True)
class Caller:
    """Whom a call says it comes from, and the certificate that it shows."""

    node_id: int
    name: str
    pair: Pair | None


async def node_ids(cluster: LocalCluster, asked: str) -> dict[str, int]:
    """The members' ids by name."""
    status = await cluster.status(asked)
    assert status is not None
    return {member.name: member.node_id for member in status.members}


async def keys_count(cluster: LocalCluster) -> None:
    """Every node has the level that knows keys; raises AssertionError until then."""
    for name in cluster.names:
        status = await cluster.status(name)
        assert status is not None
        assert status.level >= NODE_KEYS_LEVEL


@asynccontextmanager
async def peer_stub(
    cluster: LocalCluster, node: str, caller: Caller
) -> AsyncIterator[tuple[PeerStub, tuple[tuple[str, str | bytes], ...]]]:
    """A stub of the node's peer port as `caller`, and the metadata that its calls need."""
    status = await cluster.status(node)
    assert status is not None
    chain, key = caller.pair or (None, None)
    credentials = grpc.ssl_channel_credentials(cluster.ca_file.read_bytes(), key, chain)
    options = (("grpc.ssl_target_name_override", f"{node}.node.parley"),)
    record = pb.PeerInfo(
        node_id=caller.node_id, name=caller.name, peer_address="127.0.0.1:1", client_address="127.0.0.1:2", max_level=99
    )
    metadata: tuple[tuple[str, str | bytes], ...] = (
        (METADATA_CLUSTER, status.cluster_id),
        (METADATA_FROM, str(caller.node_id)),
        (METADATA_TO, str(status.node_id)),
        (METADATA_SELF, record.SerializeToString()),
    )
    address = cluster.layout.node(node).peer_address
    async with grpc.aio.secure_channel(address, credentials, options) as channel:
        yield PeerStub(channel), metadata
