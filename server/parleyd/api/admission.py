"""Admits the calls of clients: authenticate first, then spend.

Every call passes here before its handler. A caller costs nothing but its metadata until these steps are done:

1. The call counts towards the bounds of this node and of the caller's address.
2. Its token is looked up, unless the method is public. From here on a stream counts towards the bound of its account
   instead, and a unary call towards both.
3. A unary call waits for a place to read its body, which is at most MAX_REQUEST_BYTES. gRPC reads a body only when it
   is asked to, so every handler is registered as one of streams, and this module reads and writes the one message.
4. A large page waits for a place too. It keeps the place until gRPC has written the page, because a client that does
   not read its answer makes this node keep it. While a call waits for that place, it keeps no page: it reads it again.

At a bound the call ends with RESOURCE_EXHAUSTED, and nothing was done. A caller that says or reads nothing loses its
place after a short time if others wait for it, and its call ends.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import grpc.aio

from parleyd.api.auth import Authenticator
from parleyd.api.callers import admit_source, owner_of
from parleyd.api.ending import note_waiters
from parleyd.api.errors import ApiError, Context, abort, fail
from parleyd.api.patience import Patience, nobody_waits, patient, write
from parleyd.budgets import BoundReachedError, Counts, FairPlaces, Owner, Place, shares_of
from parleyd.decoding import Continuation, handler_of_streams
from parleyd.machine.features.sessions import SessionRecord

MAX_REQUEST_BYTES = 64 * 1024
BODY_PATIENCE = Patience(0.25, 2.0)
ANSWER_PATIENCE = Patience(3.0, 30.0)
PLACE_TIMEOUT_S = 5.0
SMALL_ANSWER_BYTES = 32 * 1024
"""An answer up to this size needs no place. The bound of calls in progress bounds them all."""

BUSY_TEXT = (
    "This node accepts no more calls now: {reason}. Nothing was changed. Try again in a moment, or another node."
)
NO_BODY_TEXT = "The call ended without a request. Nothing was changed. Update the client."
SLOW_BODY_TEXT = "The request did not arrive in time after the call began. Nothing was changed. Try again."
LARGE_BODY_TEXT = (
    f"The request has more than {MAX_REQUEST_BYTES} bytes, and no valid one has. Nothing was changed. "
    "Update the client."
)


class Access(enum.Enum):
    """Who may call a method."""

    PUBLIC = "anybody"
    SESSION = "a live session"
    CLOSED_SESSION = "a live session or a closed one, so that a retry finds its outcome"


ACCESS = {
    "/parley.v1.Accounts/Register": Access.PUBLIC,
    "/parley.v1.Accounts/LogIn": Access.PUBLIC,
    "/parley.v1.Accounts/LogOut": Access.CLOSED_SESSION,
    "/parley.v1.Accounts/DeleteAccount": Access.CLOSED_SESSION,
    "/parley.v1.Accounts/SetDisplayName": Access.SESSION,
    "/parley.v1.Accounts/ListAccounts": Access.SESSION,
    "/parley.v1.Accounts/ChangePassword": Access.SESSION,
    "/parley.v1.Accounts/ListDevices": Access.SESSION,
    "/parley.v1.Accounts/RevokeDevices": Access.SESSION,
    "/parley.v1.Accounts/ClaimAdministrator": Access.SESSION,
    "/parley.v1.Conversations/ListConversations": Access.SESSION,
    "/parley.v1.Conversations/GetHistory": Access.SESSION,
    "/parley.v1.Conversations/ListMembers": Access.SESSION,
    "/parley.v1.Conversations/CreateChannel": Access.SESSION,
    "/parley.v1.Messaging/Connect": Access.SESSION,
    "/parley.v1.Admin/GetStatus": Access.PUBLIC,
    "/parley.v1.Admin/InviteNode": Access.SESSION,
    "/parley.v1.Admin/AddMember": Access.SESSION,
    "/parley.v1.Admin/PromoteMember": Access.SESSION,
    "/parley.v1.Admin/RemoveMember": Access.SESSION,
    "/parley.v1.Admin/TransferLeadership": Access.SESSION,
    "/parley.v1.Admin/RebuildMember": Access.SESSION,
    "/parley.v1.Admin/SetAdministrator": Access.SESSION,
    "/parley.v1.Admin/ChangeSetting": Access.SESSION,
    "/parley.v1.Admin/SetClusterTime": Access.SESSION,
    "/parley.v1.Admin/ListSettings": Access.SESSION,
    "/parley.v1.Admin/CreateInvitation": Access.SESSION,
    "/parley.v1.Admin/ResetPassword": Access.SESSION,
    "/parley.v1.Admin/LiftDelay": Access.SESSION,
}
"""Every method of the client address. One that is missing here needs a session."""

_STANDARD_SERVICES = ("/grpc.health.", "/grpc.reflection.")
_PAGES = frozenset(
    {
        "/parley.v1.Accounts/ListAccounts",
        "/parley.v1.Conversations/ListConversations",
        "/parley.v1.Conversations/GetHistory",
        "/parley.v1.Conversations/ListMembers",
    }
)


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Bounds of calls in progress. `bodies` are requests being read at once, `pages` are answers not yet written."""

    calls: int = 2048
    calls_per_address: int = 512
    calls_per_account: int = 64
    streams: int = 10_000
    streams_per_account: int = 64
    bodies: int = 32
    pages: int = 64
    trusted_gateways: Collection[str] = ()


