"""Who may call which RPC of a client: one table, complete by construction. An RPC without a row fails."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from parley_proto.v1 import accounts_pb2, admin_pb2, conversations_pb2, messaging_pb2, model_pb2
from parley_proto.v1 import text_filter_pb2 as _known_to_the_pool  # noqa: F401
from tests.support.node import InProcessCluster
from tests.support.raw import PASSWORD, Raw

Code = grpc.StatusCode
PROTO = Path(__file__).resolve().parents[3] / "proto"
DEVICE = b"d" * 16
NOT_LET_IN = (Code.UNAUTHENTICATED, Code.PERMISSION_DENIED)


class Access(Enum):
    """Who may call."""

    ANYBODY = auto()
    SIGNED_IN = auto()
    ADMINISTRATOR = auto()
    ONCE_SIGNED_IN = auto()  # also by a closed session: closing it again succeeds


class Caller(Enum):
    """What a caller sends in place of a session token."""

    NONE = auto()
    MALFORMED = auto()
    GARBAGE = auto()
    EXPIRED = auto()
    REVOKED = auto()
    MEMBER = auto()
    ADMINISTRATOR = auto()


OUTSIDERS = (Caller.NONE, Caller.MALFORMED, Caller.GARBAGE, Caller.EXPIRED, Caller.REVOKED)


@dataclass(frozen=True, slots=True)
class Row:
    """Who may call an RPC, and a request for it that every check but that of the caller accepts."""

    access: Access
    request: Message


ANYBODY, SIGNED_IN, ADMINISTRATOR, ONCE_SIGNED_IN = Access
NEW_PASSWORD = PASSWORD + " again"
STREAM_ATTEMPTS = 3
"""gRPC itself ends a stream with INTERNAL, rarely, where a refusal meets the write of its first frame."""

TABLE: dict[str, Row] = {
    "Accounts.Register": Row(
        ANYBODY, accounts_pb2.RegisterRequest(name="carl", password=PASSWORD, request_id=bytes(16))
    ),
    "Accounts.LogIn": Row(ANYBODY, accounts_pb2.LogInRequest(name="ben", password=PASSWORD, device_id=DEVICE)),
    "Accounts.LogOut": Row(ONCE_SIGNED_IN, accounts_pb2.LogOutRequest()),
    "Accounts.DeleteAccount": Row(SIGNED_IN, accounts_pb2.DeleteAccountRequest(password=PASSWORD)),
    "Accounts.SetDisplayName": Row(SIGNED_IN, accounts_pb2.SetDisplayNameRequest(display_name="B")),
    "Accounts.ListAccounts": Row(SIGNED_IN, accounts_pb2.ListAccountsRequest()),
    "Accounts.ChangePassword": Row(
        SIGNED_IN, accounts_pb2.ChangePasswordRequest(old_password=PASSWORD, new_password=NEW_PASSWORD)
    ),
    "Accounts.ListDevices": Row(SIGNED_IN, accounts_pb2.ListDevicesRequest()),
    "Accounts.RevokeDevices": Row(SIGNED_IN, accounts_pb2.RevokeDevicesRequest()),
    "Accounts.ClaimAdministrator": Row(SIGNED_IN, accounts_pb2.ClaimAdministratorRequest(code="wrong")),
    "Presence.ListConnected": Row(SIGNED_IN, accounts_pb2.ListConnectedRequest()),
    "Presence.GetPresence": Row(SIGNED_IN, accounts_pb2.GetPresenceRequest(account_ids=[1])),
    "Presence.SetHidden": Row(SIGNED_IN, accounts_pb2.SetHiddenRequest(hidden=True)),
    "Messaging.Connect": Row(SIGNED_IN, messaging_pb2.ClientFrame(hello=messaging_pb2.Hello())),
    "Messaging.Fetch": Row(SIGNED_IN, messaging_pb2.FetchRequest()),
    "Messaging.Push": Row(
        SIGNED_IN,
        messaging_pb2.PushRequest(sends=[model_pb2.Send(number=1, account_name="boss", body="hello")]),
    ),
    "Conversations.ListConversations": Row(SIGNED_IN, conversations_pb2.ListConversationsRequest()),
    "Conversations.GetHistory": Row(SIGNED_IN, conversations_pb2.GetHistoryRequest(account_name="boss")),
    "Conversations.ListMembers": Row(SIGNED_IN, conversations_pb2.ListMembersRequest(conversation_id=1)),
    "Conversations.GetReceipts": Row(SIGNED_IN, conversations_pb2.GetReceiptsRequest(conversation_id=1)),
    "Conversations.CreateChannel": Row(
        SIGNED_IN, conversations_pb2.CreateChannelRequest(title="Ward 4", request_id=bytes(16))
    ),
    "Conversations.ListChannels": Row(SIGNED_IN, conversations_pb2.ListChannelsRequest()),
    "Conversations.ChangeChannel": Row(SIGNED_IN, conversations_pb2.ChangeChannelRequest(conversation_id=1)),
    "Conversations.JoinChannel": Row(SIGNED_IN, conversations_pb2.JoinChannelRequest(conversation_id=1)),
    "Conversations.LeaveChannel": Row(SIGNED_IN, conversations_pb2.LeaveChannelRequest(conversation_id=1)),
    "Conversations.AddMembers": Row(
        SIGNED_IN, conversations_pb2.AddMembersRequest(conversation_id=1, members=["boss"])
    ),
    "Conversations.RemoveMembers": Row(
        SIGNED_IN, conversations_pb2.RemoveMembersRequest(conversation_id=1, members=["boss"])
    ),
    "Conversations.SetMuted": Row(SIGNED_IN, conversations_pb2.SetMutedRequest(conversation_id=1, muted=True)),
    "Conversations.SetPutAway": Row(SIGNED_IN, conversations_pb2.SetPutAwayRequest(conversation_id=1, up_to=1)),
    "Conversations.RemoveConversation": Row(
        SIGNED_IN, conversations_pb2.RemoveConversationRequest(conversation_id=1, up_to=1)
    ),
    "Conversations.SetMemberRole": Row(
        SIGNED_IN,
        conversations_pb2.SetMemberRoleRequest(conversation_id=1, member="boss", role=model_pb2.MEMBER_ROLE_MEMBER),
    ),
    "Admin.GetStatus": Row(ANYBODY, admin_pb2.GetStatusRequest()),
    "Admin.AddMember": Row(ADMINISTRATOR, admin_pb2.AddMemberRequest(name="n2", peer_address="127.0.0.1:1")),
    "Admin.InviteNode": Row(ADMINISTRATOR, admin_pb2.InviteNodeRequest()),
    "Admin.PromoteMember": Row(ADMINISTRATOR, admin_pb2.PromoteMemberRequest(name="n2")),
    "Admin.RemoveMember": Row(ADMINISTRATOR, admin_pb2.RemoveMemberRequest(name="n2")),
    "Admin.TransferLeadership": Row(ADMINISTRATOR, admin_pb2.TransferLeadershipRequest()),
    "Admin.RestartNode": Row(ADMINISTRATOR, admin_pb2.RestartNodeRequest(name="n1")),
    "Admin.RebuildMember": Row(ADMINISTRATOR, admin_pb2.RebuildMemberRequest(name="n1")),
    "Admin.SetAdministrator": Row(ADMINISTRATOR, admin_pb2.SetAdministratorRequest(account="ben", administrator=True)),
    "Admin.CreateInvitation": Row(ADMINISTRATOR, admin_pb2.CreateInvitationRequest()),
    "Admin.ListInvitations": Row(ADMINISTRATOR, admin_pb2.ListInvitationsRequest()),
    "Admin.WithdrawInvitation": Row(ADMINISTRATOR, admin_pb2.WithdrawInvitationRequest(id=bytes(32))),
    "Admin.ResetPassword": Row(ADMINISTRATOR, admin_pb2.ResetPasswordRequest(account="ben", password=NEW_PASSWORD)),
    "Admin.SuspendAccount": Row(ADMINISTRATOR, admin_pb2.SuspendAccountRequest(account="ben")),
    "Admin.ReleaseAccount": Row(ADMINISTRATOR, admin_pb2.ReleaseAccountRequest(account="ben")),
    "Admin.SetQuota": Row(ADMINISTRATOR, admin_pb2.SetQuotaRequest(account="ben", max_bytes=1)),
    "Admin.GetQuota": Row(ADMINISTRATOR, admin_pb2.GetQuotaRequest(account="ben")),
    "Admin.ImportAccounts": Row(
        ADMINISTRATOR, admin_pb2.ImportAccountsRequest(accounts=[admin_pb2.AccountToImport(name="dora")])
    ),
    "Admin.LiftDelay": Row(ADMINISTRATOR, admin_pb2.LiftDelayRequest(account="ben")),
    "Admin.ChangeSetting": Row(ADMINISTRATOR, admin_pb2.ChangeSettingRequest(name="registration", value=1)),
    "Admin.SetClusterTime": Row(ADMINISTRATOR, admin_pb2.SetClusterTimeRequest()),
    "Admin.Backup": Row(ADMINISTRATOR, admin_pb2.BackupRequest()),
    "Admin.ListAudit": Row(ADMINISTRATOR, admin_pb2.ListAuditRequest()),
    "Admin.RevokeCertificate": Row(ADMINISTRATOR, admin_pb2.RevokeCertificateRequest(digest=b"r" * 32)),
    "Admin.RestoreCertificate": Row(ADMINISTRATOR, admin_pb2.RestoreCertificateRequest(digest=b"r" * 32)),
    "Admin.ListRevokedCertificates": Row(SIGNED_IN, admin_pb2.ListRevokedCertificatesRequest()),
    "Admin.FollowEvents": Row(ADMINISTRATOR, admin_pb2.FollowEventsRequest()),
    "Admin.ListSettings": Row(SIGNED_IN, admin_pb2.ListSettingsRequest()),
}


def methods() -> Iterator[tuple[str, MethodDescriptor]]:
    """Every RPC of every .proto file but those of the peers, which have a table of their own, and the text filter."""
    pool = descriptor_pool.Default()
    for path in sorted(PROTO.rglob("*.proto")):
        file = pool.FindFileByName(path.relative_to(PROTO).as_posix())
        for service in file.services_by_name.values():
            if service.name not in ("Peer", "TextFilter"):
                yield from ((f"{service.name}.{method.name}", method) for method in service.methods)


METHODS = dict(methods())


def test_every_rpc_has_a_row() -> None:
    assert set(METHODS) == set(TABLE)
    for name, row in TABLE.items():
        assert METHODS[name].input_type is row.request.DESCRIPTOR, name


def let_in(access: Access, caller: Caller) -> bool:
    """Whether the table lets a caller in."""
    match access:
        case Access.ANYBODY:
            return True
        case Access.ONCE_SIGNED_IN:
            return caller not in OUTSIDERS or caller is Caller.REVOKED
        case Access.SIGNED_IN:
            return caller not in OUTSIDERS
        case Access.ADMINISTRATOR:
            return caller is Caller.ADMINISTRATOR


Metadata = tuple[tuple[str, str], ...]


async def metadata_of(cluster: InProcessCluster, raw: Raw, caller: Caller) -> Metadata:
    """What this caller sends."""
    match caller:
        case Caller.NONE:
            return ()
        case Caller.MALFORMED:
            return (("authorization", "Bearer not a token"),)
        case Caller.GARBAGE:
            return (("authorization", f"Bearer {secrets.token_urlsafe(32)}"),)
        case Caller.ADMINISTRATOR:
            return (await raw.log_in("boss")).metadata
        case _:
            metadata = (await raw.log_in("ben")).metadata
    if caller is Caller.REVOKED:
        await raw.accounts.LogOut(accounts_pb2.LogOutRequest(), metadata=metadata)
    elif caller is Caller.EXPIRED:
        [(newest,)] = cluster.rows("SELECT max(id) FROM sessions")
        cluster.rewrite(("UPDATE sessions SET expires_at_ms = 1 WHERE id = ?", (newest,)))
    return metadata


async def status_of_stream(raw: Raw, first: Any, metadata: Metadata) -> grpc.StatusCode:
    async with raw.stream(metadata) as stream:
        try:
            await stream.write(first)
            return Code.OK if await stream.read() is not None else await stream._call.code()
        except grpc.aio.AioRpcError as error:
            return error.code()


async def status_of(raw: Raw, name: str, metadata: Metadata) -> grpc.StatusCode:
    """How a call ends, or that a stream begins."""
    service, method = name.split(".")
    if METHODS[name].client_streaming:
        for _ in range(STREAM_ATTEMPTS):
            status = await status_of_stream(raw, TABLE[name].request, metadata)
            if status is not Code.INTERNAL:
                break
        return status
    call: Callable[..., Any] = getattr(getattr(raw, service.lower()), method)
    calling = call(TABLE[name].request, metadata=metadata, timeout=10)
    try:
        if METHODS[name].server_streaming:
            async for _ in calling:
                pass
        else:
            await calling
    except grpc.aio.AioRpcError as error:
        return error.code()
    return Code.OK


@pytest.mark.parametrize("caller", Caller, ids=lambda caller: caller.name.lower())
@pytest.mark.parametrize("name", TABLE)
async def test_who_may_call(cluster: InProcessCluster, raw: Raw, name: str, caller: Caller) -> None:
    cluster.add_account("boss", PASSWORD)
    cluster.add_account("ben", PASSWORD)
    metadata = await metadata_of(cluster, raw, caller)
    index = cluster.index
    status = await status_of(raw, name, metadata)
    access = TABLE[name].access
    if let_in(access, caller):
        assert status not in (*NOT_LET_IN, Code.UNIMPLEMENTED, Code.INVALID_ARGUMENT, Code.INTERNAL), status
        return
    expected = Code.PERMISSION_DENIED if caller is Caller.MEMBER else Code.UNAUTHENTICATED
    assert status is expected
    assert cluster.index == index, "nothing enters the log for a caller that is not let in"
    assert cluster.changes == []
