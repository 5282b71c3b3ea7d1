"""Authenticates and authorises a caller, from the bearer token to a live session in the applied state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

import grpc

from parley_proto.v1 import model_pb2, state_pb2
from parleyd.api.admin_actions import log_admin_action
from parleyd.api.errors import ApiError, Context, refusal
from parleyd.api.results import explain
from parleyd.delivery.position import AheadOfClusterError, BehindError, position, wanted_index
from parleyd.group.command_router import LEADER_WAIT_S
from parleyd.group.errors import OverloadedError, UnavailableError
from parleyd.group.readers import StateReaders
from parleyd.machine.authorisation import ALLOWED, Action, Role, is_allowed
from parleyd.machine.features.sessions import SessionRecord, with_account
from parleyd.security.tokens import MalformedTokenError, digest

STATE_WAIT_S = LEADER_WAIT_S
"""How long a caller waits for state. A client's first attempt lasts longer, so it learns that nothing was done."""

AsUnknown = Callable[[], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class _Admitted:
    """The caller's session, as of state that had at least `applied_index`."""

    session: SessionRecord
    applied_index: int


# What was found for the call that the current task serves. gRPC serves each call in a task of its own.
_ADMITTED: ContextVar[_Admitted | None] = ContextVar("admitted session", default=None)


class MachineView(Protocol):
    """The position of this node's state machine."""

    @property
    def applied_index(self) -> int:
        """Return the last applied entry."""

    @property
    def level(self) -> int:
        """Return the cluster's level."""

    @property
    def generation(self) -> int:
        """Return the cluster's generation."""


class AppliedState(Protocol):
    """The state that this node has applied, and methods to wait for newer state."""

    @property
    def readers(self) -> StateReaders:
        """Return the readers of the state."""

    @property
    def machine(self) -> MachineView:
        """Return the position of the state machine."""

    @property
    def cluster_now_ms(self) -> int:
        """Return the time of the cluster, Unix time in milliseconds."""

    async def wait_applied(self, index: int) -> None:
        """Wait until this node has applied everything up to `index`."""

    async def read_barrier(self) -> int:
        """Return the index that a linearizable read has to wait for; asks a majority."""


class Authenticator:
    """Checks tokens against the applied state, and waits for the state that the client has seen."""

    def __init__(self, state: AppliedState) -> None:
        self._state = state

    @property
    def now_ms(self) -> int:
        """Return the time by which sessions are judged: the cluster's, never that of this node's own clock."""
        return self._state.cluster_now_ms

    def position(self, index: int) -> model_pb2.Position:
        """Return the position of an answer that includes everything up to this entry."""
        return position(self._state.machine.generation, index)

    def applied_position(self) -> model_pb2.Position:
        """Return the position of everything that this node has applied."""
        return self.position(self._state.machine.applied_index)

    async def wait_for(self, seen: model_pb2.Position) -> None:
        """Wait until this node has applied everything in answers that the client has seen.

        Raises InvalidPositionError, NewerGenerationError or BehindError if this node lags, and UnavailableError
        without a majority. Raises AheadOfClusterError at once for what a majority does not have: nobody could ever
        wait long enough for it.
        """
        index = wanted_index(seen, self._state.machine.generation)
        if index <= self._state.machine.applied_index:
            return
        deadline = asyncio.get_running_loop().time() + STATE_WAIT_S
        newest = await self._newest(deadline)
        if index > newest:
            raise AheadOfClusterError(index, newest)
        await self._wait_applied(index, deadline, "it has not applied everything that you have seen")

    async def read_barrier(self) -> None:
        """Wait until this node has applied everything acknowledged anywhere before this call.

        Raises UnavailableError without a majority, and BehindError if this node lags.
        """
        deadline = asyncio.get_running_loop().time() + STATE_WAIT_S
        newest = await self._newest(deadline)
        await self._wait_applied(newest, deadline, "it has not applied everything that a majority has")

    async def is_current(self) -> bool:
        """Wait like read_barrier(). Return false without a majority, or if this node lags."""
        try:
            await self.read_barrier()
        except (BehindError, OverloadedError, UnavailableError):
            return False
        return True

    async def _newest(self, deadline: float) -> int:
        try:
            async with asyncio.timeout_at(deadline):
                return await self._state.read_barrier()
        except TimeoutError:
            raise UnavailableError("no majority of nodes answered in time") from None

    async def _wait_applied(self, index: int, deadline: float, otherwise: str) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await self._state.wait_applied(index)
        except TimeoutError:
            raise BehindError(otherwise) from None

    async def session(self, context: Context, *, allow_closed: bool = False) -> SessionRecord:
        """Return the caller's session, as of its admission; raises ApiError UNAUTHENTICATED.

        `allow_closed` accepts a closed session, so that a retried DeleteAccount finds its first outcome.
        """
        admitted = _ADMITTED.get()
        if admitted is not None and (allow_closed or not admitted.session.closed):
            return admitted.session
        return await self.admit(context, allow_closed=allow_closed)

    async def session_at(self, context: Context, seen: model_pb2.Position) -> SessionRecord:
        """Return the caller's session as of what the client has seen; nobody waits before a first look at it."""
        session = await self.session(context)
        await self.wait_for(seen)
        admitted = _ADMITTED.get()
        looked_at = 0 if admitted is None else admitted.applied_index
        # The session may have ended in what this node has applied since it looked.
        is_old = wanted_index(seen, self._state.machine.generation) > looked_at
        return await self.admit(context) if is_old else session

    async def admit(
        self, context: Context, *, allow_closed: bool = False, as_unknown: AsUnknown = nullcontext
    ) -> SessionRecord:
        """Look the caller's session up now; raises ApiError UNAUTHENTICATED.

        `session` returns the same one during the rest of the call. A token that this node does not know is looked up
        again inside `as_unknown`.
        """
        token_digest = digest_of(context)
        applied_index = self._state.machine.applied_index
        session = await self._find(token_digest)
        if session is None or (session.closed and not allow_closed):
            # The log-in may be newer than this node's state. Look again in state that is known to be current.
            async with as_unknown():
                await self.read_barrier()
                session = await self._find(token_digest)
        if session is None or (session.closed and not allow_closed) or session.expires_at_ms <= self.now_ms:
            raise refusal(state_pb2.RESULT_CODE_SIGNED_OUT)
        _ADMITTED.set(_Admitted(session, applied_index))
        return session

    async def known_session(self, context: Context) -> SessionRecord | None:
        """Return the caller's live session as far as this node knows it; waits for nobody, raises nothing."""
        try:
            session = await self._find(digest_of(context))
        except ApiError:
            return None
        return None if session is None or session.closed or session.expires_at_ms <= self.now_ms else session

    async def session_that_may(
        self, context: Context, action: Action, *, allow_closed: bool = False, about: str = "", changes: bool = True
    ) -> SessionRecord:
        """Return the caller's session if its role allows the action; raises ApiError PERMISSION_DENIED.

        What only administrators may do is logged with `about`, the account, node or setting that it concerns, unless it
        `changes` nothing.
        """
        session = await self.session(context, allow_closed=allow_closed)
        if not is_allowed(session.role, action):
            # The role may be newer than this node's state. Look again in state that is known to be current.
            await self.read_barrier()
            session = await self.admit(context, allow_closed=allow_closed)
        return _permitted(session, action, about, changes=changes)

    async def current_session_that_may(self, context: Context, action: Action, *, about: str = "") -> SessionRecord:
        """Return the caller's session like session_that_may(), but as a majority has it now.

        It is for what is no command. A command is checked where it is applied, whatever this node knew before. Raises
        UnavailableError without a majority, and BehindError if this node lags.
        """
        await self.read_barrier()
        return _permitted(await self.admit(context), action, about)

    async def _find(self, token_digest: bytes) -> SessionRecord | None:
        return await self._state.readers.run(lambda reader: with_account(reader, token_digest))


def _permitted(session: SessionRecord, action: Action, about: str, *, changes: bool = True) -> SessionRecord:
    """Return a session whose role allows the action, and log what only administrators may do."""
    if not is_allowed(session.role, action):
        row = explain(state_pb2.RESULT_CODE_NOT_ALLOWED)
        raise ApiError(row.status, row.text.replace("NAME", session.account_name))
    if changes and ALLOWED[action] == frozenset({Role.ADMINISTRATOR}):
        log_admin_action(session.account_name, action, about)
    return session


def digest_of(context: Context) -> bytes:
    """Return the digest of the bearer token in the call's metadata; raises ApiError UNAUTHENTICATED."""
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str) and value.startswith("Bearer "):
            try:
                return digest(value.removeprefix("Bearer "))
            except MalformedTokenError as error:
                raise ApiError(grpc.StatusCode.UNAUTHENTICATED, str(error)) from None
    raise ApiError(
        grpc.StatusCode.UNAUTHENTICATED,
        "This call needs a session, but it has no token. Nothing was changed. Log in and send the token.",
    )
