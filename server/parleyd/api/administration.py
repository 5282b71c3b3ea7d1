"""The Admin service: this node's status, changes of the cluster's members, and its settings."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Protocol

import grpc

from parley_proto.v1 import admin_pb2 as pb
from parley_proto.v1 import peer_pb2, state_pb2
from parleyd.addresses import AddressError, parse_address
from parleyd.api.account_administration import AccountAdministration
from parleyd.api.auth import Authenticator
from parleyd.api.cluster_status import all_settings, audit_page, full_status, public_status
from parleyd.api.cluster_view import ClusterView
from parleyd.api.commands import Commands
from parleyd.api.errors import ApiError, Context, unary
from parleyd.api.events import EventFollowers
from parleyd.api.noted_requests import NotedRequests
from parleyd.api.requests import check_number, page_bytes, page_size
from parleyd.api.revocations import RevocationCalls
from parleyd.machine import authorisation
from parleyd.machine.authorisation import Action
from parleyd.machine.features.sessions import SessionRecord
from parleyd.machine.records import MemberRow
from parleyd.raft.types import NodeId
from parleyd.retry import ask_until_answered
from parleyd.security.names import InvalidInputError, validate_node_name
from parleyd.security.passwords import PasswordHasher
from parleyd.security.tokens import new_token
from parleyd.transport.peer_calls import ForwardFailedError

CHANGE_TIMEOUT_S = 10.0
LINK_WAIT_S = 5.0
"""How long a node may be without a link before a rebuild is refused. A rebuild itself breaks links for a moment."""
LINK_RETRY_S = 0.1
NODE_INVITATION_S = 86_400
REBUILD_NOTED_EVERY_S = 600
OPERATOR_TOKEN = "x-parley-operator"  # noqa: S105 - the metadata key

RebuildCall = Callable[[NodeId], Awaitable[peer_pb2.RebuildReply]]  # raises ForwardFailedError
HandshakeCall = Callable[[str, str], Awaitable[peer_pb2.HandshakeInfo | None]]  # (node name, peer address)


class ChangeRouter(Protocol):
    """Forwards membership changes to the leader."""

    async def submit(self, change: peer_pb2.ClusterChange, *, timeout_s: float) -> peer_pb2.ClusterChangeReply:
        """Make `change`; never raises."""


class BackupSource(Protocol):
    """Makes backups of this node's state."""

    def stream(self) -> AsyncGenerator[pb.BackupChunk]:
        """Make one and return its file in order; raises BackupBusyError and CopyFailedError."""


