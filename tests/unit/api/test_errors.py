"""Every end of a unary call becomes a status with a text, and a cancelled caller is not answered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import grpc
import grpc.aio
import pytest

from parleyd.api.errors import NO_EFFECT, OUTCOME_KEY, UNKNOWN_EFFECT, ApiError, Context, unary
from parleyd.delivery.position import AheadOfClusterError, BehindError, NewerGenerationError
from parleyd.group.errors import NoRoomError, OverloadedError, UnavailableError
from parleyd.security.passwords import PasswordsBusyError


class EndedError(Exception):
    """What the context raises when a call is ended."""


class FakeContext:
    """Notes how the call ended."""

    def __init__(self) -> None:
        self.ended: tuple[grpc.StatusCode, str] | None = None
        self.trailing: dict[str, str] = {}

    async def abort(
        self, status: grpc.StatusCode, text: str, *, trailing_metadata: Sequence[tuple[str, str]] = ()
    ) -> None:
        self.ended, self.trailing = (status, text), dict(trailing_metadata)
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


@pytest.mark.parametrize(
    ("error", "has_no_effect"),
    [
        (ApiError(grpc.StatusCode.INVALID_ARGUMENT, "No. Nothing was changed. Try."), True),
        (PasswordsBusyError(), True),
        (OverloadedError("too many wait"), True),
        (NoRoomError("the disks are full"), True),
        (NewerGenerationError(), True),
        (AheadOfClusterError(9, 1), True),
        (BehindError("it lags"), True),
        (UnavailableError("no leader is known"), True),
        (UnavailableError("it did not answer", may_have_happened=True), False),
        (TimeoutError(), False),
        (RuntimeError("a defect"), False),
    ],
)
async def test_nothing_was_changed_is_said_and_marked_exactly_if_it_is_certain(
    error: Exception, has_no_effect: bool
) -> None:
    @unary
    async def method(_: Any, request: None, context: Context) -> None:
        raise error

    context = FakeContext()
    with pytest.raises(EndedError):
        await method(None, None, cast(Context, context))
    assert context.ended is not None
    assert ("Nothing was changed" in context.ended[1]) is has_no_effect
    assert ("may or may not have happened" in context.ended[1]) is not has_no_effect
    assert context.trailing[OUTCOME_KEY] == (NO_EFFECT if has_no_effect else UNKNOWN_EFFECT)
