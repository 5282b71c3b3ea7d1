"""A result that is costly to make and that many ask for: made once, and given to all who ask soon after."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SharedResult(Generic[T]):
    """The latest result of `make`. Used on the event loop."""

    def __init__(self, make: Callable[[], Coroutine[Any, Any, T]], fresh_s: float) -> None:
        """Give a result to whoever asks within `fresh_s` from the begin of its making."""
        self._make = make
        self._fresh_s = fresh_s
        self._latest: tuple[float, asyncio.Task[T]] | None = None

    async def get(self) -> T:
        """Return the latest result, or what its making raised."""
        now = asyncio.get_running_loop().time()
        if self._latest is None or self._is_old(*self._latest, now):
            task = asyncio.get_running_loop().create_task(self._make())
            task.add_done_callback(_note_error)
            self._latest = (now, task)
        # One who leaves must not end what others wait for.
        return await asyncio.shield(self._latest[1])

    def _is_old(self, since: float, task: asyncio.Task[T], now: float) -> bool:
        return task.done() and (now - since > self._fresh_s or task.cancelled() or task.exception() is not None)


def _note_error(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # those who wait for it get it; without them nobody has to be told
