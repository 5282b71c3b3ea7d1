"""Refuses the calls of clients while a node is fenced, or once it was removed, except status and health.

The state of a fenced node may be wrong. That of a removed node stays as it was: in it, sessions and rights that ended
later are live for ever. Neither must reach a client.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import grpc
import grpc.aio

from parleyd.api.errors import ApiError, abort

FENCED_TEXT = (
    "This node's state is not trusted, so it serves no clients until an administrator rebuilds it. Nothing was "
    "changed. The client tries the other nodes by itself."
)
REMOVED_TEXT = (
    "This node was removed from the cluster, so it serves no clients any more. Nothing was changed. The client tries "
    "the other nodes by itself."
)

_ANSWERED = ("/parley.v1.Admin/GetStatus", "/grpc.health.", "/grpc.reflection.")
_ANSWERED_IF_REMOVED = (*_ANSWERED, "/parley.v1.Admin/RemoveMember")
"""Who had this node removed by itself, and lost the answer, asks it again."""

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]


class FenceInterceptor(grpc.aio.ServerInterceptor):
    """Refuses calls while the node is fenced, or once it was removed."""

    def __init__(self, is_fenced: Callable[[], bool], is_removed: Callable[[], bool]) -> None:
        self._is_fenced = is_fenced
        self._is_removed = is_removed

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> Any:
        """Continue a call, or refuse it with UNAVAILABLE, so that the client tries another node."""
        handler = await continuation(details)
        reason = self._why_refused(details.method)
        if handler is None or not reason:
            return handler
        # A handler of streams: the refused request is not read.
        refuse: Any = partial(_refuse, reason)
        return grpc.stream_stream_rpc_method_handler(refuse, handler.request_deserializer, handler.response_serializer)

    def _why_refused(self, method: str) -> str:
        """Return why a call of this method is refused; empty if it is not."""
        if self._is_fenced() and not method.startswith(_ANSWERED):
            return FENCED_TEXT
        if self._is_removed() and not method.startswith(_ANSWERED_IF_REMOVED):
            return REMOVED_TEXT
        return ""


async def _refuse(reason: str, _: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    await abort(context, ApiError(grpc.StatusCode.UNAVAILABLE, reason))
