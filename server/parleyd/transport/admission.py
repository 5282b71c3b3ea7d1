"""Who may call which peer RPC: one table, and the check of a caller's identity and standing.

Every call names its cluster, its caller and its receiver. The node refuses a call for another cluster or another
incarnation before it uses any content. It also refuses a caller that its certificate does not name, and a removed node.

A node that lags or is new must accept messages of a leader, and vote for a candidate, that joined after what it has
applied (thesis §4.1). So Deliver and InstallSnapshot are open to whom a known member vouches for (vouching.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, NoReturn

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError

from parley_proto.v1 import peer_pb2 as pb
from parleyd.raft.types import NodeId
from parleyd.storage.identity import PeerInfo
from parleyd.transport.bootstrap import decode_peer_info
from parleyd.transport.peer_calls import (
    METADATA_CLUSTER,
    METADATA_FROM,
    METADATA_REMOVED,
    METADATA_SELF,
    METADATA_TO,
)
from parleyd.transport.peer_registry import PeerRegistry
from parleyd.transport.vouching import Vouching

BELIEF_TIMEOUT_S = 5.0
BELIEF_PAUSE_S = 0.5

Context = grpc.aio.ServicerContext[Any, Any]
AuthContext = Mapping[str, Iterable[bytes]]


class Standing(Enum):
    """What a caller has to be."""

    CERTIFIED = auto()  # it has a certificate of this cluster's CA, in the name that it gives
    VOUCHED = auto()  # a member, or a node that a member known here vouches for
    MEMBER = auto()  # the membership applied here has it


REQUIRED: Final[dict[str, Standing]] = {
    "Handshake": Standing.CERTIFIED,
    "Join": Standing.CERTIFIED,
    "CountLogIn": Standing.MEMBER,
    "Deliver": Standing.VOUCHED,
    "InstallSnapshot": Standing.VOUCHED,
    "Forward": Standing.MEMBER,
    "ChangeCluster": Standing.MEMBER,
    "FetchState": Standing.MEMBER,
    "Rebuild": Standing.MEMBER,
    "DescribeMember": Standing.MEMBER,
    "AnnounceMember": Standing.MEMBER,
    "ListHolders": Standing.MEMBER,
    "ReportStatus": Standing.MEMBER,
}


@dataclass(frozen=True, slots=True)
class CertificateReader:
    """Reads a caller's certificate from the TLS context of its call."""

    name_of: Callable[[AuthContext], str | None]
    key_digest_of: Callable[[AuthContext], bytes]
    certificate_digest_of: Callable[[AuthContext], bytes]


@dataclass(frozen=True, slots=True)
class Caller:
    """An identified caller: the member's record, or what it sends, and the digests of its key and its certificate.

    Without TLS the digests are empty.
    """

    info: PeerInfo
    key_digest: bytes
    certificate_digest: bytes = b""


