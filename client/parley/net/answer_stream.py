"""The answers of one node to one call, as they come."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, TypeVar, cast

import grpc

from parley.net.unary_caller import UnaryCaller
from parley.wire.endpoints import Endpoint

T = TypeVar("T")


async def answers_of(
    caller: UnaryCaller, endpoint: Endpoint, call: "grpc.aio.UnaryStreamCall[Any, T]", silence_s: float
) -> AsyncGenerator[T]:
    """Yield the answers until the node ends the stream. Close this to cancel the call.

    Raises TimeoutError after `silence_s` without an answer, and ParleyError for a status that is no success.
    """
    try:
        while True:
            async with asyncio.timeout(silence_s):
                answer = await call.read()
            if answer is grpc.aio.EOF:
                return  # a status that is no success was raised by read()
            yield cast("T", answer)  # EOF is typed as any object
    except grpc.aio.AioRpcError as error:
        raise caller.error_of(error, endpoint) from error
    finally:
        call.cancel()
