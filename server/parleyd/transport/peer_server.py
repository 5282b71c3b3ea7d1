"""The server of the peer port.

It refuses bytes that are no message with a status, where gRPC would write a traceback into the log for each call.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio

from parley_proto.v1.peer_pb2_grpc import add_PeerServicer_to_server
from parleyd.decoding import Context, Continuation, NoMessageError, handler_of_streams
from parleyd.transport.channels import SERVER_OPTIONS
from parleyd.transport.service import PeerService

NO_MESSAGE_TEXT = "The request is not a message of this method. Nothing was done."


def make_peer_server(service: PeerService) -> grpc.aio.Server:
    """Make the server for `service`, without a port yet."""
    server = grpc.aio.server(options=SERVER_OPTIONS, interceptors=[_DecodingInterceptor()])
    add_PeerServicer_to_server(service, server)
    return server


class _DecodingInterceptor(grpc.aio.ServerInterceptor):
    """Gives a status to what cannot be decoded."""

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> Any:
        """Return a handler that refuses what cannot be decoded."""
        handler = await continuation(details)
        if handler is None:
            return None

        async def serve(requests: AsyncIterator[Any], context: Context) -> None:
            try:
                await _serve(handler, requests, context)
            except NoMessageError:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, NO_MESSAGE_TEXT)

        return handler_of_streams(handler, serve)


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
        raise NoMessageError
    if handler.response_streaming:
        async with aclosing(handler.unary_stream(request, context)) as answers:
            async for answer in answers:
                await context.write(answer)
    else:
        await context.write(await handler.unary_unary(request, context))
