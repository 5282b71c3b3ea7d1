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
    async with asyncio.timeout(patience.most_s) as limit:
        watch = _Watch(limit, patience, is_wanted)
        try:
            yield
        finally:
            watch.end()


class _Watch:
    """Looks from time to time whether somebody waits for the place."""

    def __init__(self, limit: asyncio.Timeout, patience: Patience, is_wanted: Callable[[], bool]) -> None:
        self._limit = limit
        self._interval_s = patience.sure_s / 4
        self._is_wanted = is_wanted
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(patience.sure_s, self._look)

    def end(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None  # it refers to this object, and what refers to itself waits for the garbage collector

    def _look(self) -> None:
        if self._is_wanted():
            self._limit.reschedule(self._loop.time())
        else:
            self._timer = self._loop.call_later(self._interval_s, self._look)


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
