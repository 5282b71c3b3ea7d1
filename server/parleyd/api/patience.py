"""How long a caller may keep a place of this node while it says or reads nothing.

A caller on a slow link takes long too. So it has much time while its place is nobody else's, and little once somebody
waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from parleyd.api.errors import Context, StalledReaderError


@dataclass(frozen=True, slots=True)
class Patience:
    """`sure_s` is what a caller has in every case, `most_s` what it has if nobody waits for its place."""

    sure_s: float
    most_s: float


@asynccontextmanager
async def patient(patience: Patience, is_wanted: Callable[[], bool]) -> AsyncIterator[None]:
    """Run what is inside; raises TimeoutError when its time is over. `is_wanted`: somebody waits for the place."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle
    async with asyncio.timeout(patience.most_s) as limit:

        def look_after(delay_s: float) -> None:
            nonlocal timer
            timer = loop.call_later(delay_s, look)

        def look() -> None:
            if is_wanted():
                limit.reschedule(loop.time())
            else:
                look_after(patience.sure_s / 4)

        look_after(patience.sure_s)
        try:
            yield
        finally:
            timer.cancel()


async def write(context: Context, content: object, patience: Patience, is_wanted: Callable[[], bool]) -> None:
    """Write to the client; raises StalledReaderError if it does not read that in time."""
    try:
        async with patient(patience, is_wanted):
            await context.write(content)
    except TimeoutError:
        raise StalledReaderError from None


def nobody_waits() -> bool:
    """Say that no place is held, or that nobody wants it."""
    return False
