"""Admits the calls of clients: authenticate first, then spend.

Every call passes here before its handler. A caller costs nothing but its metadata until these steps are done:

1. The call takes a place of this node, of its network and of its address. Calls of public methods and calls whose
   token is being looked up have places of their own.
2. Its token is looked up, unless the method is public. A token that this node does not know may be newer than its
   state. So it is looked up again once the node has all that is committed: UNKNOWN_TOKENS at once, and meanwhile a
   newcomer may take the call's place. From here on the call has a place that no stranger takes: one of those for
   calls with sessions, or one of those for streams.
3. A unary call waits for a place to read its body, which is at most MAX_REQUEST_BYTES, of Push MAX_PUSH_BYTES. gRPC
   reads a body only when it is asked to, so every handler is registered as one of streams, and this module reads and
   writes the one message.
4. A large page needs a place too. It keeps the place until gRPC has written the page, because a client that does not
   read its answer makes this node keep it. A call that has no place at once reads a small page instead. If the first
   entry alone is large, the call waits for a place. Meanwhile it keeps no page, and reads it again.

At a bound the call ends with RESOURCE_EXHAUSTED, and nothing was done. A caller that says or reads nothing loses its
places after a short time if others want them, and its call ends.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import grpc.aio

from parleyd.api.auth import Authenticator
from parleyd.api.callers import admit_source, owner_at, peer_of
from parleyd.api.errors import ApiError, Context, abort, count_refusal, fail
from parleyd.api.patience import Patience, nobody_waits, patient, write
from parleyd.api.requests import PAGE_BYTES, SMALL_PAGE_BYTES, bound_page
from parleyd.budgets import BoundReachedError, FairPlaces, Place, shares_of
from parleyd.call_places import CallPlaces, HeldPlace, PlaceTakenError
from parleyd.connections import BusyPeers
from parleyd.decoding import Continuation, handler_of_streams
from parleyd.ending import drop_call, note_waiters
from parleyd.group.readers import read_for
from parleyd.machine.limits import MAX_BODY_BYTES
from parleyd.observability.figures import ServiceFigures, count_for
from parleyd.request_ids import RequestLog, begin_request

MAX_REQUEST_BYTES = 64 * 1024
MAX_PUSH_BYTES = MAX_BODY_BYTES + 64 * 1024
"""The longest message with its target, and room beside it, as in a frame of a stream."""
BODY_PATIENCE = Patience(0.25, 2.0)
ANSWER_PATIENCE = Patience(3.0, 30.0)
UNKNOWN_TOKENS = 32
"""All that wait for the same answer of the leader go on in one turn of the event loop, and peers wait meanwhile."""
SMALL_ANSWER_BYTES = 32 * 1024
"""An answer up to this size needs no place. The bound of calls in progress bounds them all."""

BUSY_TEXT = (
    "This node accepts no more calls now: {reason}. Nothing was changed. Try again in a moment, or another node."
)
NO_BODY_TEXT = "The call ended without a request. Nothing was changed. Update the client."
SLOW_BODY_TEXT = "The request did not arrive in time after the call began. Nothing was changed. Try again."
LARGE_BODY_TEXT = (
    "The request has more than {most_bytes} bytes, and no valid one has. Nothing was changed. Send less at once, or "
    "update the client."
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
    "/parley.v1.Presence/ListConnected": Access.SESSION,
    "/parley.v1.Presence/GetPresence": Access.SESSION,
    "/parley.v1.Presence/SetHidden": Access.SESSION,
    "/parley.v1.Conversations/ListConversations": Access.SESSION,
    "/parley.v1.Conversations/GetHistory": Access.SESSION,
    "/parley.v1.Conversations/ListMembers": Access.SESSION,
    "/parley.v1.Conversations/GetReceipts": Access.SESSION,
    "/parley.v1.Conversations/CreateChannel": Access.SESSION,
    "/parley.v1.Conversations/ListChannels": Access.SESSION,
    "/parley.v1.Conversations/ChangeChannel": Access.SESSION,
    "/parley.v1.Conversations/JoinChannel": Access.SESSION,
    "/parley.v1.Conversations/LeaveChannel": Access.SESSION,
    "/parley.v1.Conversations/AddMembers": Access.SESSION,
    "/parley.v1.Conversations/RemoveMembers": Access.SESSION,
    "/parley.v1.Conversations/SetMemberRole": Access.SESSION,
    "/parley.v1.Conversations/SetMuted": Access.SESSION,
    "/parley.v1.Conversations/SetPutAway": Access.SESSION,
    "/parley.v1.Conversations/RemoveConversation": Access.SESSION,
    "/parley.v1.Messaging/Connect": Access.SESSION,
    "/parley.v1.Messaging/Fetch": Access.SESSION,
    "/parley.v1.Messaging/Push": Access.SESSION,
    "/parley.v1.Admin/GetStatus": Access.PUBLIC,
    "/parley.v1.Admin/InviteNode": Access.SESSION,
    "/parley.v1.Admin/RevokeCertificate": Access.SESSION,
    "/parley.v1.Admin/RestoreCertificate": Access.SESSION,
    "/parley.v1.Admin/ListRevokedCertificates": Access.SESSION,
    "/parley.v1.Admin/AddMember": Access.SESSION,
    "/parley.v1.Admin/PromoteMember": Access.SESSION,
    "/parley.v1.Admin/RemoveMember": Access.SESSION,
    "/parley.v1.Admin/RestartNode": Access.SESSION,
    "/parley.v1.Admin/TransferLeadership": Access.SESSION,
    "/parley.v1.Admin/RebuildMember": Access.SESSION,
    "/parley.v1.Admin/SetAdministrator": Access.SESSION,
    "/parley.v1.Admin/ChangeSetting": Access.SESSION,
    "/parley.v1.Admin/SetClusterTime": Access.SESSION,
    "/parley.v1.Admin/ListSettings": Access.SESSION,
    "/parley.v1.Admin/ListAudit": Access.SESSION,
    "/parley.v1.Admin/CreateInvitation": Access.SESSION,
    "/parley.v1.Admin/ListInvitations": Access.SESSION,
    "/parley.v1.Admin/WithdrawInvitation": Access.SESSION,
    "/parley.v1.Admin/ResetPassword": Access.SESSION,
    "/parley.v1.Admin/LiftDelay": Access.SESSION,
    "/parley.v1.Admin/SuspendAccount": Access.SESSION,
    "/parley.v1.Admin/ReleaseAccount": Access.SESSION,
    "/parley.v1.Admin/SetQuota": Access.SESSION,
    "/parley.v1.Admin/GetQuota": Access.SESSION,
    "/parley.v1.Admin/ImportAccounts": Access.SESSION,
    "/parley.v1.Admin/Backup": Access.SESSION,
    "/parley.v1.Admin/FollowEvents": Access.SESSION,
}
"""Every method of the client address. One that is missing here needs a session."""

_MAX_BYTES = {"/parley.v1.Messaging/Push": MAX_PUSH_BYTES}
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}
_MESSAGES = "/parley.v1.Messaging/"
_LOGGED = frozenset({"UNAVAILABLE", "ABORTED", "INTERNAL", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "DATA_LOSS"})
"""The codes of calls that failed for a reason of the cluster. Others are the caller's."""
_STANDARD_SERVICES = ("/grpc.health.", "/grpc.reflection.")
_PAGES = frozenset(
    {
        "/parley.v1.Accounts/ListAccounts",
        "/parley.v1.Presence/ListConnected",
        "/parley.v1.Conversations/ListConversations",
        "/parley.v1.Conversations/GetHistory",
        "/parley.v1.Conversations/ListMembers",
        "/parley.v1.Conversations/GetReceipts",
        "/parley.v1.Conversations/ListChannels",
        "/parley.v1.Admin/ListAudit",
    }
)


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Bounds of calls in progress. `bodies` are requests being read at once, `pages` are answers not yet written.

    Half of `calls` are for sessions, the other half for callers without one.
    """

    calls: int = 2048
    calls_per_address: int = 512
    calls_per_account: int = 64
    streams: int = 10_000
    streams_per_account: int = 32
    bodies: int = 32
    pages: int = 64
    trusted_gateways: Collection[str] = ()


class AdmissionInterceptor(grpc.aio.ServerInterceptor):
    """Admits every call of one server."""

    def __init__(
        self,
        authenticator: Authenticator,
        limits: CallLimits,
        busy: BusyPeers,
        figures: ServiceFigures | None = None,
    ) -> None:
        """Admit within `limits`. `busy` hears of the connections that have calls, and `figures` count them."""
        note_waiters()
        self._figures = figures or ServiceFigures()
        self._requests = RequestLog("api")
        self._busy = busy
        self._authenticator = authenticator
        self._gateways = frozenset(limits.trusted_gateways)
        half = max(1, limits.calls // 2)
        of_strangers = (max(1, half * 3 // 4), limits.calls_per_address)
        self._public = CallPlaces(half, of_strangers)
        self._looked_up = CallPlaces(half, of_strangers)
        self._calls = CallPlaces(half, (half, half, limits.calls_per_account))
        self._streams = CallPlaces(limits.streams, (limits.streams, limits.streams, limits.streams_per_account))
        self._unknown = FairPlaces(UNKNOWN_TOKENS, shares_of(UNKNOWN_TOKENS, UNKNOWN_TOKENS // 2))
        self._bodies = FairPlaces(limits.bodies, shares_of(limits.bodies, limits.bodies // 4))
        self._pages = FairPlaces(limits.pages, shares_of(limits.pages, limits.pages // 8))

    def places(self) -> Mapping[str, tuple[int, int]]:
        """Return the places in use and the bound of each kind, by its name for monitoring."""
        kinds: dict[str, CallPlaces | FairPlaces] = {
            "public_calls": self._public,
            "token_lookups": self._looked_up,
            "calls": self._calls,
            "streams": self._streams,
            "unknown_tokens": self._unknown,
            "requests": self._bodies,
            "answers": self._pages,
        }
        return {name: (places.used, places.total) for name, places in kinds.items()}

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> Any:
        """Return a handler that admits the call before it runs the method's own."""
        handler = await continuation(details)
        if handler is None:
            return None
        method = details.method

        async def admitted(requests: AsyncIterator[Any], context: Context) -> None:
            count_for(self._figures)
            if not handler.request_streaming:
                begin_request(context.invocation_metadata(), is_carried=not method.startswith(_MESSAGES))
            code = "CANCELLED"  # also of a call whose client reads nothing, which gets no status
            try:
                with self._busy.one(peer_of(context)):
                    await self._admit(method, handler, requests, context)
                code = "OK"
            except grpc.aio.AbortError:
                code = _code_of(context)
                if code in _LOGGED and not handler.request_streaming:
                    self._requests.line("request_failed", method=method.rpartition("/")[2], code=code)
                raise
            finally:
                self._figures.calls[method, code] += 1

        return handler_of_streams(handler, admitted)

    async def _admit(self, method: str, handler: Any, requests: AsyncIterator[Any], context: Context) -> None:
        try:
            async with self._place(method, handler, context) as place:
                if handler.request_streaming:
                    await _answer(method, handler.stream_stream(requests, context), place, context)
                else:
                    await self._serve(method, handler, place, context)
        except grpc.aio.AbortError:
            raise
        except BoundReachedError as error:
            count_refusal(error)
            await abort(context, ApiError(grpc.StatusCode.RESOURCE_EXHAUSTED, BUSY_TEXT.format(reason=error)))
        except Exception as error:
            await fail(context, error)

    @asynccontextmanager
    async def _place(self, method: str, handler: Any, context: Context) -> AsyncIterator[HeldPlace]:
        """Have the place of the call while inside, after its token was looked up."""
        address = admit_source(context, self._gateways)
        caller = owner_at(address, address)
        read_for(caller, has_session=False)
        access = access_of(method)
        if access is Access.PUBLIC:
            with self._public.one(caller) as place:
                yield place
            return
        with self._looked_up.one(caller) as held:
            session = await self._authenticator.admit(
                context, allow_closed=access is Access.CLOSED_SESSION, as_unknown=partial(self._as_unknown, held)
            )
        places = self._streams if handler.request_streaming else self._calls
        owner = owner_at(address, session.account_id)
        read_for(owner, has_session=True)
        with places.one(owner) as place:
            yield place

    @asynccontextmanager
    async def _as_unknown(self, held: HeldPlace) -> AsyncIterator[None]:
        """Look a token up that this node does not know, while inside: few at once, and newcomers come first."""
        async with held.waits():
            with Place(self._unknown, held.owner) as place:
                await place.wait("too many tokens that nobody knows are looked up at once")
                yield

    async def _serve(self, method: str, handler: Any, place: HeldPlace, context: Context) -> None:
        """Read the one request, run the method, write its answers."""
        request = await self._read(place, context, _MAX_BYTES.get(method, MAX_REQUEST_BYTES))
        if handler.response_streaming:
            await _answer(method, handler.unary_stream(request, context), place, context)
        elif method in _PAGES:
            await self._serve_page(partial(handler.unary_unary, request, context), place, context)
        else:
            answering = handler.unary_unary(request, context)
            del request  # up to 1 MiB, which would be kept until the client has read its answer
            await _write(await answering, place, context)

    async def _serve_page(self, read: Callable[[], Awaitable[Any]], held: HeldPlace, context: Context) -> None:
        """Write what `read` returns: a large page with a place, otherwise a small one."""
        with Place(self._pages, held.owner) as place:
            bound_page(PAGE_BYTES if place.ask().done() else SMALL_PAGE_BYTES)
            page = await read()
            if page.ByteSize() <= SMALL_ANSWER_BYTES:
                place.leave()
            elif not place.is_held:
                del page
                async with held.waits():
                    await place.wait("too many answers wait for their readers")
                bound_page(PAGE_BYTES)
                page = await read()
            await _write(page, held, context, place.is_wanted)

    async def _read(self, held: HeldPlace, context: Context, most_bytes: int) -> Any:
        async with held.waits():
            with Place(self._bodies, held.owner) as place:
                await place.wait("too many requests arrive at once")
                try:
                    async with patient(BODY_PATIENCE, place.is_wanted):
                        request = await context.read()
                except TimeoutError:
                    raise ApiError(grpc.StatusCode.DEADLINE_EXCEEDED, SLOW_BODY_TEXT) from None
        if request is grpc.aio.EOF:
            raise ApiError(grpc.StatusCode.INVALID_ARGUMENT, NO_BODY_TEXT)
        if request.ByteSize() > most_bytes:
            raise ApiError(grpc.StatusCode.INVALID_ARGUMENT, LARGE_BODY_TEXT.format(most_bytes=most_bytes))
        return request


