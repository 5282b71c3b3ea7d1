"""Why a stream ended, from the errors of its tasks."""

import asyncio
from collections.abc import Iterator

import grpc

from parley.errors import OverloadedError, ParleyError, TlsError
from parley.net.grpc_errors import from_grpc
from parley.wire.actions import StreamCloseReason
from parley.wire.endpoints import Endpoint
from parley.wire.position import Life


class StreamClosedError(ParleyError):
    """The stream ended. `better` is a node that reports that it serves, if one was found.

    `life` is what a restored cluster says of the device.
    """

    def __init__(
        self,
        reason: StreamCloseReason,
        text: str,
        better: Endpoint | None = None,
        *,
        tls: bool = False,
        life: Life | None = None,
    ) -> None:
        super().__init__(text)
        self.tls = tls
        self.reason = reason
        self.better = better
        self.life = life


def why_closed(
    group: BaseExceptionGroup[BaseException],
    where: str,
    *,
    insecure: bool,
    ended: grpc.aio.AioRpcError | None = None,
) -> BaseException:
    """Return the error that tells most about why the tasks of a stream with the node `where` ended.

    `ended` is the status of the node, if it ended the stream (call_end.py). A defect or a broken file is returned
    unchanged.
    """
    leaves = list(_leaves(group))
    for leaf in leaves:
        if isinstance(leaf, StreamClosedError):
            return leaf
    for leaf in leaves:
        if isinstance(leaf, grpc.aio.AioRpcError):
            return _ended_by(ended or leaf, where, insecure=insecure)
    for leaf in leaves:
        if not isinstance(leaf, asyncio.InvalidStateError):
            return leaf
    if ended is not None:
        return _ended_by(ended, where, insecure=insecure)
    return StreamClosedError(StreamCloseReason.LOST, f"{where} closed the connection.")


def _ended_by(error: grpc.aio.AioRpcError, where: str, *, insecure: bool) -> StreamClosedError:
    match error.code():
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
            reason = StreamCloseReason.SIGNED_OUT
        case grpc.StatusCode.ABORTED:
            return StreamClosedError(
                StreamCloseReason.REPLACED,
                "Another process with a copy of this device took over the session. Check whether a copy of the state "
                "folder is in use.",
            )
        case grpc.StatusCode.DATA_LOSS:
            reason = StreamCloseReason.CLUSTER_BEHIND
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            reason = StreamCloseReason.BUSY
        case grpc.StatusCode.UNIMPLEMENTED | grpc.StatusCode.INVALID_ARGUMENT:
            reason = StreamCloseReason.REFUSED
        case _:
            reason = StreamCloseReason.LOST
    known = from_grpc(error, where=where, insecure=insecure, changes=False)
    if reason is StreamCloseReason.BUSY and not isinstance(known, OverloadedError):
        reason = StreamCloseReason.REFUSED  # a bound of gRPC at one end: a repetition meets it again
    return StreamClosedError(reason, known.text, tls=isinstance(known, TlsError))


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
