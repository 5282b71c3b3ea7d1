"""The Accounts service: register, log in and out, delete, list."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from parley_proto.v1 import accounts_pb2 as pb
from parley_proto.v1 import state_pb2
from parley_proto.v1.accounts_pb2_grpc import AccountsServicer
from parleyd.api.admin_actions import log_admin_action
from parleyd.api.auth import Authenticator, digest_of
from parleyd.api.callers import address_of, is_forwarded, owner_at
from parleyd.api.commands import Commands
from parleyd.api.errors import ApiError, Context, check_result, refusal, unary
from parleyd.api.password_check import Claim, PasswordCheck
from parleyd.api.requests import check_id, check_number, entries_within_page, page_size
from parleyd.delivery.cursor import StreamCursor
from parleyd.delivery.position import position_of
from parleyd.delivery.records import MAX_ACCOUNT_INFO_BYTES, account_info
from parleyd.group.errors import UnavailableError
from parleyd.group.readers import StateReaders
from parleyd.machine.authorisation import Action, is_allowed
from parleyd.machine.features import accounts, codes, devices, failed_log_ins, settings, suspensions
from parleyd.machine.features.accounts import AccountCard, AccountRow
from parleyd.machine.features.devices import CLAIM_LEVEL
from parleyd.machine.features.failed_log_ins import Failures
from parleyd.machine.features.sessions import SessionRecord
from parleyd.machine.limits import MAX_LABEL_CHARS, MAX_NAME_CHARS, MAX_REASON_CHARS
from parleyd.machine.names import NAME_RULES_LEVEL
from parleyd.machine.reader import StateReader
from parleyd.security.codes import digest_of_code
from parleyd.security.names import (
    InvalidInputError,
    validate_account_name,
    validate_password,
    validate_pattern,
)
from parleyd.security.passwords import PasswordHasher
from parleyd.security.tokens import new_token

WRONG_CREDENTIALS = "The name or the password is wrong. Nothing was changed. Check both and try again."
WRONG_PASSWORD = "The password is wrong. {done} Check the password and try again."  # noqa: S105
_MAX_SUSPENSION_BYTES = 4 * MAX_REASON_CHARS + MAX_NAME_CHARS + 32
NO_ACCOUNT = "This account does not exist any more. Nothing was changed."


@dataclass(frozen=True, slots=True)
class AccountsConfig:
    """How long a session lives."""

    session_ttl_s: int


class AccountsService(AccountsServicer):
    """Turns account requests into commands and queries."""

    def __init__(
        self,
        commands: Commands,
        readers: StateReaders,
        authenticator: Authenticator,
        passwords: PasswordHasher,
        check: PasswordCheck,
        config: AccountsConfig,
    ) -> None:
        self._commands = commands
        self._readers = readers
        self._authenticator = authenticator
        self._passwords = passwords
        self._check = check
        self._config = config

    @unary
    async def Register(self, request: pb.RegisterRequest, context: Context) -> pb.RegisterResponse:  # noqa: N802
        """Create an account."""
        validate_account_name(request.name)
        validate_password(request.password, account=request.name)
        check_id("request_id", request.request_id)
        code = digest_of_code(request.code) if request.code else b""
        # A code that another node has just stored is not wrong because this one has not applied it yet.
        await self._authenticator.read_barrier()
        now_ms = self._authenticator.now_ms
        await self._readers.run(lambda reader: _check_registration(reader, request.request_id, code, now_ms))
        command = state_pb2.RegisterAccount(
            name=request.name,
            password_hash=await self._passwords.hash(request.password, owner_at(address_of(context), request.name)),
            request_id=request.request_id,
            invitation_digest=code,
        )
        index, result = await self._commands.apply(state_pb2.Command(register_account=command))
        return pb.RegisterResponse(
            position=self._authenticator.position(index), account_id=result.register_account.account_id
        )

    @unary
    async def LogIn(self, request: pb.LogInRequest, context: Context) -> pb.LogInResponse:  # noqa: N802
        """Open a session for one device."""
        check_id("device_id", request.device_id)
        check_number("used_send_number", request.used_send_number)
        if len(request.device_label) > MAX_LABEL_CHARS:
            raise InvalidInputError("device_label", f"is longer than {MAX_LABEL_CHARS} characters")
        await self._authenticator.read_barrier()
        address = address_of(context)  # not on a thread of readers, which does not know the call
        # A gateway has the files of many people, so whoever types a name there has the device of its account.
        device_id = b"" if is_forwarded(context) else request.device_id
        name = request.name[: MAX_NAME_CHARS + 1]
        account, card, claim = await self._readers.run(lambda reader: _claim(reader, name, device_id, address))
        if not await self._check.is_right(claim, request.password) or account is None or card is None:
            raise ApiError(grpc.StatusCode.UNAUTHENTICATED, WRONG_CREDENTIALS)
        await self._authenticator.wait_for(request.seen)
        # Read before the command, because a read that gets no turn ends the call.
        max_message_bytes = (await self._readers.run(settings.all_values))["max_message_bytes"]
        token, token_digest = new_token()
        command = state_pb2.OpenSession(
            account_id=account.id,
            password_hash=account.password_hash,
            token_digest=token_digest,
            device_id=request.device_id,
            device_label=request.device_label,
            expires_at_ms=self._authenticator.now_ms + self._config.session_ttl_s * 1000,
            end_oldest_device=request.end_oldest_device,
        )
        if self._commands.level >= CLAIM_LEVEL:
            command.used_send_number = request.used_send_number
            command.ttl_ms = self._config.session_ttl_s * 1000
        applied = await self._commands.submit([state_pb2.Command(open_session=command)])
        position = self._authenticator.position(applied.index)
        if applied.results[0].code == state_pb2.RESULT_CODE_DEVICE_FORGOTTEN:
            return pb.LogInResponse(device_forgotten=True, position=position)
        result = check_result(applied.results[0], after_unknown=applied.after_unknown)
        opened = result.open_session
        return pb.LogInResponse(
            token=token,
            account=account_info(card),
            last_send_number=opened.last_send_number,
            cursor=StreamCursor.at(position.generation, opened.delivered_up_to).encode(),
            expires_at_ms=opened.expires_at_ms or command.expires_at_ms,
            position=position,
            device_epoch=opened.device_epoch,
            max_message_bytes=max_message_bytes,
        )

    @unary
    async def LogOut(self, request: pb.LogOutRequest, context: Context) -> pb.LogOutResponse:  # noqa: N802
        """Close the caller's session. A token of no session writes nothing to the log."""
        session = await self._authenticator.session(context, allow_closed=True)
        if session.closed:
            return pb.LogOutResponse(position=await self._readers.run(position_of))
        command = state_pb2.CloseSession(token_digest=digest_of(context))
        index, _ = await self._commands.apply(state_pb2.Command(close_session=command))
        return pb.LogOutResponse(position=self._authenticator.position(index))

    @unary
    async def DeleteAccount(  # noqa: N802
        self, request: pb.DeleteAccountRequest, context: Context
    ) -> pb.DeleteAccountResponse:
        """Delete the caller's account, once the password is right. A retry finds the account deleted."""
        session = await self._authenticator.session_that_may(context, Action.DELETE_OWN_ACCOUNT, allow_closed=True)
        account = await self._readers.run(lambda reader: accounts.by_id(reader, session.account_id))
        if account is None:
            raise ApiError(grpc.StatusCode.UNAUTHENTICATED, NO_ACCOUNT)
        if account.active and session.closed:
            raise refusal(state_pb2.RESULT_CODE_SIGNED_OUT)
        # A deleted account has no password any more; its closed session alone says that the caller deleted it.
        if account.active and not await self._check.is_right(_own_claim(session, account, context), request.password):
            raise ApiError(grpc.StatusCode.UNAUTHENTICATED, WRONG_PASSWORD.format(done="The account was not deleted."))
        command = state_pb2.DeleteAccount(token_digest=digest_of(context), password_hash=account.password_hash)
        index, _ = await self._commands.apply(state_pb2.Command(delete_account=command))
        return pb.DeleteAccountResponse(position=self._authenticator.position(index))

    @unary
    async def SetDisplayName(  # noqa: N802
        self, request: pb.SetDisplayNameRequest, context: Context
    ) -> pb.SetDisplayNameResponse:
        """Set the name that is shown beside the caller's account name."""
        session = await self._authenticator.session_that_may(context, Action.SET_OWN_DISPLAY_NAME)
        command = state_pb2.SetDisplayName(session_id=session.session_id, display_name=request.display_name.strip())
        index, _ = await self._commands.apply(state_pb2.Command(set_display_name=command))
        return pb.SetDisplayNameResponse(position=self._authenticator.position(index))

    @unary
    async def ListAccounts(  # noqa: N802
        self, request: pb.ListAccountsRequest, context: Context
    ) -> pb.ListAccountsResponse:
        """One page of active accounts whose names match."""
        validate_pattern(request.pattern)
        session = await self._authenticator.session_at(context, request.seen)
        sees_suspensions = is_allowed(session.role, Action.SUSPEND_ACCOUNT)
        entry_bytes = MAX_ACCOUNT_INFO_BYTES + (_MAX_SUSPENSION_BYTES if sees_suspensions else 0)
        limit = entries_within_page(page_size("page_size", request.page_size), entry_bytes)

        def read(reader: StateReader) -> pb.ListAccountsResponse:
            with reader.consistent():
                found = accounts.matching(reader, request.pattern, request.after_name, limit + 1)
                shown = found[:limit]
                asked = {card.id for card in shown} if sees_suspensions else set()
                return pb.ListAccountsResponse(
                    accounts=[account_info(card) for card in shown],
                    next_after_name=shown[-1].name if len(found) > limit else "",
                    position=position_of(reader),
                    suspended=[
                        pb.SuspendedAccount(
                            account_id=one,
                            since_ms=why.since_ms,
                            suspended_by=why.suspended_by,
                            reason=why.reason,
                        )
                        for one, why in suspensions.among(reader, asked).items()
                    ],
                )

        return await self._readers.run(read)

    @unary
    async def ChangePassword(  # noqa: N802
        self, request: pb.ChangePasswordRequest, context: Context
    ) -> pb.ChangePasswordResponse:
        """Change the caller's password, once the old one is right. A retry finds it changed."""
        session = await self._authenticator.session_that_may(context, Action.CHANGE_OWN_PASSWORD)
        validate_password(request.new_password, "new password", account=session.account_name)
        account = await self._readers.run(lambda reader: accounts.by_id(reader, session.account_id))
        if account is None or not account.active:
            raise ApiError(grpc.StatusCode.UNAUTHENTICATED, NO_ACCOUNT)
        caller = owner_at(address_of(context), account.name)
        claim = _own_claim(session, account, context)
        if not await self._check.is_right(claim, request.old_password):
            # A repeated request finds the new password in place.
            if await self._passwords.verify(request.new_password, account.password_hash, caller):
                return pb.ChangePasswordResponse(position=await self._readers.run(position_of))
            raise ApiError(
                grpc.StatusCode.UNAUTHENTICATED, WRONG_PASSWORD.format(done="The old password stays in force.")
            )
        command = state_pb2.ChangePassword(
            session_id=session.session_id,
            old_hash=account.password_hash,
            new_hash=await self._passwords.hash(request.new_password, caller),
        )
        index, _ = await self._commands.apply(state_pb2.Command(change_password=command))
        return pb.ChangePasswordResponse(position=self._authenticator.position(index))

    @unary
    async def ListDevices(self, request: pb.ListDevicesRequest, context: Context) -> pb.ListDevicesResponse:  # noqa: N802
        """Return the caller's devices."""
        await self._authenticator.session_at(context, request.seen)
        session = await self._authenticator.session_that_may(context, Action.MANAGE_OWN_DEVICES)
        now = self._authenticator.now_ms

        def read(reader: StateReader) -> pb.ListDevicesResponse:
            with reader.consistent():
                found = devices.cards(reader, session.account_id, now)
                return pb.ListDevicesResponse(
                    devices=[
                        pb.DeviceInfo(
                            device_id=card.external,
                            label=card.label,
                            logged_in_at_ms=card.logged_in_at_ms,
                            signed_in=card.signed_in,
                            current=card.id == session.device_id,
                        )
                        for card in found
                    ],
                    position=position_of(reader),
                )

        return await self._readers.run(read)

    @unary
    async def RevokeDevices(  # noqa: N802
        self, request: pb.RevokeDevicesRequest, context: Context
    ) -> pb.RevokeDevicesResponse:
        """Sign out one device of the caller, or all others."""
        if request.device_id:
            check_id("device_id", request.device_id)
        session = await self._authenticator.session_that_may(context, Action.MANAGE_OWN_DEVICES)
        command = state_pb2.RevokeDevices(session_id=session.session_id, device_id=request.device_id)
        index, _ = await self._commands.apply(state_pb2.Command(revoke_devices=command))
        return pb.RevokeDevicesResponse(position=self._authenticator.position(index))

    @unary
    async def ClaimAdministrator(  # noqa: N802
        self, request: pb.ClaimAdministratorRequest, context: Context
    ) -> pb.ClaimAdministratorResponse:
        """Make the caller an administrator by a code from a node."""
        session = await self._authenticator.session_that_may(context, Action.CLAIM_ADMINISTRATOR)
        command = state_pb2.ClaimAdministrator(session_id=session.session_id, digest=digest_of_code(request.code))
        index, _ = await self._commands.apply(state_pb2.Command(claim_administrator=command))
        log_admin_action(session.account_name, Action.CLAIM_ADMINISTRATOR, session.account_name)
        return pb.ClaimAdministratorResponse(position=self._authenticator.position(index))


