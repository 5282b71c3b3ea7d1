"""Why and how this node ends a stream, or a call that is served like one."""

from __future__ import annotations

import asyncio
from typing import NoReturn

import grpc

from parley_proto.v1 import state_pb2
from parleyd.api.auth import Authenticator
from parleyd.api.errors import ApiError
from parleyd.api.patience import Patience
from parleyd.api.results import explain
from parleyd.delivery.device_stream import CloseReason, DeviceStream
from parleyd.machine.features.sessions import SessionRecord

PAGE_PATIENCE = Patience(10.0, 60.0)
"""How long a device may take to read a page."""

SIGNED_OUT = explain(state_pb2.RESULT_CODE_SIGNED_OUT)
CLOSE_STATUSES = {
    CloseReason.SIGNED_OUT: (SIGNED_OUT.status, SIGNED_OUT.text),
    CloseReason.TAKEN_OVER: (
        grpc.StatusCode.ABORTED,
        "The same device opened another stream, which replaces this one. Nothing is lost.",
    ),
    CloseReason.SUPERSEDED: (
        grpc.StatusCode.ABORTED,
        "Another copy of this device's files sends for the device now. What this copy has not sent waits in its files. "
        "To send from this copy, log in again on it.",
    ),
    CloseReason.REPLACED: (
        grpc.StatusCode.UNAVAILABLE,
        "This node installed a snapshot. Nothing is lost. The client connects again by itself.",
    ),
    CloseReason.STOPPING: (
        grpc.StatusCode.UNAVAILABLE,
        "This node is stopping. Nothing is lost. The client moves to another node by itself.",
    ),
}


def ended(reason: CloseReason) -> ApiError:
    """Build the error with which a stream ends for this reason."""
    status, text = CLOSE_STATUSES[reason]
    return ApiError(status, text)


async def end_when_closed(stream: DeviceStream) -> NoReturn:
    """Wait until this node closes the stream; raise the ApiError that says why."""
    raise ended(await asyncio.shield(stream.closed))


async def end_when_expired(session: SessionRecord, authenticator: Authenticator) -> NoReturn:
    """Wait until the session expires, by the time of the cluster; raise the ApiError that says so."""
    # The time of the cluster may have been set back meanwhile.
    while (left_ms := session.expires_at_ms - authenticator.now_ms) > 0:  # noqa: ASYNC110
        await asyncio.sleep(left_ms / 1000)
    raise ended(CloseReason.SIGNED_OUT)
