"""Strikes a call of a node at one step of the tasks that serve it, for every step: no test can wait for each of them.

A step ends where a task waits, so a strike meets the call at that place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

Task = asyncio.Task[Any]
Strike = Callable[[Task], object]
"""What happens to the handler of the call."""


def waits_for_an_end(task: Task | None) -> bool:
    """Whether it is the task in which gRPC waits for the end of a call. It makes the one of the handler."""
    return task is not None and getattr(task.get_coro(), "__name__", "") == "_schedule_rpc_coro"


class Steps:
    """Counts the steps of a call, and strikes after one of them."""

    def __init__(self) -> None:
        self._left = 0
        self._strike: Strike | None = None
        self._handler: Task | None = None
        self._mine: WeakSet[Task] = WeakSet()

    @contextmanager
    def struck_after(self, step: int, strike: Strike) -> Iterator[None]:
        """Strike the call that is made inside after this step of its tasks."""
        self._left, self._strike = step, strike
        try:
            yield
        finally:
            self._strike = self._handler = None
            self._mine = WeakSet()  # what goes on after the call counts for no other

    @property
    def was_struck(self) -> bool:
        """Whether the last call had so many steps."""
        return self._left <= 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count the steps of the calls on this loop while inside."""
        loop = asyncio.get_running_loop()
        before: Any = loop.get_task_factory()

        def make(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
            maker: Any = asyncio.current_task(loop)
            is_handler = waits_for_an_end(maker)
            if self._strike is None or not (is_handler or maker in self._mine):
                return before(loop, coroutine, **options)
            mine = self._mine
            task: Task = before(loop, _Counted(coroutine, lambda: self._step(mine)), **options)
            mine.add(task)
            if is_handler:
                self._handler = task
            return task

        loop.set_task_factory(make)
        try:
            yield
        finally:
            loop.set_task_factory(before)

    def _step(self, mine: WeakSet[Task]) -> None:
        if mine is not self._mine:
            return
        self._left -= 1
        if self._left == 0 and self._strike is not None and self._handler is not None:
            # Not inside the step: a task that runs is no task that waits.
            asyncio.get_running_loop().call_soon(_strike, self._strike, self._handler)


def _strike(strike: Strike, handler: Task) -> None:
    if not handler.done():  # a step may be of a command that outlives the call, and then another call has begun
        strike(handler)


class _Counted(Coroutine[Any, Any, Any]):
    """A coroutine that tells of each of its steps."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], stepped: Callable[[], None]) -> None:
        self._coroutine = coroutine
        self._stepped = stepped
        self.__name__ = getattr(coroutine, "__name__", "")

    def send(self, value: Any) -> Any:
        """Run one step."""
        result = self._coroutine.send(value)
        self._stepped()
        return result

    def throw(self, *error: Any) -> Any:
        """Run one step that begins with an error."""
        try:
            result = self._coroutine.throw(*error)
        finally:
            del error  # the error refers to this frame
        self._stepped()
        return result

    def close(self) -> None:
        """End it."""
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()
