"""The status with which a node ended a stream.

gRPC for asyncio loses it if a frame is being written at that moment. It then puts INTERNAL and "Internal error from
Core" in its place, for the writer and for the reader. A callback of the call gets the status before that.
"""

from collections.abc import Coroutine
from typing import Any, TypeVar

import grpc

T = TypeVar("T")
Call = Any  # grpc.aio.StreamStreamCall: generic in the stubs, not at run time


class CallEnd:
    """Keeps the first status of one call."""

    def __init__(self) -> None:
        """Watch no call yet."""
        self.error: grpc.aio.AioRpcError | None = None
        """The status, if the node ended the call and not with success."""
        self._call: Call | None = None

    def watch(self, call: Call) -> Call:
        """Keep the status of this call. Return the call."""
        self._call = call
        call.add_done_callback(self._keep)
        return call

    def cancel(self) -> None:
        """Cancel the call, if there is one."""
        if self._call is not None:
            self._call.cancel()

    def _keep(self, call: Call) -> None:
        code = _known(call.code())
        if code not in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED):  # CANCELLED: by this side
            trailing, details = _known(call.trailing_metadata()), _known(call.details())
            self.error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details=details)


def _known(answer: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine of a call that has ended returns. It has nothing to wait for."""
    try:
        answer.send(None)
    except StopIteration as end:
        known: T = end.value
        return known
    answer.close()
    raise AssertionError("the call has not ended")
