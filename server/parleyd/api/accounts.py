"""The Accounts service: register, log in and out, delete, list."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from parley_proto.v1 import accounts_pb2 as pb
from parley_proto.v1 import state_pb2
from parley_proto.v1.accounts_pb2_grpc import AccountsServicer
from parleyd.api.auth import Authenticator, digest_of, now_ms
from parleyd.api.errors import ApiError, Context, check_result, unary
from parleyd.group.command_router import CommandRouter
from parleyd.group.readers import StateReaders
from parleyd.security.names import (
    InvalidInputError,
    validate_account_name,
    validate_password,
    validate_pattern,
)
from parleyd.security.passwords import PasswordHasher
from parleyd.security.tokens import new_token

SUBMIT_TIMEOUT_S = 10.0
DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
ID_BYTES = 16
MAX_DEVICE_LABEL = 64

WRONG_CREDENTIALS = "wrong name or password; nothing was changed. Check both and try again"


@dataclass(frozen=True, slots=True)
class AccountsConfig:
    """How long a session lives."""

    session_ttl_s: int


class AccountsService(AccountsServicer):
    """Turns account requests into commands and queries."""

    def __init__(
        self,
        router: CommandRouter,
        readers: StateReaders,
        authenticator: Authenticator,
        passwords: PasswordHasher,
        config: AccountsConfig,
    ) -> None:
        self._router = router
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
        applied = await self._router.submit([state_pb2.Command(register_account=command)], timeout_s=SUBMIT_TIMEOUT_S)
        check_result(applied.results[0])
        return pb.RegisterResponse(applied_index=applied.index)

    @unary
    async def LogIn(self, request: pb.LogInRequest, context: Context) -> pb.LogInResponse:  # noqa: N802
        """Open a session for one device."""
        check_id("device_id", request.device_id)
        if len(request.device_label) > MAX_DEVICE_LABEL:
            raise InvalidInputError("device_label", f"is longer than {MAX_DEVICE_LABEL} characters")
        await self._authenticator.read_barrier()
        account = await self._readers.run(lambda reader: reader.account_by_name(request.name))
        password_hash = account.password_hash if account is not None else None
        if not await self._passwords.verify(request.password, password_hash) or account is None:
            raise ApiError(grpc.StatusCode.UNAUTHENTICATED, WRONG_CREDENTIALS)
        token, token_digest = new_token()
        command = state_pb2.OpenSession(
            account_id=account.account_id,
            password_hash=account.password_hash,
            token_digest=token_digest,
            device_id=request.device_id,
            device_label=request.device_label,
            expires_at_ms=now_ms() + self._config.session_ttl_s * 1000,
        )
        applied = await self._router.submit([state_pb2.Command(open_session=command)], timeout_s=SUBMIT_TIMEOUT_S)
        result = check_result(applied.results[0])
        return pb.LogInResponse(
            token=token,
            account_id=account.account_id,
            last_send_number=result.last_send_number,
            delivered_up_to=result.delivered_up_to,
            expires_at_ms=command.expires_at_ms,
            applied_index=applied.index,
        )

    @unary
    async def LogOut(self, request: pb.LogOutRequest, context: Context) -> pb.LogOutResponse:  # noqa: N802
        """Close the caller's session."""
        command = state_pb2.CloseSession(token_digest=digest_of(context))
        applied = await self._router.submit([state_pb2.Command(close_session=command)], timeout_s=SUBMIT_TIMEOUT_S)
        check_result(applied.results[0])
        return pb.LogOutResponse(applied_index=applied.index)

    @unary
    async def Unregister(self, request: pb.UnregisterRequest, context: Context) -> pb.UnregisterResponse:  # noqa: N802
        """Delete the caller's account, once the password is right."""
        session = await self._authenticator.session(context, allow_closed=True)
        account = await self._readers.run(lambda reader: reader.account_by_id(session.account_id))
        if account is None:
            raise ApiError(grpc.StatusCode.UNAUTHENTICATED, "this account does not exist any more")
        if not await self._passwords.verify(request.password, account.password_hash):
            raise ApiError(grpc.StatusCode.UNAUTHENTICATED, "wrong password; the account was not deleted")
        command = state_pb2.DeleteAccount(token_digest=digest_of(context), password_hash=account.password_hash)
        applied = await self._router.submit([state_pb2.Command(delete_account=command)], timeout_s=SUBMIT_TIMEOUT_S)
        check_result(applied.results[0])
        return pb.UnregisterResponse(applied_index=applied.index)

    @unary
    async def ListAccounts(  # noqa: N802
        self, request: pb.ListAccountsRequest, context: Context
    ) -> pb.ListAccountsResponse:
        """One page of active accounts whose names match."""
        validate_pattern(request.pattern)
        limit = page_size("page_size", request.page_size)
        await self._authenticator.wait_for(request.seen_index)
        await self._authenticator.session(context)
        page = await self._readers.run(
            lambda reader: (
                reader.applied_index(),
                reader.list_accounts(request.pattern, request.after_name, limit + 1),
            )
        )
        applied_index, accounts = page
        shown = accounts[:limit]
        return pb.ListAccountsResponse(
            accounts=[pb.AccountInfo(account_id=account.account_id, name=account.name) for account in shown],
            next_after_name=shown[-1].name if len(accounts) > limit else "",
            applied_index=applied_index,
        )


def check_id(field: str, value: bytes) -> None:
    """Raise InvalidInputError unless `value` is 16 bytes."""
    if len(value) != ID_BYTES:
        raise InvalidInputError(field, f"must be {ID_BYTES} random bytes, not {len(value)}")


def page_size(field: str, value: int) -> int:
    """The page size meant by `value`, where 0 means the default; raises InvalidInputError above the bound."""
    if value > MAX_PAGE_SIZE:
        raise InvalidInputError(field, f"is {value}; at most {MAX_PAGE_SIZE} are allowed")
    return value or DEFAULT_PAGE_SIZE
