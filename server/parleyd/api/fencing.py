"""Refuses the calls of clients while a node is fenced, except status and health: its state must not reach a client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from parleyd.api.errors import ApiError, abort

FENCED_TEXT = (
    "This node's state is not trusted, so it serves no clients until an administrator rebuilds it. Nothing was "
    "changed. The client tries the other nodes by itself."
)

_ANSWERED = ("/parley.v1.Admin/GetStatus", "/grpc.health.", "/grpc.reflection.")

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]


class FenceInterceptor(grpc.aio.ServerInterceptor):
    """Refuses calls while the node is fenced."""

    def __init__(self, is_fenced: Callable[[], bool]) -> None:
        self._is_fenced = is_fenced

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> Any:
        """Continue a call, or refuse it with UNAVAILABLE, so that the client tries another node."""
        handler = await continuation(details)
        if handler is None or not self._is_fenced() or details.method.startswith(_ANSWERED):
            return handler
        # A handler of streams: the refused request is not read.
        refuse: Any = _refuse
        return grpc.stream_stream_rpc_method_handler(refuse, handler.request_deserializer, handler.response_serializer)


async def _refuse(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    await abort(context, ApiError(grpc.StatusCode.UNAVAILABLE, FENCED_TEXT))
