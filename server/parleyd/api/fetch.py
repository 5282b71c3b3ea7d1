"""One Fetch: the next messages of a device without a stream that stays open.

A Fetch is a stream of the device that ends with its first messages, or when its wait is over. So everything that bounds
or ends a stream does so here: the places of streams and of pages, the waiting bytes, a closed session, another copy of
the device's files, a newer stream of the device, a snapshot, and the end of the node.

What an answer has is acknowledged by the cursor of the next Fetch, never by this one. So a lost answer loses nothing.
The cursor of the request is put into the log while the page is read, if it is newer than the cluster's. The answer says
what the cluster has acknowledged. It waits ACKNOWLEDGE_S for that: the mark itself goes on, and the next Fetch repeats
one that was lost.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import grpc

from parley_proto.v1 import messaging_pb2 as pb
from parleyd.api.auth import Authenticator
from parleyd.api.device_commands import DeviceCommands
from parleyd.api.errors import ApiError
from parleyd.api.frame_rates import FrameRate
from parleyd.api.stream_ends import end_when_closed, end_when_expired
from parleyd.api.stream_opener import OpenStream
from parleyd.delivery.device_stream import PAGE_MESSAGES, DeviceStream
from parleyd.delivery.small_frames import SmallFrames
from parleyd.group.errors import OverloadedError, UnavailableError
from parleyd.security.names import InvalidInputError

MAX_FETCHED = PAGE_MESSAGES
MAX_WAIT_MS = 30_000
FIRST_PAGE_S = 10.0
ACKNOWLEDGE_S = 2.0

BUSY_TEXT = (
    "This node has too many pages that their readers have not read, so it could not read one for this call. Nothing "
    "was changed. Try again in a moment, or another node."
)


class _NoSmallFrames(SmallFrames):
    """Takes nothing that others do: the next call has what is new."""

    def offer_receipt(self, receipt: pb.Receipt) -> None:
        """Ignore another member's marks: ListMembers has them."""

    def offer_count(self, count: pb.ReceiptCount) -> None:
        """Ignore counts: GetReceipts has them."""

    def offer_status(self, status: pb.ClusterStatusUpdate) -> None:
        """Ignore a new condition of the cluster: the answer has the newest one."""

    def offer_typing(self, conversation_id: int, account_id: int) -> None:
        """Ignore who types."""


class FetchStream(DeviceStream):
    """A stream that ends with its first messages. It takes no news beside them: the next call brings what is new."""

    shows_presence = False  # a script that looks for messages now and then would come and go all the time
    makes_small_frames = _NoSmallFrames

    def account_changed(self, account_id: int) -> None:
        """Ignore a change: an account is read after the message that names it."""

    def conversation_changed(self, conversation_id: int) -> None:
        """Ignore a change: a conversation is read after the message that names it."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The answer, still without its welcome, and the message id up to which the cluster has acknowledged."""

    answer: pb.FetchResponse
    delivered_up_to: int


class FetchCall:
    """Serves one Fetch on an open stream."""

    def __init__(self, opened: OpenStream, device: DeviceCommands, authenticator: Authenticator) -> None:
        self._opened = opened
        self._stream = opened.stream
        self._device = device
        self._authenticator = authenticator

    async def run(self, wait_s: float, rate: FrameRate) -> Fetched:
        """Return the next messages, or none after `wait_s`. Raises ApiError when this node ends the stream."""
        async with asyncio.TaskGroup() as tasks:
            ends = [
                tasks.create_task(end_when_closed(self._stream), name="closed"),
                tasks.create_task(end_when_expired(self._opened.session, self._authenticator), name="expire"),
            ]
            await asyncio.sleep(rate.delay_s(asyncio.get_running_loop().time()))
            acknowledging = tasks.create_task(self._acknowledge(), name="acknowledge")
            answer = await self._next(wait_s)
            delivered_up_to = await acknowledging
            for task in ends:
                task.cancel()
        return Fetched(answer, delivered_up_to)

    async def _next(self, wait_s: float) -> pb.FetchResponse:
        answer = pb.FetchResponse()
        try:
            async with asyncio.timeout(FIRST_PAGE_S):
                while not answer.messages.cursor:
                    await self._take_frames(answer)
        except TimeoutError:
            raise ApiError(grpc.StatusCode.RESOURCE_EXHAUSTED, BUSY_TEXT) from None
        try:
            async with asyncio.timeout(wait_s):
                while not answer.messages.messages:
                    await self._take_frames(answer)
        except TimeoutError:
            pass  # what was taken from the stream meanwhile is not in the answer, and neither is its cursor
        answer.more = self._stream.has_messages
        answer.position.CopyFrom(self._authenticator.applied_position())
        return answer

    async def _take_frames(self, answer: pb.FetchResponse) -> None:
        """Add the next frames to the answer. What is not added stays for the next call, with the cursor before it."""
        for frame in await self._stream.next_frames():
            told = pb.ServerFrame.FromString(frame) if isinstance(frame, bytes) else frame
            match told.WhichOneof("frame"):
                case "directory":
                    answer.directory.MergeFrom(told.directory)
                case "messages":
                    answer.messages.MergeFrom(told.messages)
                case "caught_up" if not answer.messages.cursor:
                    answer.messages.cursor = told.caught_up.cursor
                case _:
                    pass

    async def _acknowledge(self) -> int:
        """Record what the device has stored by its cursor; return up to where the cluster has acknowledged."""
        opened = self._opened
        known, stored = opened.delivered_up_to, opened.stored_up_to
        if opened.superseded or stored <= known:
            return known
        try:
            async with asyncio.timeout(ACKNOWLEDGE_S):
                return max(known, await self._device.mark_delivered(stored))
        except (TimeoutError, OverloadedError, UnavailableError):
            return known


def check_fetch(request: pb.FetchRequest) -> None:
    """Raise InvalidInputError for a wait or a limit above its bound."""
    if request.wait_ms > MAX_WAIT_MS:
        raise InvalidInputError("wait_ms", f"is {request.wait_ms}; at most {MAX_WAIT_MS} are allowed")
    if request.limit > MAX_FETCHED:
        raise InvalidInputError("limit", f"is {request.limit}; at most {MAX_FETCHED} are allowed")
