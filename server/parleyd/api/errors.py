"""Converts every error into a gRPC status and a text: the only place that does so."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

import grpc
import grpc.aio
import structlog

from parley_proto.v1 import state_pb2
from parleyd.api.admin_actions import log_failed_admin_action
from parleyd.api.results import explain
from parleyd.backup.errors import BackupBusyError
from parleyd.budgets import BoundReachedError
from parleyd.decoding import NoMessageError
from parleyd.delivery.cursor import InvalidCursorError
from parleyd.delivery.position import AheadOfClusterError, BehindError, InvalidPositionError, NewerGenerationError
from parleyd.ending import drop_call
from parleyd.group.errors import NoRoomError, OverloadedError, TooManyReadsError, UnavailableError
from parleyd.observability.figures import service_figures
from parleyd.request_ids import REQUEST_ID_KEY, current_request_id
from parleyd.security.names import InvalidInputError
from parleyd.security.passwords import PasswordsBusyError
from parleyd.storage.errors import CopyFailedError

Request = TypeVar("Request")
Response = TypeVar("Response")
Context = grpc.aio.ServicerContext[Any, Any]

RESULT_KEY = "parley-result"
OUTCOME_KEY = "parley-outcome"
NO_EFFECT = "none"
UNKNOWN_EFFECT = "unknown"
"""What every refusal says, beside its status, about the request's effect."""
STATUS_TIMEOUT_S = 5.0
"""A status waits for the client to read what was sent before it."""

UNAVAILABLE_TEXT = (
    "This node cannot reach a majority of the cluster now ({reason}). Nothing was changed. The client tries the other "
    "nodes by itself."
)
BEHIND_TEXT = (
    "This node is behind the cluster ({reason}). Nothing was changed. The client tries the other nodes by itself. If "
    "this goes on, the node is slow or its disk is full: look at `parley cluster status`."
)
UNCONFIRMED_TEXT = (
    "This node cannot reach a majority of the cluster now ({reason}). The request may or may not have happened. "
    "Repeating it is safe. The client tries the other nodes by itself."
)
AFTER_UNKNOWN_TEXT = (
    "An attempt of this request has no known outcome, so it may have been carried out. The next attempt was refused: "
    '"{refusal}" Check the result before you try again.'
)
OVERLOADED_TEXT = "The cluster accepts no more requests now ({reason}). Nothing was changed. Try again in a moment."
TOO_MANY_READS_TEXT = (
    "This node is busy with reads ({reason}). Nothing was changed. Try again in a moment, or another node."
)
NO_ROOM_TEXT = (
    "The cluster has no room for more now: {reason}. Nothing was changed. Messages that were accepted are safe, and "
    "reading works. An administrator has to make room on the disks that `parley cluster status` names."
)
OLD_GENERATION_TEXT = (
    "This node has the state from before the cluster was restored, which is older than what you have seen. Nothing was "
    "changed. The client tries the other nodes by itself."
)
AHEAD_TEXT = (
    "The cluster is behind this client: {reason}. Its data was probably replaced by older data. Nothing was changed. "
    "What was sent since then may be missing in the cluster. Tell an administrator."
)
NO_MESSAGE_TEXT = (
    "The bytes of the request are no message of this method. Nothing was done with them. Update the client."
)
INTERNAL_TEXT = (
    "This node failed to answer. The request may or may not have happened. Repeating it is safe. The node's log "
    "contains the cause."
)


CLOSED_TEXT = (
    "This node closed its connection to another node before the answer came. The request may or may not have happened. "
    "Repeating it is safe. The client tries the other nodes by itself."
)


class ApiError(Exception):
    """A request that ends with `status` and a text: what happened and what to do next.

    `result` is the code of a refused command. It travels beside the status, for programs, and so does
    `may_have_happened`: true unless the request surely had no effect and will have none.
    """

    def __init__(self, status: grpc.StatusCode, text: str, result: int = 0, *, may_have_happened: bool = False) -> None:
        super().__init__(text)
        self.status = status
        self.result = result
        self.may_have_happened = may_have_happened


def refusal(code: int, *, after_unknown: bool = False) -> ApiError:
    """Build the error for a result that is not OK. With `after_unknown`, it is true of the last attempt only."""
    explanation = explain(code)
    text = AFTER_UNKNOWN_TEXT.format(refusal=explanation.text) if after_unknown else explanation.text
    return ApiError(explanation.status, text, code, may_have_happened=after_unknown)


def check_result(result: state_pb2.CommandResult, *, after_unknown: bool = False) -> state_pb2.CommandResult:
    """Return an OK result; raise ApiError for any other."""
    if result.code == state_pb2.RESULT_CODE_OK:
        return result
    raise refusal(result.code, after_unknown=after_unknown)