class PeerAdmission:
    """Checks the callers of one node's peer port, for one life of its state."""

    def __init__(
        self,
        cluster_id: str,
        node_id: NodeId,
        registry: PeerRegistry,
        vouching: Vouching,
        certificates: CertificateReader | None,
    ) -> None:
        """Keep what callers are compared with. `certificates` is None without TLS."""
        self._cluster_id = cluster_id
        self._node_id = node_id
        self.registry = registry
        self._vouching = vouching
        self._certificates = certificates

    async def admit(self, rpc: str, context: Context, *, any_incarnation: bool = False) -> Caller:
        """Identify the caller of `rpc` and check that it has the standing that `rpc` requires."""
        caller = await self.identify(context, any_incarnation=any_incarnation)
        await self.check_standing(rpc, caller, context)
        return caller

    async def identify(self, context: Context, *, any_incarnation: bool = False) -> Caller:
        """Return the caller, after all checks that need no content; ends the call for anybody else."""
        metadata = dict(context.invocation_metadata() or ())
        if metadata.get(METADATA_CLUSTER) != self._cluster_id:
            await refuse(context, f"this node belongs to cluster {self._cluster_id}, the caller to another")
        if metadata.get(METADATA_TO) != str(self._node_id) and not any_incarnation:
            await refuse(context, "the call is for another incarnation of this node, whose data directory was replaced")
        sent = _sent_record(metadata)
        if sent is None:
            await refuse(context, "the caller sends no identity. A node of this release sends one.")
        if self.registry.is_removed(sent.node_id):
            await refuse_removed(context, sent.name)
        known = self.registry.member(sent.node_id)
        info = known or sent
        await check_certificate(info.name, self._certificates, context)
        caller = Caller(info, *digests_of(self._certificates, context))
        if known is not None:
            await self._check_key(caller, context)
            self.registry.called_with(info.node_id, caller.certificate_digest)
        return caller

    async def _check_key(self, caller: Caller, context: Context) -> None:
        if self.registry.is_key_barred(caller.key_digest):
            await refuse(
                context,
                f"the cluster refuses this key of {caller.info.name}: its node was removed, or has a newer key. Make a "
                f"new one (parleyd cert node {caller.info.name}) and restart the node",
            )

    async def check_standing(self, rpc: str, caller: Caller, context: Context) -> None:
        """End the call unless the caller has the standing that `rpc` requires now; members come and go meanwhile."""
        node, name = caller.info.node_id, caller.info.name
        if self.registry.is_revoked((caller.key_digest, caller.certificate_digest)):
            await refuse_revoked(context, name)
        if self.registry.is_removed(node):
            await refuse_removed(context, name)
        if self.registry.is_member(node):
            await self._check_key(caller, context)
        elif REQUIRED[rpc] is Standing.MEMBER:
            await refuse(context, f"only members may call {rpc}, and {name} is none here. Nothing was done")

    async def is_believed(self, caller: Caller) -> bool:
        """Return whether the caller is a member, or a member vouches for it."""
        if self.registry.is_member(caller.info.node_id):
            return True
        return await self._vouching.is_believed(caller.info, caller.key_digest)

    async def wait_for_standing(self, rpc: str, caller: Caller, context: Context) -> None:
        """Return once the caller has the standing that `rpc` requires. End the call of whom nobody vouches for in time.

        A link opens its streams before it needs them, and its node's admission may become known here later. Until then
        nothing of the streams is read.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + BELIEF_TIMEOUT_S
        while True:
            if self.registry.is_member(caller.info.node_id):
                return
            if await self.is_believed(caller):
                if REQUIRED[rpc] is Standing.VOUCHED:
                    return
                until = loop.time() + BELIEF_TIMEOUT_S
            elif loop.time() >= until:
                await self.check_standing(rpc, caller, context)
                name = caller.info.name
                await context.abort(
                    grpc.StatusCode.UNAVAILABLE,
                    f"no member known here vouches for {name}. Nothing was read. Try again.",
                )
            await asyncio.sleep(BELIEF_PAUSE_S)


def digests_of(certificates: CertificateReader | None, context: Context) -> tuple[bytes, bytes]:
    """Return the digests of the caller's key and of its certificate; empty ones without TLS."""
    if certificates is None:
        return b"", b""
    auth_context = context.auth_context()
    return certificates.key_digest_of(auth_context), certificates.certificate_digest_of(auth_context)


async def check_certificate(name: str, certificates: CertificateReader | None, context: Context) -> None:
    """End the call unless the caller's certificate is for node `name`."""
    if certificates is None:
        return
    certified = certificates.name_of(context.auth_context())
    if certified != name:
        structlog.get_logger("peer").warning("peer_certificate_refused", claims=name, certified=certified)
        await context.abort(
            grpc.StatusCode.PERMISSION_DENIED,
            f"the caller is {name!r}, but its certificate is for {certified!r}. Issue one with parleyd cert.",
        )


async def refuse(context: Context, why: str) -> NoReturn:
    """End the call; nothing was done."""
    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, why)


async def refuse_revoked(context: Context, name: str) -> NoReturn:
    """End the call of a revoked certificate; nothing was done."""
    structlog.get_logger("peer").warning("peer_certificate_revoked", claims=name)
    await context.abort(
        grpc.StatusCode.PERMISSION_DENIED,
        f"an administrator revoked the certificate or the key of the caller, {name}. Nothing was done. Give the node a "
        f"new key (parleyd cert renew {name}.pem --new-key)",
    )


async def refuse_removed(context: Context, name: str) -> NoReturn:
    """End the call of a removed node, with a mark that its program understands."""
    context.set_trailing_metadata(((METADATA_REMOVED, "1"),))
    await refuse(
        context,
        f"{name} was removed from this cluster, with the data directory it has now. It is not admitted again. To bring "
        "the machine back, move its data directory away, start the node with --join, and admit it: parley cluster add",
    )


def _sent_record(metadata: Mapping[str, str | bytes]) -> PeerInfo | None:
    """Return the caller's own record; None if it sends none or contradicts itself."""
    record, claimed = metadata.get(METADATA_SELF), metadata.get(METADATA_FROM)
    if not isinstance(record, bytes):
        return None
    try:
        caller = decode_peer_info(pb.PeerInfo.FromString(record))
    except DecodeError:
        return None
    return caller if caller.node_id and caller.name and claimed == str(caller.node_id) else None


def claimed_name(context: Context) -> str:
    """Return the name that a caller without a certificate gives itself; empty if it gives none."""
    sent = _sent_record(dict(context.invocation_metadata() or ()))
    return "" if sent is None else sent.name
