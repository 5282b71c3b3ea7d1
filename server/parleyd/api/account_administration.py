"""The requests of the Admin service that are about accounts: roles, invitations, passwords, suspensions, imports."""

from __future__ import annotations

from parley_proto.v1 import admin_pb2 as pb
from parley_proto.v1 import state_pb2
from parley_proto.v1.admin_pb2_grpc import AdminServicer
from parleyd.api.account_import import PlannedImport
from parleyd.api.auth import Authenticator
from parleyd.api.callers import address_of, owner_at
from parleyd.api.cluster_status import invitations, quota_of
from parleyd.api.commands import Commands
from parleyd.api.errors import Context, refusal, unary
from parleyd.group.readers import StateReaders
from parleyd.machine.authorisation import Action
from parleyd.security.codes import digest_of_code, new_code
from parleyd.security.names import InvalidInputError, validate_account_name, validate_password
from parleyd.security.passwords import PasswordHasher

INVITATION_S = 7 * 86_400
MAX_INVITATION_S = 90 * 86_400


class AccountAdministration(AdminServicer):
    """Changes accounts for administrators."""

    def __init__(
        self, authenticator: Authenticator, commands: Commands, passwords: PasswordHasher, readers: StateReaders
    ) -> None:
        self._authenticator = authenticator
        self._commands = commands
        self._passwords = passwords
        self._readers = readers

    @unary
    async def SetAdministrator(  # noqa: N802
        self, request: pb.SetAdministratorRequest, context: Context
    ) -> pb.SetAdministratorResponse:
        """Make an account an administrator, or revoke that."""
        validate_account_name(request.account, "account")
        session = await self._authenticator.session_that_may(context, Action.SET_ROLE, about=request.account)
        command = state_pb2.SetRole(
            session_id=session.session_id, account=request.account, administrator=request.administrator
        )
        index, _ = await self._commands.apply(state_pb2.Command(set_role=command))
        return pb.SetAdministratorResponse(position=self._authenticator.position(index))

    @unary
    async def CreateInvitation(  # noqa: N802
        self, request: pb.CreateInvitationRequest, context: Context
    ) -> pb.CreateInvitationResponse:
        """Make a code with which one account may be registered."""
        if request.valid_s > MAX_INVITATION_S:
            raise InvalidInputError("valid_s", f"is {request.valid_s}; at most {MAX_INVITATION_S} are allowed")
        session = await self._authenticator.session_that_may(context, Action.INVITE)
        code = new_code()
        expires_at_ms = self._authenticator.now_ms + (request.valid_s or INVITATION_S) * 1000
        command = state_pb2.Invite(
            session_id=session.session_id, digest=digest_of_code(code), expires_at_ms=expires_at_ms
        )
        index, _ = await self._commands.apply(state_pb2.Command(invite=command))
        return pb.CreateInvitationResponse(
            code=code, expires_at_ms=expires_at_ms, position=self._authenticator.position(index)
        )

    @unary
    async def ListInvitations(  # noqa: N802
        self, request: pb.ListInvitationsRequest, context: Context
    ) -> pb.ListInvitationsResponse:
        """Return the codes that nobody has used."""
        await self._authenticator.session_at(context, request.seen)
        await self._authenticator.session_that_may(context, Action.INVITE, changes=False)
        now_ms = self._authenticator.now_ms
        return await self._readers.run(lambda reader: invitations(reader, now_ms))

    @unary
    async def WithdrawInvitation(  # noqa: N802
        self, request: pb.WithdrawInvitationRequest, context: Context
    ) -> pb.WithdrawInvitationResponse:
        """Take back a code that nobody has used."""
        session = await self._authenticator.session_that_may(context, Action.INVITE, about="withdrawn")
        command = state_pb2.WithdrawCode(session_id=session.session_id, digest=request.id)
        index, _ = await self._commands.apply(state_pb2.Command(withdraw_code=command))
        return pb.WithdrawInvitationResponse(position=self._authenticator.position(index))

    @unary
    async def ResetPassword(  # noqa: N802
        self, request: pb.ResetPasswordRequest, context: Context
    ) -> pb.ResetPasswordResponse:
        """Give an account a new password."""
        validate_account_name(request.account, "account")
        session = await self._authenticator.session_that_may(context, Action.RESET_PASSWORD, about=request.account)
        validate_password(request.password, account=request.account)
        command = state_pb2.ResetPassword(
            session_id=session.session_id,
            account=request.account,
            password_hash=await self._passwords.hash(
                request.password, owner_at(address_of(context), session.account_name)
            ),
        )
        index, _ = await self._commands.apply(state_pb2.Command(reset_password=command))
        return pb.ResetPasswordResponse(position=self._authenticator.position(index))

    @unary
    async def SuspendAccount(  # noqa: N802
        self, request: pb.SuspendAccountRequest, context: Context
    ) -> pb.SuspendAccountResponse:
        """End all sessions of an account, and let it open none."""
        validate_account_name(request.account, "account")
        session = await self._authenticator.session_that_may(context, Action.SUSPEND_ACCOUNT, about=request.account)
        command = state_pb2.SuspendAccount(
            session_id=session.session_id, account=request.account, reason=request.reason.strip()
        )
        index, _ = await self._commands.apply(state_pb2.Command(suspend_account=command))
        return pb.SuspendAccountResponse(position=self._authenticator.position(index))

    @unary
    async def ReleaseAccount(  # noqa: N802
        self, request: pb.ReleaseAccountRequest, context: Context
    ) -> pb.ReleaseAccountResponse:
        """Let a suspended account log in again."""
        validate_account_name(request.account, "account")
        session = await self._authenticator.session_that_may(context, Action.RELEASE_ACCOUNT, about=request.account)
        command = state_pb2.ReleaseAccount(session_id=session.session_id, account=request.account)
        index, _ = await self._commands.apply(state_pb2.Command(release_account=command))
        return pb.ReleaseAccountResponse(position=self._authenticator.position(index))

    @unary
    async def SetQuota(self, request: pb.SetQuotaRequest, context: Context) -> pb.SetQuotaResponse:  # noqa: N802
        """Give an account a quota of its own, or take it away."""
        validate_account_name(request.account, "account")
        session = await self._authenticator.session_that_may(context, Action.SET_QUOTA, about=request.account)
        command = state_pb2.SetQuota(session_id=session.session_id, account=request.account)
        if request.HasField("max_bytes"):
            command.max_bytes = request.max_bytes
        index, _ = await self._commands.apply(state_pb2.Command(set_quota=command))
        return pb.SetQuotaResponse(position=self._authenticator.position(index))

    @unary
    async def GetQuota(self, request: pb.GetQuotaRequest, context: Context) -> pb.GetQuotaResponse:  # noqa: N802
        """Return what an account has stored, and how much it may."""
        validate_account_name(request.account, "account")
        await self._authenticator.session_at(context, request.seen)
        await self._authenticator.session_that_may(context, Action.SET_QUOTA, changes=False)
        found = await self._readers.run(lambda reader: quota_of(reader, request.account))
        if found is None:
            raise refusal(state_pb2.RESULT_CODE_NO_SUCH_ACCOUNT)
        return found

    @unary
    async def ImportAccounts(  # noqa: N802
        self, request: pb.ImportAccountsRequest, context: Context
    ) -> pb.ImportAccountsResponse:
        """Make accounts, each with the hash that it comes with, or without a password."""
        about = f"{len(request.accounts)} accounts"
        session = await self._authenticator.session_that_may(context, Action.IMPORT_ACCOUNTS, about=about)
        planned = PlannedImport.of(request.accounts, self._passwords)
        command = state_pb2.ImportAccounts(session_id=session.session_id, accounts=planned.accepted)
        if not planned.accepted:
            self._commands.check([state_pb2.Command(import_accounts=command)])
            return pb.ImportAccountsResponse(accounts=planned.answers([]))
        index, result = await self._commands.apply(state_pb2.Command(import_accounts=command))
        return pb.ImportAccountsResponse(
            accounts=planned.answers(result.import_accounts.codes), position=self._authenticator.position(index)
        )

    @unary
    async def LiftDelay(self, request: pb.LiftDelayRequest, context: Context) -> pb.LiftDelayResponse:  # noqa: N802
        """Let an account log in again at once."""
        validate_account_name(request.account, "account")
        session = await self._authenticator.session_that_may(context, Action.LIFT_DELAY, about=request.account)
        command = state_pb2.LiftDelay(session_id=session.session_id, account=request.account)
        index, _ = await self._commands.apply(state_pb2.Command(lift_delay=command))
        return pb.LiftDelayResponse(position=self._authenticator.position(index))
