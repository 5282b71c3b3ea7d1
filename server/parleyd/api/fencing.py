"""A fenced node answers nobody but those who ask how it fares: its state must reach no client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

FENCED_TEXT = (
    "This node's state is not trusted, so it serves nobody until an administrator has it rebuilt. Nothing was changed. "
    "The client tries the other nodes by itself."
)

_ANSWERED = ("/parley.v1.Admin/GetStatus", "/grpc.health.", "/grpc.reflection.")

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]


class FenceInterceptor(grpc.aio.ServerInterceptor):
    """Refuses calls while the node is fenced."""

    def __init__(self, is_fenced: Callable[[], bool]) -> None:
        self._is_fenced = is_fenced

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> Any:
        """Let a call through, or answer it UNAVAILABLE, which makes a client try another node."""
        handler = await continuation(details)
        if handler is None or not self._is_fenced() or details.method.startswith(_ANSWERED):
            return handler
        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        return make(_refuse, handler.request_deserializer, handler.response_serializer)


async def _refuse(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    await context.abort(grpc.StatusCode.UNAVAILABLE, FENCED_TEXT)