REFUSALS: dict[type[Exception], str] = {
    BoundReachedError: "calls",
    NoRoomError: "disk",
    TooManyReadsError: "reads",
    OverloadedError: "commands",
    PasswordsBusyError: "password_checks",
    UnavailableError: "no_majority",
    BehindError: "behind",
}
"""What refusals count as, for monitoring; of a subclass and its base, the subclass comes first."""


def count_refusal(error: Exception) -> None:
    """Count an error that is a refusal."""
    for kind, reason in REFUSALS.items():
        if isinstance(error, kind):
            service_figures().refusals[reason] += 1
            return


def translate(error: Exception) -> ApiError:  # noqa: PLR0912 (one case for each kind of error)
    """Build the client's error from `error`. Unknown errors are logged here and sent without their details."""
    match error:
        case ApiError():
            return error
        case InvalidInputError() | InvalidCursorError() | InvalidPositionError():
            return ApiError(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        case PasswordsBusyError() | BackupBusyError() | CopyFailedError():
            return ApiError(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        case NoRoomError():
            return ApiError(grpc.StatusCode.RESOURCE_EXHAUSTED, NO_ROOM_TEXT.format(reason=error))
        case TooManyReadsError():
            return ApiError(grpc.StatusCode.RESOURCE_EXHAUSTED, TOO_MANY_READS_TEXT.format(reason=error))
        case OverloadedError():
            return ApiError(grpc.StatusCode.RESOURCE_EXHAUSTED, OVERLOADED_TEXT.format(reason=error))
        case NewerGenerationError():
            return ApiError(grpc.StatusCode.UNAVAILABLE, OLD_GENERATION_TEXT)
        case AheadOfClusterError():
            return ApiError(grpc.StatusCode.DATA_LOSS, AHEAD_TEXT.format(reason=error))
        case BehindError():
            return ApiError(grpc.StatusCode.UNAVAILABLE, BEHIND_TEXT.format(reason=error))
        case UnavailableError(may_have_happened=False):
            return ApiError(grpc.StatusCode.UNAVAILABLE, UNAVAILABLE_TEXT.format(reason=error))
        case UnavailableError():
            return _unconfirmed(str(error))
        case TimeoutError():
            return _unconfirmed("it did not answer in time")
        case NoMessageError():
            return ApiError(grpc.StatusCode.INVALID_ARGUMENT, NO_MESSAGE_TEXT)
        case grpc.aio.InternalError() | grpc.aio.UsageError():
            # gRPC could not send to this client, because it has vanished. Nobody reads the text.
            return ApiError(grpc.StatusCode.CANCELLED, "The client has left.")
        case _:
            structlog.get_logger("api").error("request_failed", error=type(error).__name__, exc_info=error)
            return ApiError(grpc.StatusCode.INTERNAL, INTERNAL_TEXT, may_have_happened=True)


def _unconfirmed(reason: str) -> ApiError:
    text = UNCONFIRMED_TEXT.format(reason=reason)
    return ApiError(grpc.StatusCode.UNAVAILABLE, text, may_have_happened=True)


class StalledReaderError(Exception):
    """The client reads nothing of an answer or a frame. It gets no status, which it would not read either."""


async def fail(context: Context, error: Exception) -> NoReturn:
    """End the call for `error`, whatever it is."""
    if isinstance(error, StalledReaderError):
        structlog.get_logger("api").info("stalled_client_left")
        drop_call()
    count_refusal(error)
    await abort(context, translate(error))


async def abort(context: Context, error: ApiError) -> NoReturn:
    """End the call with the status of `error`. If the client has left, nobody reads it and the call just ends."""
    log_failed_admin_action(error.status)
    trailing = [(OUTCOME_KEY, UNKNOWN_EFFECT if error.may_have_happened else NO_EFFECT)]
    if request_id := current_request_id():
        trailing.append((REQUEST_ID_KEY, request_id))
    if error.result:
        trailing.append((RESULT_KEY, str(error.result)))
    try:
        async with asyncio.timeout(STATUS_TIMEOUT_S):
            await context.abort(error.status, str(error), trailing_metadata=tuple(trailing))
    except (TimeoutError, grpc.aio.InternalError, grpc.aio.UsageError):
        drop_call()


Method = Callable[[Any, Request, Context], Awaitable[Response]]


def unary(method: Method[Request, Response]) -> Method[Request, Response]:
    """Convert every failure of a unary method into a status with a text."""

    @functools.wraps(method)
    async def wrapped(self: Any, request: Request, context: Context) -> Response:
        try:
            return await method(self, request, context)
        except grpc.aio.AbortError:
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # the caller has left, or this node stops
            # This node closed a connection under the call, as when it was removed. The client must not wait for that.
            await abort(context, ApiError(grpc.StatusCode.UNAVAILABLE, CLOSED_TEXT, may_have_happened=True))
        except Exception as error:
            await fail(context, error)

    return wrapped
