"""The requests of an administrator: change members and settings, transfer leadership, grant and revoke.

Every request may be repeated. If it was carried out already, it has no second effect. So the client retries it after a
lost answer.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import grpc

from parley.audit_log import AuditPage, Chain, page_of
from parley.backup_file import Progress
from parley.cancellation import REPEAT_TEXT, unknown_if_cancelled
from parley.cluster_model import (
    BackupInfo,
    ClusterStatus,
    ImportResult,
    Invitation,
    NewAccount,
    NodeStatus,
    Quota,
    RevokedCertificate,
    Setting,
)
from parley.errors import AuditError, BadInputError
from parley.event_model import EventNews
from parley.net.backup_calls import back_up, sources
from parley.net.event_calls import EventReader
from parley.net.unary_caller import UnaryCaller, bearer
from parley.wire import convert
from parley.wire.endpoints import parse_endpoints
from parley.wire.requests import build
from parley_proto.v1 import admin_pb2 as pb
from parley_proto.v1.admin_pb2_grpc import AdminStub

T = TypeVar("T")

DEADLINE_S = 30.0
REBUILD_POLL_S = 0.5
RESTART_TIMEOUT_S = 10.0
AUDIT_PAGE = 1000
MAX_IMPORTED_ACCOUNTS = 128
"""In one request."""


class Administration:
    """The requests of one signed-in account. RefusedError states why the cluster refuses one."""

    def __init__(self, caller: UnaryCaller, token: str, status: Callable[[], Awaitable[ClusterStatus]]) -> None:
        self._caller = caller
        self._token = token
        self._metadata = bearer(token)
        self._status = status

    async def add_member(self, name: str, peer_address: str) -> bool:
        """Add the node that waits at `peer_address`, as a learner. Return false if the node is a member already."""
        request = build(pb.AddMemberRequest, name=name, peer_address=peer_address)
        answer = await self._ask(lambda channel: AdminStub(channel).AddMember(request, metadata=self._metadata))
        return answer.applied_index > 0

    async def invite_node(self, valid_s: int) -> str:
        """Return a join token for one new node, valid for `valid_s`. The cluster does not show it again.

        A repeat after a lost answer makes a second token. The first one expires.
        """
        request = build(pb.InviteNodeRequest, valid_s=valid_s)
        answer = await self._ask(
            lambda channel: AdminStub(channel).InviteNode(request, metadata=self._metadata), repeatable=False
        )
        return answer.token

    async def promote_member(self, name: str) -> bool:
        """Make a learner that has caught up a voter. Return false if the node is a voter already."""
        request = build(pb.PromoteMemberRequest, name=name)
        answer = await self._ask(lambda channel: AdminStub(channel).PromoteMember(request, metadata=self._metadata))
        return answer.applied_index > 0

    async def remove_member(self, name: str, *, force: bool) -> None:
        """Remove a member for good. `force` removes it even if the voters that answer are no majority of the rest."""
        request = build(pb.RemoveMemberRequest, name=name, force=force)
        await self._ask(lambda channel: AdminStub(channel).RemoveMember(request, metadata=self._metadata))

    async def transfer_leadership(self, name: str) -> str:
        """Transfer leadership to a voter, or to any voter if `name` is empty. Return the new leader."""
        request = build(pb.TransferLeadershipRequest, name=name)
        answer = await self._ask(
            lambda channel: AdminStub(channel).TransferLeadership(request, metadata=self._metadata)
        )
        return answer.leader

    async def node_status(self, address: str) -> NodeStatus:
        """Ask one node for its status. Every signed-in account may ask. `error` tells why it does not answer."""
        (endpoint,) = parse_endpoints([address])
        return await self._caller.status_of(endpoint, token=self._token)

    async def restart_node(self, name: str) -> str:
        """Have a node stop and start again. Return an empty text, or why it does not begin yet: ask again then.

        The leader is refused. Ask for the status of the cluster first: it tells which address is whose.
        """
        request = build(pb.RestartNodeRequest, name=name)
        answer = await self._caller.call_node(
            name,
            lambda channel: AdminStub(channel).RestartNode(request, metadata=self._metadata),
            timeout_s=RESTART_TIMEOUT_S,
        )
        return answer.not_yet

    async def rebuild_member(self, name: str) -> None:
        """Replace the state of a member that is not trusted by the leader's. Return when it agrees with the others.

        It takes as long as the copy of the state. Cancelling this call does not stop the copy.
        """
        request = build(pb.RebuildMemberRequest, name=name)
        with unknown_if_cancelled(REPEAT_TEXT):
            while not (await self._ask_to_rebuild(request)).done:  # noqa: ASYNC110 - only the leader knows
                await asyncio.sleep(REBUILD_POLL_S)

    async def _ask_to_rebuild(self, request: pb.RebuildMemberRequest) -> pb.RebuildMemberResponse:
        return await self._ask(lambda channel: AdminStub(channel).RebuildMember(request, metadata=self._metadata))

    async def set_administrator(self, account: str, *, administrator: bool) -> None:
        """Grant or revoke the rights of an administrator."""
        request = build(pb.SetAdministratorRequest, account=account, administrator=administrator)
        await self._ask(lambda channel: AdminStub(channel).SetAdministrator(request, metadata=self._metadata))

    async def create_invitation(self, valid_s: int = 0) -> tuple[str, int]:
        """Make a code with which one account may be registered. Return it and when it ends (Unix time in ms).

        `valid_s` is for how long; 0: a week.
        """
        request = build(pb.CreateInvitationRequest, valid_s=valid_s)
        answer = await self._ask(
            lambda channel: AdminStub(channel).CreateInvitation(request, metadata=self._metadata), repeatable=False
        )
        return answer.code, answer.expires_at_ms

    async def invitations(self) -> tuple[Invitation, ...]:
        """Return the invitations and administrators' codes that nobody has used, the one that ends first first."""
        answer = await self._ask(
            lambda channel: AdminStub(channel).ListInvitations(pb.ListInvitationsRequest(), metadata=self._metadata),
            changes=False,
        )
        return tuple(Invitation(one.id.hex(), one.expires_at_ms, one.administrator) for one in answer.invitations)

    async def withdraw_invitation(self, invitation_id: str) -> None:
        """Take back an invitation. One that was used or is over stays as it is."""
        request = pb.WithdrawInvitationRequest(id=bytes.fromhex(invitation_id))
        await self._ask(lambda channel: AdminStub(channel).WithdrawInvitation(request, metadata=self._metadata))

    async def reset_password(self, account: str, password: str) -> None:
        """Give an account a new password and sign out all its devices."""
        request = build(pb.ResetPasswordRequest, account=account, password=password)
        await self._ask(lambda channel: AdminStub(channel).ResetPassword(request, metadata=self._metadata))

    async def suspend_account(self, account: str, reason: str = "") -> None:
        """Sign an account out everywhere, and let it log in no more until it is released. Nothing of it is deleted.

        `reason` is for other administrators. Others may still write to the account, and it finds that when it is back.
        """
        request = build(pb.SuspendAccountRequest, account=account, reason=reason)
        await self._ask(lambda channel: AdminStub(channel).SuspendAccount(request, metadata=self._metadata))

    async def release_account(self, account: str) -> None:
        """Let a suspended account log in again. One that is not suspended stays as it is."""
        request = build(pb.ReleaseAccountRequest, account=account)
        await self._ask(lambda channel: AdminStub(channel).ReleaseAccount(request, metadata=self._metadata))

    async def set_quota(self, account: str, max_bytes: int | None) -> None:
        """Give an account a quota of its own in bytes, 0 for no limit. None: the setting max_account_bytes counts."""
        request = build(pb.SetQuotaRequest, account=account)
        if max_bytes is not None:
            request = build(pb.SetQuotaRequest, account=account, max_bytes=max_bytes)
        await self._ask(lambda channel: AdminStub(channel).SetQuota(request, metadata=self._metadata))

    async def quota(self, account: str) -> Quota:
        """Return what an account has stored, and how much it may."""
        request = build(pb.GetQuotaRequest, account=account)
        answer = await self._ask(
            lambda channel: AdminStub(channel).GetQuota(request, metadata=self._metadata), changes=False
        )
        return Quota(answer.stored_bytes, answer.max_bytes, answer.own)

    async def import_accounts(self, accounts: Sequence[NewAccount]) -> tuple[ImportResult, ...]:
        """Make up to MAX_IMPORTED_ACCOUNTS accounts, whoever may register. Return what became of each, in order.

        One that is refused holds up no other. If an answer was lost, a repeat finds the accounts that were made.
        """
        if len(accounts) > MAX_IMPORTED_ACCOUNTS:
            raise BadInputError(
                f"A request has at most {MAX_IMPORTED_ACCOUNTS} accounts, not {len(accounts)}. Nothing was sent. "
                "Import them in several requests."
            )
        if not accounts:
            return ()
        request = pb.ImportAccountsRequest(
            accounts=[
                build(
                    pb.AccountToImport,
                    name=account.name,
                    display_name=account.display_name,
                    password_hash=account.password_hash,
                )
                for account in accounts
            ]
        )
        answer = await self._ask(lambda channel: AdminStub(channel).ImportAccounts(request, metadata=self._metadata))
        return tuple(map(convert.import_result, answer.accounts))

    async def lift_delay(self, account: str) -> None:
        """Let an account log in again at once after too many wrong passwords."""
        request = build(pb.LiftDelayRequest, account=account)
        await self._ask(lambda channel: AdminStub(channel).LiftDelay(request, metadata=self._metadata))

    async def revoke_certificate(self, node: str = "", *, digest: bytes = b"") -> RevokedCertificate:
        """Make the nodes take no calls with a certificate or key of a node any more. Repeating it changes nothing.

        Give the name of a member for the key that it has now, or the SHA-256 of a certificate or of its key. Raises
        RefusedError if no majority of the voters could call each other then.
        """
        request = build(pb.RevokeCertificateRequest, node=node, digest=digest)
        answer = await self._ask(lambda channel: AdminStub(channel).RevokeCertificate(request, metadata=self._metadata))
        return RevokedCertificate(answer.digest, answer.node)

    async def restore_certificate(self, digest: bytes) -> None:
        """Take a revocation back."""
        request = build(pb.RestoreCertificateRequest, digest=digest)
        await self._ask(lambda channel: AdminStub(channel).RestoreCertificate(request, metadata=self._metadata))

    async def revoked_certificates(self) -> tuple[RevokedCertificate, ...]:
        """Return the revoked certificates and keys, the oldest first. Every signed-in account may ask."""
        request = pb.ListRevokedCertificatesRequest()
        answer = await self._ask(
            lambda channel: AdminStub(channel).ListRevokedCertificates(request, metadata=self._metadata), changes=False
        )
        return tuple(RevokedCertificate(row.digest, row.node, row.revoked_at_ms) for row in answer.certificates)

    async def settings(self) -> tuple[Setting, ...]:
        """Return all settings of the cluster. Every signed-in account may ask."""
        answer = await self._ask(
            lambda channel: AdminStub(channel).ListSettings(pb.ListSettingsRequest(), metadata=self._metadata),
            changes=False,
        )
        return tuple(map(convert.setting, answer.settings))

    async def back_up(
        self, path: str | Path, *, node: str = "", force: bool = False, progress: Progress = lambda _done, _all: None
    ) -> BackupInfo:
        """Write a backup of everything that the cluster keeps to a file, and check it. It has everybody's messages.

        A follower makes it, or the node of that name. With `force`, an existing file is replaced. If this is cancelled
        or fails, no file is left. Raises BackupError if the file cannot be written, RefusedError for an account that is
        no administrator, and UnreachableError if no node makes a backup now.
        """
        nodes = sources(await self._status(), node)
        return await back_up(self._caller, self._token, nodes, Path(path), force=force, progress=progress)

    async def audit(self, *, since: int = 1) -> AsyncIterator[AuditPage]:
        """Return the audit log from row `since` on, page by page, each checked. There is one page at least.

        It begins with the oldest row that is kept, if that is later. Raises AuditError if a row was changed, removed or
        moved, or was removed as too old while the log was read.
        """
        after, chain = max(since, 1) - 1, None
        while True:
            request = build(pb.ListAuditRequest, after_number=after, page_size=AUDIT_PAGE)
            page = page_of(await self._ask_for_audit(request))
            if chain is None:
                after = max(after, page.removed_up_to)
                chain = Chain(page.previous_hash, after)
            elif page.removed_up_to > chain.last:
                raise AuditError(
                    f"Rows after {chain.last} were removed as too old while the log was read. Nothing is wrong with "
                    "it. Read it again, or later."
                )
            elif page.previous_hash != chain.head:
                raise AuditError(
                    f"Row {chain.last} has another hash than before. Nodes differ, or the audit log was changed while "
                    "it was read. Look at: parley cluster doctor"
                )
            for row in page.rows:
                chain.add(row)
            if chain.rows == 0 or page.rows:
                yield page
            if not page.rows:
                return
            after = chain.last

    async def _ask_for_audit(self, request: pb.ListAuditRequest) -> pb.ListAuditResponse:
        return await self._ask(
            lambda channel: AdminStub(channel).ListAudit(request, metadata=self._metadata), changes=False
        )

    async def events(self, *, since_ms: int | None = None) -> Sequence[EventNews]:
        """Return the events that the nodes have in memory, in one time line, and which nodes did not tell theirs.

        `since_ms`: leave out what happened before (Unix time). Raises RefusedError for an account that is no
        administrator, and UnreachableError if no node answers.
        """
        return await EventReader(self._caller, self._token, self._status, since_ms).read()

    def follow_events(self, *, since_ms: int | None = None) -> AsyncGenerator[EventNews]:
        """Yield the same, and then each event when it happens, until closed. Nothing is told twice.

        A node that ends is told as NodeLost and tried again. What it does meanwhile comes when it is reached again.
        """
        return EventReader(self._caller, self._token, self._status, since_ms).follow()

    async def set_time(self, now_ms: int) -> tuple[int, int]:
        """Set the time of the cluster to that of a majority of the nodes. Return the time before and after, in ms.

        Raises RefusedError if it differs from `now_ms`, the time here, by more than a minute.
        """
        request = build(pb.SetClusterTimeRequest, now_ms=now_ms)
        answer = await self._ask(lambda channel: AdminStub(channel).SetClusterTime(request, metadata=self._metadata))
        return answer.before_ms, answer.after_ms

    async def change_setting(self, name: str, value: int) -> None:
        request = build(pb.ChangeSettingRequest, name=name, value=value)
        await self._ask(lambda channel: AdminStub(channel).ChangeSetting(request, metadata=self._metadata))

    async def _ask(
        self, invoke: Callable[[grpc.aio.Channel], Awaitable[T]], *, changes: bool = True, repeatable: bool = True
    ) -> T:
        return await self._caller.call(invoke, deadline_s=DEADLINE_S, changes=changes, repeatable=repeatable)
