"""What administrators do on the dashboard: sign in, transfer leadership, run a drill, take a backup, sign out.

Every request goes to the services that serve clients (api/), as a call of its own: the throttle of log-ins, sessions,
roles and the log of what administrators do are theirs. The browser is a device of the account. Its session is one of
the cluster, which any node knows, and which ends with a sign-out, after SESSION_S, or when it is revoked.

Bounds in sum over all callers: SIGN_INS at once, LOOK_UPS of sessions at once, ACTIONS at once, one drill, and the one
backup of the node. A body has BODY_BYTES.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import grpc
import structlog

from parley_proto.v1 import accounts_pb2, admin_pb2
from parleyd.api.accounts import AccountsService
from parleyd.api.admin_actions import log_failed_admin_action
from parleyd.api.administration import AdminService
from parleyd.api.auth import Authenticator
from parleyd.api.callers import owner_at
from parleyd.api.cluster_view import ClusterView
from parleyd.api.errors import ApiError, Context, count_refusal, translate
from parleyd.budgets import BoundReachedError
from parleyd.call_places import CallPlaces
from parleyd.drill import Drill, DrillEndedError
from parleyd.group.readers import read_for
from parleyd.http.assets import HEADERS
from parleyd.http.guarding import (
    DEVICE_S,
    OLD_CODE,
    code_of,
    cookie_of,
    has_code,
    refuse_stranger,
    set_cookie,
)
from parleyd.http.pages import Answer, Page, Request, json_answer, refusal
from parleyd.local_call import CallRefusedError, local_call
from parleyd.machine.authorisation import Action, is_allowed
from parleyd.machine.features.sessions import SessionRecord
from parleyd.machine.names import name_key
from parleyd.observability.figures import ServiceFigures, count_for
from parleyd.owners import Owner
from parleyd.security.tokens import MalformedTokenError, digest
from parleyd.sources import canonical_host, source_of_host

SESSION_S = 8 * 3600
SIGN_INS = 8
LOOK_UPS = 16
ACTIONS = 8
BODY_BYTES = 2048
ACTION_S = 45.0
"""An action waits for the leader, a drill for its messages."""
SIGN_IN_S = 30.0
LABEL = "Browser (dashboard)"

NOT_SERVING = (
    "This node does not serve now, or it was removed from the cluster. Nothing was done. Open the page of another node."
)
NOT_SIGNED_IN = "You are not signed in any more. Nothing was done. Sign in again."
NOT_ADMINISTRATOR = (
    "Only administrators can sign in here. You were signed out again, and nothing else was done. An administrator can "
    "make you one: parley cluster grant NAME."
)
BUSY = "Too much is going on at once ({reason}). Nothing was done. Try again in a moment."
DRILL_RUNS = "A drill is running at this node. Nothing was done. Wait until it ends."

ENDED_EARLY = (
    "The drill ended early. Messages that it had stored by then: {sent}. They stay in your conversation with yourself, "
    "and one more may be there. What ended it: {reason}"
)
_NOTHING = re.compile(r"Nothing was (?:changed|done)\. ?")
"""True of the step that was refused, not of the drill."""

_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
}
_SECRET = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class ConsoleParts:
    """The services of a node that serves, and what they share."""

    accounts: AccountsService
    admin: AdminService
    authenticator: Authenticator
    view: ClusterView
    drill: Drill
    service: ServiceFigures
    is_sound: Callable[[], bool]  # whether the state may be shown: it is trusted, and the node is a member


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of somebody who is signed in: `call` is made in the name of that session."""

    parts: ConsoleParts
    request: Request
    call: Context

    async def transfer(self) -> str:
        """Transfer leadership as the request says; return the new leader."""
        name = str(_content(self.request).get("name", ""))
        request = admin_pb2.TransferLeadershipRequest(name=name)
        return str((await self.parts.admin.TransferLeadership(request, self.call)).leader)


Work = Callable[[Asked], Awaitable[Answer]]


