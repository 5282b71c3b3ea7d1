"""Ends a call whose client reads nothing, with all that gRPC keeps for it.

gRPC's asyncio server has no method for that: it keeps a call, and the answer in it, until the client has read it or
the connection ends. So the memory of unread answers would have no bound. But gRPC resets and releases a call to which
no task refers. One task is the handler's own. The other waits for the end of the call, and refers to the first.
The server's loop refers to the call that came last, until there is another, so it keeps one at most.
tests/unit/api/test_shares.py keeps this true for the version of gRPC that is installed.
"""

from __future__ import annotations

import asyncio
import gc
from typing import NoReturn

_WAITS_FOR_THE_END = "_schedule_rpc_coro"


def drop_call() -> NoReturn:
    """End the call of this task without a status. Call it in the task that gRPC made for the handler."""
    this = asyncio.current_task()
    for task in asyncio.all_tasks():
        coroutine = task.get_coro()
        if getattr(coroutine, "__name__", "") == _WAITS_FOR_THE_END and _refers_to(coroutine, this):
            _stop_waiting(task, this)
    raise asyncio.CancelledError


def _refers_to(coroutine: object, task: object) -> bool:
    """Return whether a variable of the coroutine is this task; Cython keeps its variables in one object."""
    return any(each is task for scope in gc.get_referents(coroutine) for each in gc.get_referents(scope))


def _stop_waiting(waiter: asyncio.Task[object], handler: object) -> None:
    # If the client has left, gRPC's task waits for the handler already, and ends by itself.
    if getattr(waiter, "_fut_waiter", None) is not handler:
        waiter.cancel()
