"""Ends a call whose client reads nothing, with all that gRPC keeps for it.

gRPC's asyncio server has no method for that: it keeps a call, and the answer in it, until the client has read it or
the connection ends. So the memory of unread answers would have no bound. But gRPC resets and releases a call to which
no task refers. One task is the handler's own. The other waits for the end of the call: it made the first and refers to
it. The server's loop refers to the call that came last, until there is another, so it keeps one at most.

A search for the second task would visit all calls of the node, for each call that ends. So the loop's task factory
notes it when it makes the first. tests/unit/api/test_shares.py keeps this true for the version of gRPC that is
installed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn
from weakref import WeakKeyDictionary, ref

_WAITS_FOR_THE_END = "_schedule_rpc_coro"
_Task = asyncio.Task[Any]
# From handler to waiter. A strong reference to the waiter would keep the handler too.
_WAITERS: WeakKeyDictionary[_Task, ref[_Task]] = WeakKeyDictionary()


def note_waiters() -> None:
    """Note, from now on, which tasks wait for the ends of the calls on this loop. A second time changes nothing."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop.get_task_factory(), _NotingFactory):
        loop.set_task_factory(_NotingFactory(loop.get_task_factory()))


def drop_call() -> NoReturn:
    """End the call of this task without a status. Call it in the task that gRPC made for the handler."""
    this = asyncio.current_task()
    waiter = None if this is None else waiter_of(this)
    # If the client has left, gRPC's task waits for the handler already, and ends by itself.
    if waiter is not None and getattr(waiter, "_fut_waiter", None) is not this:
        waiter.cancel()
    raise asyncio.CancelledError


def waiter_of(handler: _Task) -> _Task | None:
    """Return gRPC's task that waits for the end of the handler's call."""
    noted = _WAITERS.get(handler)
    return None if noted is None else noted()


class _NotingFactory:
    """Makes tasks as before, and notes the maker of each handler."""

    def __init__(self, make: Callable[..., Any] | None) -> None:
        self._make: Callable[..., Any] = make or _make

    def __call__(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        task = self._make(loop, coroutine, **options)
        maker = asyncio.current_task(loop)
        if maker is not None and getattr(maker.get_coro(), "__name__", "") == _WAITS_FOR_THE_END:
            _WAITERS[task] = ref(maker)
        return task


def _make(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> _Task:
    return asyncio.Task(coroutine, loop=loop, **options)
