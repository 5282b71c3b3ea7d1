"""What one connected device has yet to be told, in order and within bounds.

Messages come live from the applier while the device keeps up. A device that falls behind (a long offline queue, a slow
link, more waiting than its bound in bytes) is served from the stored state instead, page by page from its own cursor,
until it has caught up; what is stored is never dropped, so nothing is lost by being slow. Receipts are marks that only
grow, so the newest per member replaces older ones. A new status replaces an older one.
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from parley_proto.v1 import messaging_pb2 as pb

MESSAGE_OVERHEAD_BYTES = 256  # what a message costs in memory besides its text
PAGE_MESSAGES = 256
PAGE_BYTES = 1024 * 1024


class CloseReason(enum.Enum):
    """Why this node ends a stream."""

    SIGNED_OUT = "the session is closed or expired, or the account was deleted"
    TAKEN_OVER = "another stream of the same device took its place"
    STOPPING = "the node is stopping"
    REPLACED = "a snapshot replaced the state, and what it brought was never told to the streams"


@dataclass(frozen=True, slots=True)
class Page:
    """Stored messages in order; up to `up_to` there are no others, and `more` lie above it."""

    messages: Sequence[pb.Message]
    up_to: int
    more: bool


FetchPage = Callable[[int, int], Awaitable[Page]]  # (after message id, limit)


class DeviceStream:
    """The downward side of one Connect stream; filled by the hub, drained by the stream's writer."""

    def __init__(
        self, account_id: int, device_id: bytes, cursor: int, fetch: FetchPage, *, max_live_bytes: int
    ) -> None:
        """`cursor`: the device has everything up to this message id."""
        self.account_id = account_id
        self.device_id = device_id
        self._cursor = cursor
        self._fetch = fetch
        self._max_live_bytes = max_live_bytes
        self._live_bytes = 0
        self._behind = True
        self._stored_meanwhile = False
        self._announced_catch_up = False
        self._live: deque[pb.Message] = deque()
        self._results: list[pb.SendResult] = []
        self._receipts: dict[tuple[int, int], pb.Receipt] = {}
        self._status: pb.ClusterStatusUpdate | None = None
        self._pong: int | None = None
        self._wake = asyncio.Event()
        self._wake.set()
        self.closed: asyncio.Future[CloseReason] = asyncio.get_running_loop().create_future()

    def offer_message(self, message: pb.Message) -> None:
        """A message for this account was stored."""
        if message.device_id == self.device_id or self.closed.done():
            return
        if self._behind:
            self._stored_meanwhile = True
        elif self._live_bytes + _cost(message) > self._max_live_bytes:
            self._live.clear()
            self._live_bytes = 0
            self._behind = True
        else:
            self._live.append(message)
            self._live_bytes += _cost(message)
        self._wake.set()

    def offer_result(self, results: Sequence[pb.SendResult]) -> None:
        """Outcomes of this device's sends; bounded by the sends it may have in flight."""
        self._results.extend(results)
        self._wake.set()

    def offer_receipt(self, receipt: pb.Receipt) -> None:
        """Another member's marks moved."""
        self._receipts[(receipt.conversation_id, receipt.account_id)] = receipt
        self._wake.set()

    def offer_status(self, status: pb.ClusterStatusUpdate) -> None:
        """The cluster's condition changed."""
        self._status = status
        self._wake.set()

    def offer_pong(self, nonce: int) -> None:
        """The client asked whether this node is alive; the answer to its latest question says it for all."""
        self._pong = nonce
        self._wake.set()

    def close(self, reason: CloseReason) -> None:
        """End the stream; the first reason stays."""
        if not self.closed.done():
            self.closed.set_result(reason)

    async def next_frames(self) -> list[pb.ServerFrame]:
        """Wait until there is something to say and return it, at most one page of messages at a time."""
        while True:
            await self._wake.wait()
            frames = self._take_small_frames()
            messages = await self._fetch_page() if self._behind else self._take_live()
            if messages:
                frames.append(pb.ServerFrame(messages=pb.MessageBatch(messages=messages)))
            if not self._behind and not self._announced_catch_up:
                self._announced_catch_up = True
                frames.append(pb.ServerFrame(caught_up=pb.CaughtUp(up_to=self._cursor)))
            if not self._has_more():
                self._wake.clear()
            if frames:
                return frames

    def _has_more(self) -> bool:
        waiting = self._behind or self._live or self._results or self._receipts
        return bool(waiting) or self._status is not None or self._pong is not None

    def _take_small_frames(self) -> list[pb.ServerFrame]:
        frames: list[pb.ServerFrame] = []
        if self._results:
            results, self._results = self._results, []
            frames.append(pb.ServerFrame(results=pb.SendResultBatch(results=results)))
        if self._status is not None:
            status, self._status = self._status, None
            frames.append(pb.ServerFrame(status=status))
        if self._receipts:
            receipts, self._receipts = self._receipts, {}
            frames.append(pb.ServerFrame(receipts=pb.ReceiptBatch(receipts=receipts.values())))
        if self._pong is not None:
            nonce, self._pong = self._pong, None
            frames.append(pb.ServerFrame(pong=pb.Pong(nonce=nonce)))
        return frames

    def _take_live(self) -> list[pb.Message]:
        taken: list[pb.Message] = []
        size = 0
        while self._live and len(taken) < PAGE_MESSAGES and size < PAGE_BYTES:
            message = self._live.popleft()
            self._live_bytes -= _cost(message)
            if message.id > self._cursor:  # a page may have had it already
                taken.append(message)
                size += len(message.body)
                self._cursor = message.id
        return taken

    async def _fetch_page(self) -> Sequence[pb.Message]:
        self._stored_meanwhile = False
        page = await self._fetch(self._cursor, PAGE_MESSAGES)
        self._cursor = max(self._cursor, page.up_to)
        if not page.more and not self._stored_meanwhile:
            # Nothing was stored while the page was read, so what comes next comes live.
            self._behind = False
        return page.messages


def _cost(message: pb.Message) -> int:
    return MESSAGE_OVERHEAD_BYTES + len(message.body)
