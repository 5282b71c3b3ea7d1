"""The server of the peer port: admits a call first, and reads its body then.

Every call passes here before its handler. It costs its metadata only until these steps are done:

1. Its certificate has the name of a node, and is not revoked.
2. It counts towards the bounds of this name, its address and this node (peer_bounds.py).
3. A unary call that members alone may make comes from a member.
4. A unary call of another node has a place to read its body. The body comes within a few seconds.

gRPC reads a body only when it is asked to, so every handler is registered as one of streams, and this module reads and
writes the one message. The handlers of streams check their callers themselves, before they read (service.py).

Bytes that are no message get a status, where gRPC would write a traceback into the log for each call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio

from parley_proto.v1.peer_pb2_grpc import add_PeerServicer_to_server
from parleyd.budgets import BoundReachedError, Place
from parleyd.decoding import Context, Continuation, NoMessageError, handler_of_streams
from parleyd.ending import drop_call, note_waiters
from parleyd.sources import peer_of_text, source_of_host
from parleyd.transport.channels import SERVER_OPTIONS
from parleyd.transport.service import PeerService

BODY_TIMEOUT_S = 2.0
MEMBER_BODY_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 10.0

NO_MESSAGE_TEXT = "The request is not a message of this method. Nothing was done."
SLOW_BODY_TEXT = "The request did not arrive in time after the call began. Nothing was done. Try again."
BUSY_TEXT = "This node accepts no more calls of other nodes now: {reason}. Nothing was done. Try again later."
BODIES_TEXT = "too many requests arrive at once"


def make_peer_server(service: PeerService) -> grpc.aio.Server:
    """Make the server for `service`, without a port yet."""
    server = grpc.aio.server(options=SERVER_OPTIONS, interceptors=[_AdmissionInterceptor(service)])
    add_PeerServicer_to_server(service, server)
    return server


class _AdmissionInterceptor(grpc.aio.ServerInterceptor):
    """Admits every call of the peer port."""

    def __init__(self, service: PeerService) -> None:
        note_waiters()
        self._service = service

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> Any:
        """Return a handler that admits the call before it runs the method's own."""
        handler = await continuation(details)
        if handler is None:
            return None
        rpc = details.method.rpartition("/")[2]

        async def serve(requests: AsyncIterator[Any], context: Context) -> None:
            try:
                await self._admit(rpc, handler, requests, context)
            except NoMessageError:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, NO_MESSAGE_TEXT)
            except BoundReachedError as error:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, BUSY_TEXT.format(reason=error))

        return handler_of_streams(handler, serve)

    async def _admit(self, rpc: str, handler: Any, requests: AsyncIterator[Any], context: Context) -> None:
        service = self._service
        name = await service.name_of(context)
        peer = peer_of_text(context.peer())
        service.connections.called(peer, name)
        await service.check_revoked(name, peer, context)
        is_known, address = service.is_known(name), source_of_host(peer[0])
        with service.calls.one(name, address, is_known=is_known):
            if handler.request_streaming:
                await _serve_stream(handler, requests, context)
                return
            await service.check_caller(rpc, context)
            if is_known:
                request = await _read(context, MEMBER_BODY_TIMEOUT_S)
            else:
                with Place(service.calls.bodies, (address, name)) as place:
                    await place.wait(BODIES_TEXT)
                    request = await _read(context, BODY_TIMEOUT_S)
            await _answer(handler, request, context)


async def _serve_stream(handler: Any, requests: AsyncIterator[Any], context: Context) -> None:
    """Call the method in its own form. A method that streams in both directions writes by the context."""
    if handler.response_streaming:
        await handler.stream_stream(requests, context)
    else:
        await _write(context, await handler.stream_unary(requests, context))


async def _read(context: Context, timeout_s: float) -> Any:
    """Read the one request; ends the call if it does not come in time."""
    try:
        async with asyncio.timeout(timeout_s):
            request = await context.read()
    except TimeoutError:
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, SLOW_BODY_TEXT)
    if request is grpc.aio.EOF:
        raise NoMessageError
    return request


async def _answer(handler: Any, request: Any, context: Context) -> None:
    """Run the method, and write what it answers."""
    if handler.response_streaming:
        async with aclosing(handler.unary_stream(request, context)) as answers:
            async for answer in answers:
                await context.write(answer)
    else:
        await _write(context, await handler.unary_unary(request, context))


async def _write(context: Context, answer: Any) -> None:
    """Write the one answer; a caller that does not read it gets no status, which it would not read either."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            await context.write(answer)
    except TimeoutError:
        drop_call()
