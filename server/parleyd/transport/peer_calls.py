"""Calls between peers: the metadata that identifies both ends, and the faults that end a call.

grpc ends a call in several ways. Here each of them becomes one of two errors: a ConnectionError, which ends the
conversation of a link, or a ForwardFailedError, which tells a caller whether the peer may have received its request.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import NoReturn

import grpc
import grpc.aio

from parley_proto.v1 import peer_pb2 as pb
from parleyd.raft.types import NodeId
from parleyd.request_ids import carried_metadata

LINK_FAULTS = (
    grpc.aio.AioRpcError,
    grpc.aio.UsageError,
    asyncio.InvalidStateError,  # raised by grpc for a write to a call that has just ended
    asyncio.CancelledError,
    ConnectionError,
    TimeoutError,
)

METADATA_CLUSTER = "x-parley-cluster"
METADATA_FROM = "x-parley-from"
METADATA_TO = "x-parley-to"
METADATA_SELF = "x-parley-self-bin"
METADATA_REMOVED = "x-parley-removed"


@dataclass(frozen=True, slots=True)
class CallMetadata:
    """Identity of this node on the wire, sent with every call to a peer."""

    cluster_id: str
    node_id: NodeId
    info: pb.HandshakeInfo

    def to(self, receiver: NodeId) -> tuple[tuple[str, str | bytes], ...]:
        """Return metadata with sender, receiver and cluster, and the address for answers."""
        return (
            (METADATA_CLUSTER, self.cluster_id),
            (METADATA_FROM, str(self.node_id)),
            (METADATA_TO, str(receiver)),
            (METADATA_SELF, self.info.self.SerializeToString()),
        )

    def of_request_to(self, receiver: NodeId) -> tuple[tuple[str, str | bytes], ...]:
        """Return the same for a single call, with the id of the client's request that causes it, if there is one."""
        return (*self.to(receiver), *carried_metadata())


class ForwardFailedError(Exception):
    """The link is down or broke. If `sent` is true, the leader may have received the commands."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent


def was_refused_as_removed(error: grpc.aio.AioRpcError) -> bool:
    """Return whether a peer refused this node because it was removed from the cluster."""
    return any(key == METADATA_REMOVED for key, _ in error.trailing_metadata() or ())


@contextlib.contextmanager
def call_faults() -> Iterator[None]:
    """Raise ForwardFailedError for anything that ends a call, except a cancellation by this node.

    If the channel of a call is closed, grpc ends the call with a CancelledError. That error would end the caller's
    task, and a client of this node would wait for an answer until its deadline.
    """
    try:
        yield
    except (grpc.aio.AioRpcError, grpc.aio.UsageError) as error:
        refused = isinstance(error, grpc.aio.AioRpcError) and error.code() is grpc.StatusCode.FAILED_PRECONDITION
        raise ForwardFailedError(one_line(error), sent=not refused) from error
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise ForwardFailedError("the connection was closed", sent=True) from None


async def run_to_its_end(part: Coroutine[object, object, None]) -> NoReturn:
    """Run one part of a conversation; raise ConnectionError at its end, unless this node cancelled it."""
    try:
        await part
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise ConnectionError("the call was cancelled") from None
    raise ConnectionError("the call ended")


def causes_of(error: BaseException) -> list[BaseException]:
    """Flatten nested exception groups."""
    if isinstance(error, BaseExceptionGroup):
        return [cause for inner in error.exceptions for cause in causes_of(inner)]
    return [error]


def one_line(error: BaseException) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error) or type(error).__name__