class Console:
    """Answers administrators. Used on the event loop."""

    def __init__(self, parts: Callable[[], ConsoleParts | None]) -> None:
        """`parts` are those of the node while it serves."""
        self._parts = parts
        self._sign_ins = CallPlaces(SIGN_INS, (SIGN_INS * 3 // 4, SIGN_INS * 3 // 4))
        self._look_ups = CallPlaces(LOOK_UPS, (LOOK_UPS * 3 // 4, LOOK_UPS * 3 // 4))
        self._actions = CallPlaces(ACTIONS, (ACTIONS, ACTIONS, ACTIONS // 2))
        self._has_drill = False
        self._logger = structlog.get_logger("http")

    def pages(self) -> dict[str, Page]:
        """Return what answers, by paths."""
        return {
            "/session": Page(self._session, ("GET", "POST"), BODY_BYTES, SIGN_IN_S),
            "/sign-out": Page(self._act(_sign_out), ("POST",), BODY_BYTES, ACTION_S),
            "/transfer": Page(self._act(_transfer), ("POST",), BODY_BYTES, ACTION_S),
            "/drill": Page(self._act(self._run_drill), ("POST",), BODY_BYTES, ACTION_S),
            "/backup": Page(self._act(_back_up), ("POST",), BODY_BYTES, ACTION_S),
        }

    # ---- the session

    async def _session(self, request: Request) -> Answer:
        if (refused := refuse_stranger(request)) is not None:
            # Who only looks is told that nobody can sign in by such an address.
            return refused if request.method == "POST" else _told("", may_sign_in=False)
        parts = self._parts()
        if parts is None or not parts.is_sound():
            return refusal(503, NOT_SERVING, HEADERS)
        count_for(parts.service)
        if request.method == "POST":
            return await _answered(self._sign_in(parts, request))
        return await _answered(self._show_session(parts, request))

    async def _show_session(self, parts: ConsoleParts, request: Request) -> Answer:
        token = cookie_of(request, "session")
        with self._look_ups.one(_owner(request)):
            session = await _session_of(parts, request, token)
        if session is None or not is_allowed(session.role, Action.CHANGE_CLUSTER):
            return _told("", may_sign_in=True)
        return _told(session.account_name, may_sign_in=True, code=code_of(token))

    async def _sign_in(self, parts: ConsoleParts, request: Request) -> Answer:
        content = _content(request)
        name, password = content.get("name"), content.get("password")
        if not isinstance(name, str) or not isinstance(password, str):
            return refusal(400, "Name and password are missing. Nothing was done.", HEADERS)
        known = cookie_of(request, "device")
        secret = known if _SECRET.fullmatch(known) else secrets.token_hex(16)
        log_in = accounts_pb2.LogInRequest(
            name=name, password=password, device_id=_device_id(secret, name), device_label=LABEL
        )
        with self._sign_ins.one(_owner(request)):
            opened = await parts.accounts.LogIn(log_in, _call(request))
            call = _call(request, opened.token)
            session = await parts.authenticator.admit(call)
            if not is_allowed(session.role, Action.CHANGE_CLUSTER):
                await parts.accounts.LogOut(accounts_pb2.LogOutRequest(), call)
                return refusal(403, NOT_ADMINISTRATOR, HEADERS)
        self._logger.info("administrator_signed_in", by=session.account_name, address=request.host)
        return _with(
            _told(session.account_name, may_sign_in=True, code=code_of(opened.token)),
            set_cookie(request, "session", opened.token, SESSION_S),
            set_cookie(request, "device", secret, DEVICE_S),
        )

    # ---- what somebody does who is signed in

    def _act(self, work: Work) -> Callable[[Request], Awaitable[Answer]]:
        async def show(request: Request) -> Answer:
            if (refused := refuse_stranger(request)) is not None:
                return refused
            parts = self._parts()
            if parts is None or not parts.is_sound():
                return refusal(503, NOT_SERVING, HEADERS)
            count_for(parts.service)
            return await _answered(self._do(parts, request, work))

        return show

    async def _do(self, parts: ConsoleParts, request: Request, work: Work) -> Answer:
        token = cookie_of(request, "session")
        with self._look_ups.one(_owner(request)):
            session = await _session_of(parts, request, token)
        if session is None:
            return refusal(401, NOT_SIGNED_IN, HEADERS)
        if not has_code(request, token):
            return refusal(403, OLD_CODE, HEADERS)
        owner = _owner(request, session.account_id)
        read_for(owner, has_session=True)
        with self._actions.one(owner):
            return await work(Asked(parts, request, _call(request, token)))

    async def _run_drill(self, asked: Asked) -> Answer:
        if self._has_drill:
            return refusal(409, DRILL_RUNS, HEADERS)
        self._has_drill = True
        try:
            parts = asked.parts
            session = await parts.drill.admit(asked.call, parts.view.identity.name)
            report = await parts.drill.run(session, lambda: parts.view.status_update().leader, asked.transfer)
        finally:
            self._has_drill = False
        self._logger.info("drill_ended", **asdict(report))
        return json_answer(200, asdict(report), HEADERS)


async def _sign_out(asked: Asked) -> Answer:
    await asked.parts.accounts.LogOut(accounts_pb2.LogOutRequest(), asked.call)
    return _with(_told("", may_sign_in=True), set_cookie(asked.request, "session", "", 0))


async def _transfer(asked: Asked) -> Answer:
    return json_answer(200, {"leader": await asked.transfer()}, HEADERS)


async def _back_up(asked: Asked) -> Answer:
    chunks = asked.parts.admin.Backup(admin_pb2.BackupRequest(), asked.call)
    try:
        first = await anext(chunks)  # what is refused is refused before a file begins
    except BaseException:
        await chunks.aclose()
        raise
    identity = asked.parts.view.identity
    made = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {
        **HEADERS,
        "Content-Disposition": f'attachment; filename="parley-{identity.cluster_id[:8]}-{identity.name}-{made}.backup"',
    }
    return Answer(200, "application/octet-stream", b"", headers, chunks=_data(first, chunks))


async def _data(first: admin_pb2.BackupChunk, chunks: AsyncGenerator[admin_pb2.BackupChunk]) -> AsyncGenerator[bytes]:
    async with aclosing(chunks):
        yield first.data
        async for chunk in chunks:
            yield chunk.data


async def _session_of(parts: ConsoleParts, request: Request, token: str) -> SessionRecord | None:
    """Return the live session of a token; nothing is looked up for a text that is no token."""
    try:
        digest(token)
    except MalformedTokenError:
        return None
    read_for(_owner(request), has_session=False)
    return await parts.authenticator.known_session(_call(request, token))


async def _answered(answering: Awaitable[Answer]) -> Answer:
    """Return the answer, or what refused it in the words that a client gets."""
    try:
        return await answering
    except Exception as error:
        return refusal(*_explained(error), HEADERS)


def _explained(error: Exception) -> tuple[int, str]:
    """Return the status of HTTP and the text for what ended a request."""
    if isinstance(error, DrillEndedError):
        status, reason = _explained(error.reason)
        return status, ENDED_EARLY.format(sent=error.sent, reason=_NOTHING.sub("", reason).strip())
    if isinstance(error, CallRefusedError):
        return _STATUS.get(error.status, 500), error.text
    count_refusal(error)
    if isinstance(error, BoundReachedError):
        return 429, BUSY.format(reason=error)
    told: ApiError = translate(error)
    log_failed_admin_action(told.status)
    return _STATUS.get(told.status, 500), str(told)


def _content(request: Request) -> dict[str, Any]:
    try:
        content = json.loads(request.body or b"{}")
        json.dumps(content, ensure_ascii=False).encode()  # half a surrogate pair is in no name
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ApiError(grpc.StatusCode.INVALID_ARGUMENT, "The body is no JSON object. Nothing was done.")
    return content


def _told(account: str, *, may_sign_in: bool, code: str = "") -> Answer:
    return json_answer(200, {"account": account, "may_sign_in": may_sign_in, "code": code}, HEADERS)


def _with(answer: Answer, *cookies: str) -> Answer:
    return replace(answer, cookies=cookies)


def _call(request: Request, token: str = "") -> Context:
    return local_call(canonical_host(request.host), request.port, token)


def _owner(request: Request, account: object = None) -> Owner:
    address = source_of_host(canonical_host(request.host))
    return owner_at(address, address if account is None else account)


def _device_id(secret: str, name: str) -> bytes:
    """Return the id of a browser as a device of one account. The browser keeps the secret, and knows no other's id."""
    return hashlib.sha256(f"{secret} {name_key(name)}".encode()).digest()[:16]
