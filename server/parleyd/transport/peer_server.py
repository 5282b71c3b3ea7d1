"""The server of the peer port.

It refuses bytes that are no message with a status, where gRPC would write a traceback into the log for each call.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from parley_proto.v1.peer_pb2_grpc import add_PeerServicer_to_server
from parleyd.transport.channels import SERVER_OPTIONS
from parleyd.transport.service import PeerService

NO_MESSAGE_TEXT = "The request is not a message of this method. Nothing was done."

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]
Context = grpc.aio.ServicerContext[Any, Any]


def make_peer_server(service: PeerService) -> grpc.aio.Server:
    """Make the server for `service`, without a port yet."""
    server = grpc.aio.server(options=SERVER_OPTIONS, interceptors=[_DecodingInterceptor()])
    add_PeerServicer_to_server(service, server)
    return server


class _NoMessageError(Exception):
    """The bytes cannot be decoded."""


class _DecodingInterceptor(grpc.aio.ServerInterceptor):
    """Decodes the requests of every method inside the method's own call, where an error can get a status."""

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> Any:
        """Return a handler that refuses what cannot be decoded."""
        handler = await continuation(details)
        if handler is None:
            return None

        async def serve(requests: AsyncIterator[Any], context: Context) -> None:
            try:
                await _serve(handler, requests, context)
            except _NoMessageError:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, NO_MESSAGE_TEXT)

        untyped: Any = serve  # the type stubs have only the generator form of handlers
        decode = partial(_decode, handler.request_deserializer)
        return grpc.stream_stream_rpc_method_handler(untyped, decode, handler.response_serializer)


def _decode(deserializer: Callable[[bytes], Any], content: bytes) -> Any:
    try:
        return deserializer(content)
    except DecodeError:
        raise _NoMessageError from None


async def _serve(handler: Any, requests: AsyncIterator[Any], context: Context) -> None:
    """Call the method in its own form. A method that streams in both directions writes by the context."""
    if handler.request_streaming:
        if handler.response_streaming:
            await handler.stream_stream(requests, context)
        else:
            await context.write(await handler.stream_unary(requests, context))
        return
    request = await anext(requests, None)
    if request is None:
        raise _NoMessageError
    if handler.response_streaming:
        async with aclosing(handler.unary_stream(request, context)) as answers:
            async for answer in answers:
                await context.write(answer)
    else:
        await context.write(await handler.unary_unary(request, context))
