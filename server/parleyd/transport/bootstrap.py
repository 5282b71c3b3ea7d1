"""Bootstraps a cluster exactly once.

Each node draws a random incarnation when it makes its data directory. That number is its Raft id. The first members
exchange their numbers (`Handshake`). When a node has all of them, it computes the cluster id, a digest of the
incarnations and names. It writes both to its identity file. Its Raft starts only then.

No node votes before it has the records of all bootstrap members. A directory that was wiped afterwards has a number
that is not among them. Its node finds a cluster that it does not belong to and stops, so it cannot elect itself in an
empty one. The first start of a cluster therefore needs all first members up. Later starts need only a majority.

A crash between two members' writes does no harm. The member that did not write asks again and receives the bootstrap
members. It finds its own number among them and adopts the cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import replace

import grpc
import grpc.aio
import structlog

from parley_proto.v1 import peer_pb2 as pb
from parley_proto.v1.peer_pb2_grpc import PeerStub
from parleyd.raft.types import NodeId
from parleyd.storage.errors import IdentityError
from parleyd.storage.identity import NodeIdentity, PeerInfo, cluster_id_of
from parleyd.transport.channels import ChannelFactory

HANDSHAKE_RETRY_INTERVAL_S = 0.1
HANDSHAKE_TIMEOUT_S = 2.0
BOOTSTRAP_LOG_INTERVAL_S = 5.0


def handshake_info_of(identity: NodeIdentity, own: PeerInfo, first_members: Mapping[str, str]) -> pb.HandshakeInfo:
    """Build what this node sends about itself."""
    return pb.HandshakeInfo(
        self=encode_peer_info(own),
        cluster_id=identity.cluster_id,
        bootstrap_members=[encode_peer_info(member) for member in identity.bootstrap_members],
        first_members=sorted(first_members),
    )


async def bootstrap_cluster(
    identity: NodeIdentity,
    own: PeerInfo,
    first_members: Mapping[str, str],
    make_channel: ChannelFactory,
) -> NodeIdentity:
    """Wait until all first members are known, or until one of them reports a cluster that exists.

    Raises IdentityError if another first member has another cluster or another set of members, or does not have this
    directory among its bootstrap members.
    """
    own_info = handshake_info_of(identity, own, first_members)
    others = {name: address for name, address in first_members.items() if name != own.name}
    logger = structlog.get_logger("bootstrap")
    last_logged: frozenset[str] | None = None
    log_again_at = 0.0
    while True:
        infos = await _handshake_all(own_info, others, make_channel)
        for name, info in infos.items():
            _check(name, info, own_info)
            if info.cluster_id:
                return _adopt(identity, own, name, info)
        if len(infos) == len(others):
            bootstrap_members = tuple(
                sorted([own, *(decode_peer_info(g.self) for g in infos.values())], key=lambda member: member.node_id)
            )
            return replace(identity, cluster_id=cluster_id_of(bootstrap_members), bootstrap_members=bootstrap_members)
        missing = frozenset(others) - frozenset(infos)
        now = asyncio.get_running_loop().time()
        if missing != last_logged or now >= log_again_at:
            logger.info(
                "bootstrap_pending",
                missing=sorted(missing),
                reason="the first start of a cluster needs all its first members up once",
            )
            last_logged, log_again_at = missing, now + BOOTSTRAP_LOG_INTERVAL_S
        await asyncio.sleep(HANDSHAKE_RETRY_INTERVAL_S)


async def _handshake_all(
    own: pb.HandshakeInfo, others: Mapping[str, str], make_channel: ChannelFactory
) -> dict[str, pb.HandshakeInfo]:
    answers = await asyncio.gather(*(handshake(own, name, address, make_channel) for name, address in others.items()))
    return {name: answer for name, answer in zip(others, answers, strict=True) if answer is not None}


async def handshake(
    own: pb.HandshakeInfo, name: str, address: str, make_channel: ChannelFactory
) -> pb.HandshakeInfo | None:
    """Request the record of the node at `address`; None if it does not reply. Raises IdentityError if it refuses."""
    channel = make_channel(name, address)
    try:
        stub = PeerStub(channel)
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            return await stub.Handshake(own)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.PERMISSION_DENIED:
            raise IdentityError(f"{name} at {address} refuses this node: {error.details()}") from error
        return None
    except TimeoutError:
        return None
    finally:
        with contextlib.suppress(Exception):
            await channel.close(grace=None)


def _check(name: str, info: pb.HandshakeInfo, own: pb.HandshakeInfo) -> None:
    if info.self.name != name:
        raise IdentityError(
            f"the node at the address of {name} says it is {info.self.name}. Nothing was started. "
            "Correct the peers setting of this node or the name setting of that one."
        )
    if not info.cluster_id and list(info.first_members) != list(own.first_members):
        raise IdentityError(
            f"{name} is configured to bootstrap a cluster of {', '.join(info.first_members)}, this node one of "
            f"{', '.join(own.first_members)}. Nothing was started. Give every first member the same peers setting."
        )


def _adopt(identity: NodeIdentity, own: PeerInfo, name: str, info: pb.HandshakeInfo) -> NodeIdentity:
    bootstrap_members = tuple(decode_peer_info(member) for member in info.bootstrap_members)
    if cluster_id_of(bootstrap_members) != info.cluster_id:
        raise IdentityError(f"{name} names bootstrap members that do not match its cluster id. Nothing was started.")
    if own.node_id not in {member.node_id for member in bootstrap_members}:
        raise IdentityError(
            f"the cluster of {name} exists already and does not have this data directory, which is new or was wiped. "
            "It was not started, because it could vote a second time in place of the directory that was lost. No "
            "message is lost while a majority of the other nodes has its data. Restore the old data directory, or "
            f"remove the old member (parley cluster remove {own.name}) and start this node with --join in the place "
            f"of --peer. Then admit it: parley cluster add {own.name} {own.peer_address}."
        )
    return replace(identity, cluster_id=info.cluster_id, bootstrap_members=bootstrap_members)


def encode_peer_info(member: PeerInfo) -> pb.PeerInfo:
    """Encode a node's record for the wire."""
    return pb.PeerInfo(
        node_id=member.node_id,
        name=member.name,
        peer_address=member.peer_address,
        client_address=member.client_address,
        min_level=member.min_level,
        max_level=member.max_level,
        key_digest=member.key_digest,
    )


def decode_peer_info(encoded: pb.PeerInfo) -> PeerInfo:
    """Decode a node's record from the wire."""
    return PeerInfo(
        node_id=NodeId(encoded.node_id),
        name=encoded.name,
        peer_address=encoded.peer_address,
        client_address=encoded.client_address,
        min_level=encoded.min_level,
        max_level=encoded.max_level,
        key_digest=encoded.key_digest,
    )
