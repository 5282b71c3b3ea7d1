"""Who is calling: from the bearer token in the metadata to a live session in the applied state."""

from __future__ import annotations

import asyncio
import time

import grpc

from parleyd.api.errors import ApiError, Context
from parleyd.group.errors import UnavailableError
from parleyd.group.runner import GroupRunner
from parleyd.machine.queries import SessionRecord
from parleyd.security.tokens import MalformedTokenError, digest

STATE_WAIT_S = 5.0

SIGNED_OUT_TEXT = "this session is closed, expired or unknown; nothing was changed. Log in again"


class Authenticator:
    """Checks tokens against the state this node has applied, and waits for newer state where the client saw it."""

    def __init__(self, replica: GroupRunner) -> None:
        self._replica = replica

    async def wait_for(self, seen_index: int) -> None:
        """Wait until this node has applied what the client has already seen an answer from.

        Raises ApiError: INVALID_ARGUMENT for an index no cluster has reached, UNAVAILABLE where this node lags.
        """
        if seen_index >= 1 << 63:
            raise ApiError(grpc.StatusCode.INVALID_ARGUMENT, "seen_index is not an index any cluster gave out")
        try:
            async with asyncio.timeout(STATE_WAIT_S):
                await self._replica.wait_applied(seen_index)
        except TimeoutError:
            raise UnavailableError("this node lags behind what you have already seen") from None

    async def read_barrier(self) -> int:
        """Wait until this node has applied everything acknowledged anywhere before this call."""
        try:
            async with asyncio.timeout(STATE_WAIT_S):
                index = await self._replica.read_barrier()
                await self._replica.wait_applied(index)
                return index
        except TimeoutError:
            raise UnavailableError("no majority confirmed in time that this node is up to date") from None

    async def session(self, context: Context, *, allow_closed: bool = False) -> SessionRecord:
        """The caller's session; raises ApiError UNAUTHENTICATED.

        `allow_closed` lets a closed session through, so that a retried LogOut or Unregister finds its first outcome.
        """
        token_digest = digest_of(context)
        session = await self._replica.readers.run(lambda reader: reader.session_by_digest(token_digest))
        if session is None or (session.closed and not allow_closed):
            # The log-in may be newer than this node's state: look again where it is known to be current.
            await self.read_barrier()
            session = await self._replica.readers.run(lambda reader: reader.session_by_digest(token_digest))
        if session is None or (session.closed and not allow_closed) or session.expires_at_ms <= now_ms():
            raise ApiError(grpc.StatusCode.UNAUTHENTICATED, SIGNED_OUT_TEXT)
        return session


def now_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


def digest_of(context: Context) -> bytes:
    """The digest of the bearer token in the call's metadata; raises ApiError UNAUTHENTICATED."""
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str) and value.startswith("Bearer "):
            try:
                return digest(value.removeprefix("Bearer "))
            except MalformedTokenError as error:
                raise ApiError(grpc.StatusCode.UNAUTHENTICATED, str(error)) from None
    raise ApiError(grpc.StatusCode.UNAUTHENTICATED, "this call needs a session; log in and send its token along")