def _claim(
    reader: StateReader, name: str, device_id: bytes, address: str
) -> tuple[AccountRow | None, AccountCard | None, Claim]:
    """Return the account of a name, and who claims it."""
    with reader.consistent():
        account = accounts.by_name(reader, name)
        if account is None:
            return None, None, Claim(name, None, Failures(), address)
        known = device_id if devices.belongs_to(reader, device_id, account.id) else b""
        claim = Claim(name, account, failed_log_ins.of_account(reader, account.id), address, known)
        return account, accounts.cards(reader, {account.id})[0], claim


def _own_claim(session: SessionRecord, account: AccountRow, context: Context) -> Claim:
    return Claim(account.name, account, Failures(), address_of(context), session.device_external_id)


def _check_registration(reader: StateReader, request_id: bytes, code: bytes, now_ms: int) -> None:
    """Raise ApiError or UnavailableError for a registration that apply would refuse, before a password is hashed.

    A retry of one that was applied is not refused: its code is used up, and its first outcome is what the caller wants.
    """
    with reader.consistent():
        if accounts.is_registered(reader, request_id):
            return
        if reader.level() < NAME_RULES_LEVEL:
            if accounts.is_first_too_early(reader):
                raise UnavailableError("the cluster has just begun, and its release level still rises")
            return
        refused = accounts.registration_refusal(reader, codes.role_of(reader, code, now_ms) if code else None, code)
    if refused is not None:
        raise refusal(refused)