def _code_of(context: Context) -> str:
    code: Any = context.code()  # in some versions of gRPC the number, whatever the stubs say
    return code.name if isinstance(code, grpc.StatusCode) else _CODES.get(code, "UNKNOWN")


def access_of(method: str) -> Access:
    """Return who may call a method; a method that is not in the table needs a session."""
    return Access.PUBLIC if method.startswith(_STANDARD_SERVICES) else ACCESS.get(method, Access.SESSION)


async def _answer(method: str, answers: Any, place: HeldPlace, context: Context) -> None:
    """Run a handler of streams. Nobody is served by a stream without a session alone: it gives way to newcomers."""
    if access_of(method) is Access.PUBLIC:
        async with place.waits():
            await _write_all(answers, context)
    else:
        await _write_all(answers, context)


async def _write_all(answers: Any, context: Context) -> None:
    """Write what a handler of streams gives, or let it write by itself."""
    if hasattr(answers, "__aiter__"):
        async with aclosing(answers):  # at once, because it may hold files
            async for answer in answers:
                await write(context, answer, ANSWER_PATIENCE, nobody_waits)
    else:
        await answers


async def _write(answer: Any, place: HeldPlace, context: Context, is_wanted: Callable[[], bool] = nobody_waits) -> None:
    """Write the answer of a unary call. A client that does not read it loses its places to those who want them."""
    try:
        async with place.waits():
            await write(context, answer, ANSWER_PATIENCE, is_wanted)
    except PlaceTakenError:
        drop_call()  # without a line in the log, which newcomers could fill
