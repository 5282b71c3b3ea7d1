"""Decodes the requests of gRPC methods inside the methods' own calls, where an error can get a status.

gRPC decodes a request before its handler runs. Bytes that are no message would end the call with a status that says
nothing, and with a traceback in the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from parleyd.call_errors import without_history

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]
Context = grpc.aio.ServicerContext[Any, Any]
Serve = Callable[[AsyncIterator[Any], Context], Awaitable[None]]


class NoMessageError(Exception):
    """The bytes of a request are no message of the method. They are read and decoded inside the call."""


def handler_of_streams(handler: Any, serve: Serve) -> Any:
    """Return a handler that has `serve` read the requests of `handler` and write its answers, whatever its form.

    Reading raises NoMessageError for bytes that cannot be decoded.
    """

    async def served(requests: AsyncIterator[Any], context: Context) -> None:
        try:
            await serve(requests, context)
        except (grpc.aio.AbortError, asyncio.CancelledError) as error:
            del requests, context
            raise without_history(error) from None

    untyped: Any = served  # the type stubs have only the generator form of handlers
    decode = partial(_decode, handler.request_deserializer)
    return grpc.stream_stream_rpc_method_handler(untyped, decode, handler.response_serializer)


def _decode(deserializer: Callable[[bytes], Any], content: bytes) -> Any:
    try:
        return deserializer(content)
    except DecodeError:
        raise NoMessageError from None
