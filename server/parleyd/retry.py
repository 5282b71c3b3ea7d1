"""Asking again until there is an answer: the one loop for whoever asks a leader, or looks for one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def ask_until_answered(ask: Callable[[], Awaitable[T | None]], pause: Callable[[], Awaitable[None]]) -> T:
    """Ask; while the answer is None, pause and ask again. It has no deadline: bound it with `asyncio.timeout`.

    An answer of None must mean that nothing was done, or that doing it twice is harmless. What `ask` raises ends it.
    """
    while (answer := await ask()) is None:
        await pause()
    return answer


async def wait_at_most(event: Awaitable[None], timeout_s: float | None) -> None:
    """Wait for `event`, but no longer than `timeout_s`; None waits as long as it takes."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event