class AdmissionInterceptor(grpc.aio.ServerInterceptor):
    """Admits every call of one server."""

    def __init__(self, authenticator: Authenticator, limits: CallLimits) -> None:
        note_waiters()
        self._authenticator = authenticator
        self._gateways = frozenset(limits.trusted_gateways)
        self._calls = Counts(limits.calls, limits.calls_per_address)
        self._account_calls = Counts(limits.calls, limits.calls_per_account)
        self._streams = Counts(limits.streams, limits.streams_per_account)
        self._bodies = FairPlaces(limits.bodies, shares_of(limits.bodies, limits.bodies // 4))
        self._pages = FairPlaces(limits.pages, shares_of(limits.pages, limits.pages // 8))

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> Any:
        """Return a handler that admits the call before it runs the method's own."""
        handler = await continuation(details)
        if handler is None:
            return None
        method = details.method

        async def admitted(requests: AsyncIterator[Any], context: Context) -> None:
            await self._admit(method, handler, requests, context)

        return handler_of_streams(handler, admitted)

    async def _admit(self, method: str, handler: Any, requests: AsyncIterator[Any], context: Context) -> None:
        try:
            with ExitStack() as counted:
                source = admit_source(context, self._gateways)
                counted.enter_context(self._calls.one(source))
                session = await self._session(access_of(method), context)
                if handler.request_streaming and session is not None:
                    counted.close()
                    counted.enter_context(self._streams.one(session.account_id))
                elif session is not None:
                    counted.enter_context(self._account_calls.one(session.account_id))
                if handler.request_streaming:
                    await _answer(handler.stream_stream(requests, context), context)
                else:
                    owner = owner_of(context, None if session is None else session.account_id)
                    await self._serve(method, handler, owner, context)
        except grpc.aio.AbortError:
            raise
        except BoundReachedError as error:
            await abort(context, ApiError(grpc.StatusCode.RESOURCE_EXHAUSTED, BUSY_TEXT.format(reason=error)))
        except Exception as error:
            await fail(context, error)

    async def _session(self, access: Access, context: Context) -> SessionRecord | None:
        if access is Access.PUBLIC:
            return None
        return await self._authenticator.admit(context, allow_closed=access is Access.CLOSED_SESSION)

    async def _serve(self, method: str, handler: Any, owner: Owner, context: Context) -> None:
        """Read the one request, run the method, write its answers."""
        request = await self._read(owner, context)
        if handler.response_streaming:
            await _answer(handler.unary_stream(request, context), context)
        elif method in _PAGES:
            await self._serve_page(partial(handler.unary_unary, request, context), owner, context)
        else:
            await write(context, await handler.unary_unary(request, context), ANSWER_PATIENCE, nobody_waits)

    async def _serve_page(self, read: Callable[[], Awaitable[Any]], owner: Owner, context: Context) -> None:
        """Write what `read` returns, with a place if it is large."""
        page = await read()
        with Place(self._pages, owner) as place:
            if page.ByteSize() > SMALL_ANSWER_BYTES and not place.ask().done():
                del page
                await _wait_for(place, "too many answers wait for their readers")
                page = await read()
            await write(context, page, ANSWER_PATIENCE, place.is_wanted)

    async def _read(self, owner: Owner, context: Context) -> Any:
        with Place(self._bodies, owner) as place:
            await _wait_for(place, "too many requests arrive at once")
            try:
                async with patient(BODY_PATIENCE, place.is_wanted):
                    request = await context.read()
            except TimeoutError:
                raise ApiError(grpc.StatusCode.DEADLINE_EXCEEDED, SLOW_BODY_TEXT) from None
            if request is grpc.aio.EOF:
                raise ApiError(grpc.StatusCode.INVALID_ARGUMENT, NO_BODY_TEXT)
            if request.ByteSize() > MAX_REQUEST_BYTES:
                raise ApiError(grpc.StatusCode.INVALID_ARGUMENT, LARGE_BODY_TEXT)
            return request


def access_of(method: str) -> Access:
    """Return who may call a method; a method that is not in the table needs a session."""
    return Access.PUBLIC if method.startswith(_STANDARD_SERVICES) else ACCESS.get(method, Access.SESSION)


async def _answer(answers: Any, context: Context) -> None:
    """Run a handler of streams, which writes by itself or gives what is to be written."""
    if hasattr(answers, "__aiter__"):
        async for answer in answers:
            await write(context, answer, ANSWER_PATIENCE, nobody_waits)
    else:
        await answers


async def _wait_for(place: Place, reason: str) -> None:
    """Wait for a place; raises BoundReachedError if there is none in time."""
    try:
        async with asyncio.timeout(PLACE_TIMEOUT_S):
            await asyncio.shield(place.ask())
    except TimeoutError:
        raise BoundReachedError(reason) from None
