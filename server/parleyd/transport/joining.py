"""Makes a new node a member of a cluster that exists, and then a voter.

The node sends `Join` to any member, over mutual TLS with a certificate in its own name. An administrator admits it, by
name or by a join token. Until then the node repeats the request. The leader adds it as a learner. The reply contains
what the cluster's empty state begins with. The node makes its files from that and writes its identity last. From then
on it receives everything that a member receives. It repeats `Join` until it is a voter. The leader decides when it has
caught up. Every step may be repeated: after a crash, the node starts again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import grpc
import grpc.aio
import structlog

from parley_proto.v1 import peer_pb2 as pb
from parley_proto.v1.peer_pb2_grpc import PeerStub
from parleyd.retry import ask_until_answered
from parleyd.storage.errors import IdentityError
from parleyd.storage.identity import NodeIdentity, PeerInfo, cluster_id_of
from parleyd.transport.bootstrap import decode_peer_info, encode_peer_info
from parleyd.transport.channels import ChannelFactory
from parleyd.transport.peer_calls import was_refused_as_removed

JOIN_RETRY_INTERVAL_S = 0.2
JOIN_TIMEOUT_S = 15.0
JOIN_LOG_INTERVAL_S = 5.0


class RemovedError(IdentityError):
    """The cluster removed this data directory."""


class JoinClient:
    """A node that is joining a cluster."""

    def __init__(
        self, own: PeerInfo, make_channel: ChannelFactory, group: int, read_token: Callable[[], str] = lambda: ""
    ) -> None:
        """Prepare the requests; `read_token` returns the join token, empty if there is none yet."""
        self._own = own
        self._read_token = read_token
        self.members: tuple[PeerInfo, ...] = ()  # of the cluster, as the last reply named them
        self._group = group
        self._make_channel = make_channel
        self._logger = structlog.get_logger("joining")
        self._last_logged = ""
        self._log_again_at = 0.0

    async def join(self, identity: NodeIdentity, contacts: Mapping[str, str]) -> NodeIdentity:
        """Repeat the request until a cluster admits this node; raises IdentityError for a final refusal."""
        reply = await ask_until_answered(lambda: self._ask(identity, contacts), _pause)
        bootstrap_members = tuple(decode_peer_info(member) for member in reply.bootstrap_members)
        if cluster_id_of(bootstrap_members) != reply.cluster_id:
            raise IdentityError(
                "a member names bootstrap members that do not match its cluster id. Nothing was started."
            )
        return replace(identity, cluster_id=reply.cluster_id, bootstrap_members=bootstrap_members)

    async def become_voter(
        self,
        identity: NodeIdentity,
        contacts: Callable[[], Mapping[str, str]],
        is_voter: Callable[[], bool],
        introduce: Callable[[Iterable[PeerInfo]], None],
    ) -> None:
        """Repeat the request until this node is a voter; raises RemovedError or IdentityError.

        It sends at least one request: a voter of another cluster than the one at these addresses must not continue.
        `introduce` takes the members that each reply names.
        """
        introduce(self.members)

        async def ask() -> bool | None:
            reply = await self._ask(identity, contacts())
            introduce(self.members)
            if is_voter() or (reply is not None and reply.voter):
                return True
            if reply is not None:
                self._log_pending(f"learner: {reply.waits_for}")
            return None

        await ask_until_answered(ask, _pause)

    async def _ask(self, identity: NodeIdentity, contacts: Mapping[str, str]) -> pb.JoinReply | None:
        """Return the first useful reply of a contact; None if no contact can give one now."""
        request = pb.JoinRequest(
            self=encode_peer_info(self._own),
            cluster_id=identity.cluster_id,
            group=self._group,
            token=self._read_token(),
        )
        reasons = []
        for name, address in contacts.items():
            try:
                reply = await self._ask_one(request, name, address)
                self.members = tuple(decode_peer_info(member) for member in reply.members)
                return reply
            except grpc.aio.AioRpcError as error:
                reason = error.details() or error.code().name
                if was_refused_as_removed(error):
                    raise RemovedError(reason) from error
                if error.code() in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.PERMISSION_DENIED):
                    raise IdentityError(
                        f"{name} at {address} refuses this node: {reason}. Nothing was changed."
                    ) from error
                reasons.append(f"{name} at {address}: {reason}")
        if not identity.has_cluster:
            self._log_pending("; ".join(reasons))
        return None

    async def _ask_one(self, request: pb.JoinRequest, name: str, address: str) -> pb.JoinReply:
        channel = self._make_channel(name, address)
        try:
            return await PeerStub(channel).Join(request, timeout=JOIN_TIMEOUT_S)
        finally:
            with contextlib.suppress(Exception):
                await channel.close(grace=None)

    def _log_pending(self, why: str) -> None:
        now = asyncio.get_running_loop().time()
        if why != self._last_logged or now >= self._log_again_at:
            self._last_logged, self._log_again_at = why, now + JOIN_LOG_INTERVAL_S
            self._logger.info("join_pending", reason=why)


async def _pause() -> None:
    await asyncio.sleep(JOIN_RETRY_INTERVAL_S)
