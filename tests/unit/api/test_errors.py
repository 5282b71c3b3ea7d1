"""Every end of a unary call becomes a status with a text, and a cancelled caller is not answered."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import grpc
import grpc.aio
import pytest

from parleyd.api.errors import Context, unary


class EndedError(Exception):
    """What the context raises when a call is ended."""


class FakeContext:
    """Notes how the call ended."""

    def __init__(self) -> None:
        self.ended: tuple[grpc.StatusCode, str] | None = None

    async def abort(self, status: grpc.StatusCode, text: str, **_: object) -> None:
        self.ended = (status, text)
        raise EndedError


async def test_a_connection_that_this_node_closed_under_a_call_does_not_leave_the_client_waiting() -> None:
    @unary
    async def method(_: Any, request: None, context: Context) -> None:
        raise asyncio.CancelledError  # what grpc raises when the channel of a call is closed

    context = FakeContext()
    with pytest.raises(EndedError):
        await method(None, None, cast(Context, context))
    assert context.ended is not None
    assert context.ended[0] is grpc.StatusCode.UNAVAILABLE
    assert "may or may not have happened" in context.ended[1]


async def test_a_caller_that_left_ends_the_call_and_gets_no_answer() -> None:
    waiting = asyncio.Event()

    @unary
    async def method(_: Any, request: None, context: Context) -> None:
        waiting.set()
        await asyncio.Event().wait()

    context = FakeContext()
    running = asyncio.ensure_future(method(None, None, cast(Context, context)))
    await waiting.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert context.ended is None