class AdminService(AccountAdministration, RevocationCalls):
    """Reports about this node, and changes the cluster for administrators."""

    def __init__(
        self,
        view: ClusterView,
        authenticator: Authenticator,
        commands: Commands,
        change_router: ChangeRouter,
        handshake: HandshakeCall,
        rebuild: RebuildCall,
        passwords: PasswordHasher,
        backups: BackupSource,
        restart: Callable[[], None],
        events: EventFollowers,
        operator_token: str = "",
    ) -> None:
        """Keep the parts. Whoever sends `operator_token` gets the whole status; empty: nobody does by a token."""
        AccountAdministration.__init__(self, authenticator, commands, passwords, view.replica.readers)
        RevocationCalls.__init__(self, view, authenticator, commands)
        self._requests = NotedRequests(commands, lambda: authenticator.now_ms)
        self._change_router = change_router
        self._handshake = handshake
        self._rebuild = rebuild
        self._backups = backups
        self._restart = restart
        self._events = events
        self._operator_token = operator_token
        self._started = time.monotonic()

    @unary
    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.GetStatusResponse:  # noqa: N802
        """Return this node's view of itself and of the others; to strangers what a client needs to find the leader."""
        if self._is_operator(context) or await self._authenticator.known_session(context) is not None:
            return await full_status(self._view, time.monotonic() - self._started)
        return public_status(self._view)

    def _is_operator(self, context: Context) -> bool:
        sent = dict(context.invocation_metadata() or ()).get(OPERATOR_TOKEN, "")
        return bool(self._operator_token) and hmac.compare_digest(str(sent), self._operator_token)

    @unary
    async def InviteNode(self, request: pb.InviteNodeRequest, context: Context) -> pb.InviteNodeResponse:  # noqa: N802
        """Return a token that lets one new node join."""
        session = await self._authenticator.session_that_may(context, Action.CHANGE_CLUSTER)
        valid_s = request.valid_s or NODE_INVITATION_S
        token, token_digest = new_token()
        command = state_pb2.InviteNode(
            session_id=session.session_id, token_digest=token_digest, valid_ms=valid_s * 1000
        )
        await self._commands.apply(state_pb2.Command(invite_node=command))
        return pb.InviteNodeResponse(token=token, valid_s=valid_s)

    @unary
    async def AddMember(self, request: pb.AddMemberRequest, context: Context) -> pb.ClusterChangeResponse:  # noqa: N802
        """Add the new node that waits at an address, as a learner."""
        session = await self._session_that_may_now(context, request.name)
        validate_node_name(request.name)
        try:
            parse_address(request.peer_address)
        except AddressError as error:
            raise InvalidInputError("peer_address", f"{request.peer_address!r}: {error}") from error
        info = await self._handshake(request.name, request.peer_address)
        if info is None:
            raise ApiError(grpc.StatusCode.FAILED_PRECONDITION, self._why_nobody_answers(request))
        own_cluster = self._view.identity.cluster_id
        if info.self.name != request.name or info.cluster_id not in ("", own_cluster):
            belongs = f", and it belongs to cluster {info.cluster_id}" if info.cluster_id else ""
            raise ApiError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"The node at {request.peer_address} is {info.self.name}{belongs}. Nothing was changed. "
                f"Give {request.name} an empty data directory and start it with --join.",
            )
        if info.self.node_id not in self._view.replica.members.rows:
            await self._requests.note(session, state_pb2.NOTED_REQUEST_ADD_MEMBER, request.name)
        return await self._change(peer_pb2.ClusterChange(add=info.self, admitted=True))

    def _why_nobody_answers(self, request: pb.AddMemberRequest) -> str:
        silent = f"No node answers at {request.peer_address}, or not with a certificate of {request.name}."
        row = self._view.replica.members.named(request.name)
        if row is None:
            return f"{silent} Nothing was changed. Start it there with --join first."
        return (
            f"{silent} {request.name} is a member already, with the address {row.peer_address}. Nothing was changed. "
            "Start the node with its data directory."
        )

    @unary
    async def PromoteMember(  # noqa: N802
        self, request: pb.PromoteMemberRequest, context: Context
    ) -> pb.ClusterChangeResponse:
        """Make a learner a voter."""
        session = await self._session_that_may_now(context, request.name)
        row = self._view.replica.members.named(request.name)
        if row is not None and row.node_id not in self._view.replica.raft.conf_state.voters:
            await self._requests.note(session, state_pb2.NOTED_REQUEST_PROMOTE_MEMBER, request.name)
        return await self._change(peer_pb2.ClusterChange(promote=peer_pb2.PromoteMember(name=request.name)))

    @unary
    async def RemoveMember(  # noqa: N802
        self, request: pb.RemoveMemberRequest, context: Context
    ) -> pb.ClusterChangeResponse:
        """Remove a member for good."""
        # A removed node reaches no majority, at first without knowing why. It can tell what became of its removal.
        is_removed = self._view.replica.retired
        if is_removed or request.name == self._view.identity.name:
            session = await self._authenticator.session_that_may(
                context, Action.CHANGE_CLUSTER, about=request.name, changes=not is_removed
            )
        else:
            session = await self._session_that_may_now(context, request.name)
        if not is_removed and self._view.replica.members.named(request.name) is not None:
            # The log refuses the row if the right has ended.
            await self._requests.note(session, state_pb2.NOTED_REQUEST_REMOVE_MEMBER, request.name)
        removal = peer_pb2.RemoveMember(name=request.name, force=request.force)
        return await self._change(peer_pb2.ClusterChange(remove=removal))

    @unary
    async def TransferLeadership(  # noqa: N802
        self, request: pb.TransferLeadershipRequest, context: Context
    ) -> pb.ClusterChangeResponse:
        """Transfer leadership to another voter."""
        session = await self._session_that_may_now(context, request.name)
        if not request.name or self._view.replica.members.named(request.name) is not None:
            await self._requests.note(session, state_pb2.NOTED_REQUEST_TRANSFER_LEADERSHIP, request.name)
        return await self._change(peer_pb2.ClusterChange(transfer=peer_pb2.TransferLeadership(name=request.name)))

    @unary
    async def RestartNode(self, request: pb.RestartNodeRequest, context: Context) -> pb.RestartNodeResponse:  # noqa: N802
        """Restart this node, if the leader permits it."""
        session = await self._session_that_may_now(context, request.name)
        own = self._view.identity.name
        if request.name != own:
            raise ApiError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"This is {own}, not {request.name or 'a node without a name'}. Nothing was restarted. Ask the node "
                "that is to be restarted.",
            )
        permit = peer_pb2.ClusterChange(restart=peer_pb2.RestartMember(name=own))
        reply = await self._change_router.submit(permit, timeout_s=CHANGE_TIMEOUT_S)
        if reply.status == peer_pb2.CHANGE_STATUS_BUSY:
            return pb.RestartNodeResponse(not_yet=reply.detail)
        _check(reply)
        await self._requests.note(session, state_pb2.NOTED_REQUEST_RESTART_NODE, own)
        self._restart()
        return pb.RestartNodeResponse()

    @unary
    async def RebuildMember(  # noqa: N802
        self, request: pb.RebuildMemberRequest, context: Context
    ) -> pb.RebuildMemberResponse:
        """Replace an untrusted state of a member by the leader's."""
        session = await self._session_that_may_now(context, request.name)
        row = self._view.replica.members.named(request.name)
        if row is None:
            names = ", ".join(member.name for member in self._view.members())
            raise ApiError(
                grpc.StatusCode.NOT_FOUND,
                f"There is no member {request.name}. Nothing was changed. The members are {names}.",
            )
        # The client asks again until it is done. That is one request.
        once_in_s = REBUILD_NOTED_EVERY_S
        await self._requests.note(session, state_pb2.NOTED_REQUEST_REBUILD_MEMBER, row.name, once_in_s=once_in_s)
        try:
            reply = await self._ask_to_rebuild(row)
        except ForwardFailedError as error:
            raise ApiError(
                grpc.StatusCode.UNAVAILABLE,
                f"{request.name} does not answer ({error}). The rebuild may have begun. Try again. This is safe.",
                may_have_happened=True,
            ) from error
        if reply.status == peer_pb2.REBUILD_STATUS_REFUSED:
            raise ApiError(grpc.StatusCode.FAILED_PRECONDITION, reply.detail)
        return pb.RebuildMemberResponse(done=reply.status == peer_pb2.REBUILD_STATUS_DONE)

    async def _ask_to_rebuild(self, row: MemberRow) -> peer_pb2.RebuildReply:
        """Ask a member, and wait a moment for a link to it. Raises ForwardFailedError once the request has left."""
        until_s = time.monotonic() + LINK_WAIT_S

        async def ask() -> peer_pb2.RebuildReply | None:
            try:
                return await self._rebuild(NodeId(row.node_id))
            except ForwardFailedError as error:
                if error.sent:
                    raise
                if time.monotonic() < until_s:
                    return None
                raise ApiError(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    f"{row.name} cannot be reached ({error}). This request changed nothing. Start the node, then "
                    "repeat the command. Repeating it is safe.",
                ) from error

        return await ask_until_answered(ask, partial(asyncio.sleep, LINK_RETRY_S))

    @unary
    async def ChangeSetting(  # noqa: N802
        self, request: pb.ChangeSettingRequest, context: Context
    ) -> pb.ChangeSettingResponse:
        """Change a setting of the whole cluster."""
        session = await self._authenticator.session_that_may(
            context, Action.CHANGE_SETTINGS, about=f"{request.name[:64]}={request.value}"
        )
        command = state_pb2.ChangeSetting(session_id=session.session_id, name=request.name, value=request.value)
        index, _ = await self._commands.apply(state_pb2.Command(change_setting=command))
        return pb.ChangeSettingResponse(position=self._authenticator.position(index))

    @unary
    async def SetClusterTime(  # noqa: N802
        self, request: pb.SetClusterTimeRequest, context: Context
    ) -> pb.SetClusterTimeResponse:
        """Set the time of the cluster to that of a majority of the nodes."""
        session = await self._authenticator.session_that_may(context, Action.SET_TIME)
        command = state_pb2.SetTime(session_id=session.session_id, now_ms=request.now_ms)
        index, result = await self._commands.apply(state_pb2.Command(set_time=command))
        return pb.SetClusterTimeResponse(
            position=self._authenticator.position(index),
            before_ms=result.set_time.before_ms,
            after_ms=result.set_time.after_ms,
        )

    @unary
    async def ListSettings(  # noqa: N802
        self, request: pb.ListSettingsRequest, context: Context
    ) -> pb.ListSettingsResponse:
        """Return every setting of the cluster's level, by name."""
        await self._authenticator.session_at(context, request.seen)
        return await self._view.replica.readers.run(all_settings)

    @unary
    async def ListAudit(self, request: pb.ListAuditRequest, context: Context) -> pb.ListAuditResponse:  # noqa: N802
        """Return a page of the audit log."""
        limit = page_size("page_size", request.page_size)
        check_number("after_number", request.after_number)
        await self._authenticator.session_at(context, request.seen)
        await self._authenticator.session_that_may(context, Action.READ_AUDIT, changes=False)
        max_bytes = page_bytes()
        return await self._view.replica.readers.run(
            lambda reader: audit_page(reader, request.after_number, limit, max_bytes)
        )

    async def Backup(  # noqa: N802
        self, request: pb.BackupRequest, context: Context
    ) -> AsyncGenerator[pb.BackupChunk]:
        """Stream a backup. The admission of calls ends the stream if its reader reads nothing."""
        session = await self._authenticator.session_that_may(context, Action.BACK_UP)
        await self._requests.note(session, state_pb2.NOTED_REQUEST_BACKUP, self._view.identity.name)
        async with aclosing(self._backups.stream()) as chunks:
            async for chunk in chunks:
                yield chunk

    async def FollowEvents(  # noqa: N802
        self, request: pb.FollowEventsRequest, context: Context
    ) -> AsyncGenerator[pb.EventBatch]:
        """Stream the events of this node, until the caller is no administrator any more."""
        await self._authenticator.session_that_may(context, Action.FOLLOW_EVENTS, changes=False)

        async def is_allowed() -> bool:
            session = await self._authenticator.known_session(context)
            return session is not None and authorisation.is_allowed(session.role, Action.FOLLOW_EVENTS)

        async with aclosing(self._events.batches(self._view.identity.name, request, is_allowed)) as batches:
            async for batch in batches:
                yield batch

    async def _session_that_may_now(self, context: Context, name: str) -> SessionRecord:
        """Return the session of who may do something with a node that no command checks, as a majority has it now."""
        return await self._authenticator.current_session_that_may(context, Action.CHANGE_CLUSTER, about=name)

    async def _change(self, change: peer_pb2.ClusterChange) -> pb.ClusterChangeResponse:
        reply = await self._change_router.submit(change, timeout_s=CHANGE_TIMEOUT_S)
        _check(reply)
        return pb.ClusterChangeResponse(applied_index=reply.index, leader=reply.leader)


def _check(reply: peer_pb2.ClusterChangeReply) -> None:
    """Raise unless the change is done."""
    if reply.status != peer_pb2.CHANGE_STATUS_DONE:
        status = CHANGE_STATUS.get(reply.status, grpc.StatusCode.INTERNAL)
        raise ApiError(status, reply.detail, may_have_happened=status in UNKNOWN_CHANGES)


CHANGE_STATUS: dict[int, grpc.StatusCode] = {
    peer_pb2.CHANGE_STATUS_REFUSED: grpc.StatusCode.FAILED_PRECONDITION,
    peer_pb2.CHANGE_STATUS_NOT_ADMITTED: grpc.StatusCode.FAILED_PRECONDITION,
    peer_pb2.CHANGE_STATUS_BUSY: grpc.StatusCode.FAILED_PRECONDITION,
    peer_pb2.CHANGE_STATUS_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    peer_pb2.CHANGE_STATUS_NOT_LEADER: grpc.StatusCode.UNAVAILABLE,
    peer_pb2.CHANGE_STATUS_OUTCOME_UNKNOWN: grpc.StatusCode.ABORTED,
}
UNKNOWN_CHANGES = (grpc.StatusCode.ABORTED, grpc.StatusCode.INTERNAL)
