"""Repeats a request until there is an answer: the only loop for requests to a leader, or for finding one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def ask_until_answered(ask: Callable[[], Awaitable[T | None]], pause: Callable[[], Awaitable[None]]) -> T:
    """Ask; while the answer is None, pause and ask again. There is no deadline: use `asyncio.timeout`.

    An answer of None must mean that nothing was done, or that doing it twice is harmless. An error of `ask` ends the
    loop.
    """
    while (answer := await ask()) is None:
        await pause()
    return answer


async def wait_at_most(event: Awaitable[None], timeout_s: float | None) -> None:
    """Wait for `event`, but no longer than `timeout_s`; None waits without a limit."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event
