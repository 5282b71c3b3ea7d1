"""The Accounts service: register, log in and out, delete, list."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from parley_proto.v1 import accounts_pb2 as pb
from parley_proto.v1 import state_pb2
from parley_proto.v1.accounts_pb2_grpc import AccountsServicer
from parleyd.api.auth import Authenticator, digest_of, now_ms
from parleyd.api.commands import Commands
from parleyd.api.errors import ApiError, Context, check_result, unary
from parleyd.api.requests import check_id, check_number, page_size
from parleyd.delivery.cursor import StreamCursor
from parleyd.delivery.position import position_of
from parleyd.delivery.records import account_info
from parleyd.group.readers import StateReaders
from parleyd.machine.authorisation import Action
from parleyd.machine.features import accounts
from parleyd.machine.features.accounts import AccountCard, AccountRow
from parleyd.machine.features.devices import CLAIM_LEVEL
from parleyd.machine.limits import MAX_LABEL_CHARS
from parleyd.machine.reader import StateReader
from parleyd.security.names import (
    InvalidInputError,
    validate_account_name,
    validate_password,
    validate_pattern,
)
from parleyd.security.passwords import PasswordHasher
from parleyd.security.tokens import new_token

WRONG_CREDENTIALS = "The name or the password is wrong. Nothing was changed. Check both and try again."
WRONG_PASSWORD = "The password is wrong. The account was not deleted. Check the password and try again."  # noqa: S105
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
        config: AccountsConfig,
    ) -> None:
        self._commands = commands
        self._readers = readers
        self._authenticator = authenticator
        self._passwords = passwords
        self._config = config

    @unary
    async def Register(self, request: pb.RegisterRequest, context: Context) -> pb.RegisterResponse:  # noqa: N802
        """Create an account."""
        validate_account_name(request.name)
        validate_password(request.password)
        check_id("request_id", request.request_id)
        command = state_pb2.RegisterAccount(
            name=request.name,
            password_hash=await self._passwords.hash(request.password),
            request_id=request.request_id,
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
        account, card = await self._readers.run(lambda reader: _account_named(reader, request.name))
        password_hash = account.password_hash if account is not None else None
        if not await self._passwords.verify(request.password, password_hash) or account is None or card is None:
            raise ApiError(grpc.StatusCode.UNAUTHENTICATED, WRONG_CREDENTIALS)
        await self._authenticator.wait_for(request.seen)
        token, token_digest = new_token()
        command = state_pb2.OpenSession(
            account_id=account.id,
            password_hash=account.password_hash,
            token_digest=token_digest,
            device_id=request.device_id,
            device_label=request.device_label,
            expires_at_ms=now_ms() + self._config.session_ttl_s * 1000,
        )
        if self._commands.level >= CLAIM_LEVEL:
            command.used_send_number = request.used_send_number
        applied = await self._commands.submit([state_pb2.Command(open_session=command)])
        position = self._authenticator.position(applied.index)
        if applied.results[0].code == state_pb2.RESULT_CODE_DEVICE_FORGOTTEN:
            return pb.LogInResponse(device_forgotten=True, position=position)
        result = check_result(applied.results[0])
        opened = result.open_session
        return pb.LogInResponse(
            token=token,
            account=account_info(card),
            last_send_number=opened.last_send_number,
            cursor=StreamCursor.at(position.generation, opened.delivered_up_to).encode(),
            expires_at_ms=command.expires_at_ms,
            position=position,
            device_epoch=opened.device_epoch,
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
        # A deleted account has no password any more; its closed session alone says that the caller deleted it.
        if account.active and not await self._passwords.verify(request.password, account.password_hash):
            raise ApiError(grpc.StatusCode.UNAUTHENTICATED, WRONG_PASSWORD)
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
        limit = page_size("page_size", request.page_size)
        await self._authenticator.session_at(context, request.seen)

        def read(reader: StateReader) -> pb.ListAccountsResponse:
            with reader.consistent():
                found = accounts.matching(reader, request.pattern, request.after_name, limit + 1)
                shown = found[:limit]
                return pb.ListAccountsResponse(
                    accounts=[account_info(card) for card in shown],
                    next_after_name=shown[-1].name if len(found) > limit else "",
                    position=position_of(reader),
                )

        return await self._readers.run(read)


def _account_named(reader: StateReader, name: str) -> tuple[AccountRow | None, AccountCard | None]:
    with reader.consistent():
        account = accounts.by_name(reader, name)
        cards = accounts.cards(reader, {account.id}) if account is not None else ()
        return account, cards[0] if cards else None
