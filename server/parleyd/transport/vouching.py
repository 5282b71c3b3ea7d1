"""Decides whether a node that is no member here is believed: a member known here has to vouch for it.

A node that lags or is new does not know the latest members, and one of them may lead. So messages of an unknown node
are taken after a known member described it, over mutual TLS, as a member with the same id, name and key. The first
answer that knows the node decides. It is kept for a limited time, in a bounded table. A certificate that nobody vouches
for is asked about at most once a second, whatever ids its owner invents. If no known member is left, an operator names
present ones by the setting `join`.

A node that has just joined knows no present member. The answer to its Join carries them (`introduce`). They count until
its own log contains its own admission.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import grpc
import grpc.aio
import structlog

from parley_proto.v1 import peer_pb2 as pb
from parley_proto.v1.peer_pb2_grpc import PeerStub
from parleyd.raft.types import NO_NODE, NodeId
from parleyd.storage.identity import PeerInfo
from parleyd.transport.bootstrap import decode_peer_info
from parleyd.transport.channels import ChannelFactory
from parleyd.transport.peer_calls import CallMetadata

K = TypeVar("K")
ASK_TIMEOUT_S = 2.0
BELIEVED_S = 60.0
DOUBTED_S = 1.0
MAX_VERDICTS = 64

# (the member to ask, the node to ask about) -> its answer, None if it gave none
AskMember = Callable[[PeerInfo, NodeId], Awaitable[pb.DescribeMemberReply | None]]


class Vouching:
    """What the members known here say about nodes that are not known here."""

    def __init__(self, own_id: NodeId, ask: AskMember) -> None:
        self._own_id = own_id
        self._ask = ask
        self._members: dict[NodeId, PeerInfo] = {}
        self._introduced: dict[NodeId, PeerInfo] = {}
        self._believed: dict[tuple[NodeId, str, bytes], float] = {}  # until when
        self._doubted: dict[tuple[str, bytes], float] = {}  # certificates: until when nobody is asked about them
        self._logger = structlog.get_logger("vouching")

    def update(self, members: Iterable[PeerInfo]) -> None:
        """Take over the members of the applied state."""
        self._members = {member.node_id: member for member in members}
        if self._own_id in self._members:
            self._introduced = {}

    def introduce(self, members: Iterable[PeerInfo]) -> None:
        """Believe the members that the answer to this node's Join named, until its own log knows better."""
        if self._own_id not in self._members:
            self._introduced = {member.node_id: member for member in members}

    async def is_believed(self, caller: PeerInfo, key_digest: bytes) -> bool:
        """Return whether a known member vouches for the caller; it takes at most `ASK_TIMEOUT_S`."""
        introduced = self._introduced.get(caller.node_id)
        if introduced is not None:
            return _is_same(introduced, caller, key_digest)
        who, certificate = (caller.node_id, caller.name, key_digest), (caller.name, key_digest)
        now_s = asyncio.get_running_loop().time()
        if self._believed.get(who, now_s) > now_s:
            return True
        if self._doubted.get(certificate, now_s) > now_s:
            return False
        is_new = certificate not in self._doubted
        _keep(self._doubted, certificate, now_s + ASK_TIMEOUT_S + DOUBTED_S)  # nobody else asks meanwhile
        is_believed = await self._ask_around(caller, key_digest)
        if is_believed:
            self._doubted.pop(certificate, None)
            _keep(self._believed, who, now_s + BELIEVED_S)
        else:
            _keep(self._doubted, certificate, now_s + DOUBTED_S)
        if is_believed or is_new:
            self._logger.info("unknown_node_checked", peer=caller.name, node=caller.node_id, believed=is_believed)
        return is_believed

    async def _ask_around(self, caller: PeerInfo, key_digest: bytes) -> bool:
        others = {**self._introduced, **self._members}
        vouchers = [one for node, one in others.items() if node not in (self._own_id, caller.node_id)]
        asked = [asyncio.ensure_future(self._ask(voucher, caller.node_id)) for voucher in vouchers]
        try:
            return await _first_opinion(asked, caller, key_digest)
        finally:
            for question in asked:
                question.cancel()
            await asyncio.gather(*asked, return_exceptions=True)


class MemberQuestions:
    """Asks members about nodes, each over a connection of its own."""

    def __init__(self, call_metadata: CallMetadata, make_channel: ChannelFactory) -> None:
        self._call_metadata = call_metadata
        self._make_channel = make_channel

    async def ask(self, voucher: PeerInfo, about: NodeId) -> pb.DescribeMemberReply | None:
        """Return the answer of the member with the voucher's name; None if it gives none in time.

        It is asked by name, whatever its incarnation is now: its data directory may have been replaced meanwhile.
        """
        channel = self._make_channel(voucher.name, voucher.peer_address)
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                return await PeerStub(channel).DescribeMember(
                    pb.DescribeMemberRequest(node_id=about), metadata=self._call_metadata.to(NO_NODE)
                )
        except (grpc.aio.AioRpcError, TimeoutError):
            return None
        finally:
            with contextlib.suppress(Exception):
                await channel.close(grace=None)


def _keep(table: dict[K, float], key: K, until_s: float) -> None:
    table.pop(key, None)
    while len(table) >= MAX_VERDICTS:
        del table[next(iter(table))]
    table[key] = until_s


async def _first_opinion(
    asked: Iterable[asyncio.Future[pb.DescribeMemberReply | None]], caller: PeerInfo, key_digest: bytes
) -> bool:
    for next_answer in asyncio.as_completed(asked):
        answer = await next_answer
        if answer is not None and (answer.removed or answer.HasField("member")):
            return not answer.removed and _is_same(decode_peer_info(answer.member), caller, key_digest)
    return False


def _is_same(record: PeerInfo, caller: PeerInfo, key_digest: bytes) -> bool:
    """Return whether a member's record is the caller's. Below level 3 and without TLS it has no key."""
    is_named = (record.node_id, record.name) == (caller.node_id, caller.name)
    return is_named and record.key_digest in (b"", key_digest)
