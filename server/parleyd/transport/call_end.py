"""The status with which a peer ended a call to which this node writes.

gRPC for asyncio loses it if a message is being written at that moment: it puts INTERNAL and "Internal error from Core"
in its place. In a call with a stream of answers, a callback gets the status of the peer before that. In a call with one
answer, the status of the peer comes a little later, if nobody cancels the call meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import grpc
import grpc.aio

from parleyd.transport.peer_calls import LINK_FAULTS, causes_of

T = TypeVar("T")
Call = Any  # the calls of grpc.aio have no common type with write()

LOST_DETAILS = "Internal error from Core"
LOOKS, LOOK_S = 50, 0.002
"""How often and in which intervals to look for the status of the peer."""


class _Status:
    """The status of a call, once it is known to be that of the peer."""

    def __init__(self, call: Call) -> None:
        self.error: grpc.aio.AioRpcError | None = None
        self._call = call
        call.add_done_callback(lambda _: self.look())

    def look(self) -> bool:
        """Keep the status that the call has now. Return whether one is known."""
        if self.error is None and _known(self._call.details()) != LOST_DETAILS:
            code = _known(self._call.code())
            if code not in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED):  # CANCELLED: by this node
                trailing, details = _known(self._call.trailing_metadata()), _known(self._call.details())
                self.error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details=details)
        return self.error is not None

    async def wait(self) -> None:
        """Wait for the status of a call that has ended."""
        for _ in range(LOOKS):
            if self.look():
                return
            await asyncio.sleep(LOOK_S)


@asynccontextmanager
async def writing_to(call: Call) -> AsyncIterator[Callable[[Any], Awaitable[None]]]:
    """Yield the function that writes a message. Cancel the call at the end.

    If the peer ends the call before, its status is raised in place of the errors with which gRPC ends reading and
    writing.
    """
    status = _Status(call)

    async def write(message: object) -> None:
        try:
            await call.write(message)
        except grpc.aio.AioRpcError as error:
            if error.details() == LOST_DETAILS:
                await status.wait()
            raise

    try:
        yield write
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError, BaseExceptionGroup) as error:
        if status.error is None or not all(isinstance(cause, LINK_FAULTS) for cause in causes_of(error)):
            raise
        raise status.error from error
    finally:
        call.cancel()


def _known(answer: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine of a call that has ended returns. It has nothing to wait for."""
    try:
        answer.send(None)
    except StopIteration as end:
        known: T = end.value
        return known
    answer.close()
    raise AssertionError("the call has not ended")
