"""Who may call which peer RPC: one table, and the check of a caller's identity and standing.

Every call names its cluster, its caller and its receiver. The node refuses a call for another cluster or another
incarnation before it uses any content. It also refuses a caller that its certificate does not name, and a removed node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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

Context = grpc.aio.ServicerContext[Any, Any]
PeerNameOf = Callable[[Mapping[str, Iterable[bytes]]], str | None]


class Standing(Enum):
    """What a caller has to be."""

    CERTIFIED = auto()  # it has a certificate of this cluster's CA, in the name that it gives
    KNOWN = auto()  # it names its cluster, itself and this node, and it was not removed
    MEMBER = auto()  # the membership applied here has it


REQUIRED: Final[dict[str, Standing]] = {
    "Handshake": Standing.CERTIFIED,
    "Join": Standing.CERTIFIED,
    "CountLogIn": Standing.MEMBER,
    "Deliver": Standing.KNOWN,
    "InstallSnapshot": Standing.KNOWN,
    "Forward": Standing.MEMBER,
    "ChangeCluster": Standing.MEMBER,
    "FetchState": Standing.MEMBER,
    "Rebuild": Standing.MEMBER,
}


class PeerAdmission:
    """Checks the callers of one node's peer port, for one life of its state."""

    def __init__(
        self, cluster_id: str, node_id: NodeId, registry: PeerRegistry, peer_name_of: PeerNameOf | None
    ) -> None:
        """Keep what callers are compared with. `peer_name_of` reads the name from a certificate; None without TLS."""
        self._cluster_id = cluster_id
        self._node_id = node_id
        self.registry = registry
        self._peer_name_of = peer_name_of

    async def identify(self, context: Context) -> PeerInfo:
        """Return the caller's record, after all checks that need no content; ends the call for anybody else."""
        metadata = dict(context.invocation_metadata() or ())
        if metadata.get(METADATA_CLUSTER) != self._cluster_id:
            await refuse(context, f"this node belongs to cluster {self._cluster_id}, the caller to another")
        if metadata.get(METADATA_TO) != str(self._node_id):
            await refuse(context, "the call is for another incarnation of this node, whose data directory was replaced")
        caller = _caller(metadata)
        if caller is None:
            await refuse(context, "the caller sends no identity. A node of this release sends one.")
        if self.registry.is_removed(caller.node_id):
            await refuse_removed(context, caller.name)
        known = self.registry.member(caller.node_id)
        if known is None and self.registry.is_full:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "too many nodes call that are no members here. Try again later."
            )
        await check_certificate(caller.name if known is None else known.name, self._peer_name_of, context)
        return known or caller

    async def admit(self, rpc: str, context: Context) -> PeerInfo:
        """Identify the caller of `rpc` and check that it has the standing that `rpc` requires."""
        caller = await self.identify(context)
        await self.check_standing(rpc, caller, context)
        return caller

    async def check_standing(self, rpc: str, caller: PeerInfo, context: Context) -> None:
        """End the call unless the caller has the standing that `rpc` requires now; members come and go meanwhile."""
        if self.registry.is_removed(caller.node_id):
            await refuse_removed(context, caller.name)
        if REQUIRED[rpc] is Standing.MEMBER and not self.registry.is_member(caller.node_id):
            await refuse(context, f"only members may call {rpc}, and {caller.name} is none here. Nothing was done")


async def check_certificate(name: str, peer_name_of: PeerNameOf | None, context: Context) -> None:
    """End the call unless the caller's certificate is for node `name`."""
    if peer_name_of is None:
        return
    certified = peer_name_of(context.auth_context())
    if certified != name:
        structlog.get_logger("peer").warning("peer_certificate_refused", claims=name, certified=certified)
        await context.abort(
            grpc.StatusCode.PERMISSION_DENIED,
            f"the caller is {name!r}, but its certificate is for {certified!r}. Issue one with parleyd cert.",
        )


async def refuse(context: Context, why: str) -> NoReturn:
    """End the call; nothing was done."""
    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, why)


async def refuse_removed(context: Context, name: str) -> NoReturn:
    """End the call of a removed node, with a mark that its program understands."""
    context.set_trailing_metadata(((METADATA_REMOVED, "1"),))
    await refuse(
        context,
        f"{name} was removed from this cluster, with the data directory it has now. It is not admitted again. To bring "
        "the machine back, move its data directory away and start the node with --join",
    )


def _caller(metadata: Mapping[str, str | bytes]) -> PeerInfo | None:
    """Return the caller's own record; None if it sends none or contradicts itself."""
    record, claimed = metadata.get(METADATA_SELF), metadata.get(METADATA_FROM)
    if not isinstance(record, bytes):
        return None
    try:
        caller = decode_peer_info(pb.PeerInfo.FromString(record))
    except DecodeError:
        return None
    return caller if caller.node_id and caller.name and claimed == str(caller.node_id) else None
