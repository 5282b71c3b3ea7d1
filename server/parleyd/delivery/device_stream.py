"""What one connected device has yet to receive, in order and within bounds.

Messages come live from the applier while the device keeps up. A device that falls behind (a long offline queue, a slow
link, more waiting bytes than its bound) gets the stored state instead, page by page from its own cursor, until it has
caught up. Stored messages are never dropped, so a slow device loses nothing. What comes beside messages is bounded
(small_frames.py). Before a frame that names an account or conversation for the first time, the stream sends a Directory
frame with it.
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from parley_proto.v1 import messaging_pb2 as pb
from parleyd.budgets import DeviceShare, Place
from parleyd.delivery.account_watchers import AccountWatchers
from parleyd.delivery.cursor import StreamCursor
from parleyd.delivery.encoding import EncodedMessage, messages_frame
from parleyd.delivery.sent_directory import SentDirectory
from parleyd.delivery.small_frames import SmallFrames, named_in
from parleyd.observability.figures import service_figures

MESSAGE_OVERHEAD_BYTES = 64  # the memory of a waiting message besides its bytes
PAGE_MESSAGES = 256
# Bound of the messages of one frame, in encoded bytes; a frame has at least one message. It is small, because a client
# that reads slowly makes this node keep a frame until it is read.
FRAME_BYTES = 256 * 1024
# A frame of stored messages up to this size needs no place, so a device that has little to receive waits for nobody.
SMALL_FRAME_BYTES = 16 * 1024
RESERVED_BYTES = 64 * 1024

Frame = pb.ServerFrame | bytes  # bytes: a frame that is encoded already


class CloseReason(enum.Enum):
    """Why this node ends a stream."""

    SIGNED_OUT = "the session is closed or expired, or the account was deleted"
    TAKEN_OVER = "another stream of the same device took its place"
    SUPERSEDED = "another copy of the device's files sends for it now"
    STOPPING = "the node is stopping"
    REPLACED = "a snapshot replaced the state, and the streams never received its changes"


@dataclass(frozen=True, slots=True)
class Page:
    """Stored messages in order; up to `up_to` there are no others, and `more` lie above it.

    `removed`: conversation and message, up to which the account has removed it since the page's beginning.
    """

    messages: Sequence[EncodedMessage]
    up_to: int
    more: bool
    removed: Sequence[tuple[int, int]] = ()


class StreamSource(Protocol):
    """The source of what is stored."""

    async def page(self, after_id: int, limit: int) -> Page:
        """Return the next messages for the device."""

    async def directory(self, account_ids: set[int], conversation_ids: set[int]) -> pb.Directory:
        """Return these accounts and conversations."""


class DeviceStream:
    """The downward side of one Connect stream; filled by the hub, drained by the stream's writer."""

    shows_presence: ClassVar[bool] = True
    """Whether others are told that the account is connected while the stream is open."""
    makes_small_frames: ClassVar[type[SmallFrames]] = SmallFrames

    def __init__(
        self,
        account_id: int,
        device_id: bytes,
        cursor: int,
        source: StreamSource,
        *,
        generation: int,
        live: DeviceShare,
        place: Place,
        claim: bytes = b"",
        page_messages: int = PAGE_MESSAGES,
    ) -> None:
        """Begin after `cursor`: the device has everything up to this message id. A frame has `page_messages` at most.

        `live` bounds the messages that wait in memory. A large frame of stored messages is written only with `place`.
        `claim` is the nonce of the copy of the device's files that is connected.
        """
        self.claim = claim
        self.account_id = account_id
        self.device_id = device_id
        self._cursor = cursor
        self._page_messages = page_messages
        self._source = source
        self._generation = generation
        self._share = live
        self._place = place
        self._has_read = False
        self._live_bytes = 0
        self._behind = True
        self._stored_meanwhile = False
        self._announced_catch_up = False
        self._live: deque[EncodedMessage] = deque()
        self._sent_directory = SentDirectory()
        self._wake = asyncio.Event()
        self._wake.set()
        self.small_frames = self.makes_small_frames(self._wake.set)
        self.closed: asyncio.Future[CloseReason] = asyncio.get_running_loop().create_future()

    @property
    def cursor(self) -> int:
        """Return the message id up to which this stream has handed out everything."""
        return self._cursor

    @property
    def has_messages(self) -> bool:
        """Return whether messages wait that this stream has not handed out yet, as far as it knows."""
        return self._behind or bool(self._live)

    # ---- filled by the hub and by the upward side

    def watch_accounts(self, watchers: AccountWatchers) -> None:
        """Keep the node's index of the accounts that this stream has sent."""
        self._sent_directory.watch(watchers, self)

    def offer_message(self, message: EncodedMessage) -> None:
        """Queue a stored message for this account."""
        if message.device_id == self.device_id or self.closed.done():
            return
        if self._behind:
            self._stored_meanwhile = True
        elif self._reserve(self._live_bytes + _cost(message)):
            self._live.append(message)
            self._live_bytes += _cost(message)
        else:
            self._drop_live()
            self._behind = True
        self._wake.set()

    def account_changed(self, account_id: int) -> None:
        """Record that the public data of an account changed."""
        self._sent_directory.account_changed(account_id)
        self._wake.set()

    def conversation_changed(self, conversation_id: int) -> None:
        """Record that a conversation of this account began or changed."""
        self._sent_directory.conversation_changed(conversation_id)
        self._wake.set()

    def conversation_removed(self, conversation_id: int, up_to: int) -> None:
        """Record that the account has removed a conversation up to a message."""
        self._sent_directory.conversation_removed(conversation_id, up_to)
        self._wake.set()

    def close(self, reason: CloseReason) -> None:
        """End the stream; the first reason stays."""
        if not self.closed.done():
            self.closed.set_result(reason)

    def release(self) -> None:
        """Give back what the stream has in use, after its end."""
        self._drop_live()
        self._place.leave()
        self._sent_directory.release()

    def _reserve(self, needed: int) -> bool:
        """Have room for `needed` bytes, taken in large pieces, because this is done for every message."""
        missing = needed - self._share.in_use
        return missing <= 0 or self._share.take(max(missing, RESERVED_BYTES))

    def _drop_live(self) -> None:
        self._live.clear()
        self._live_bytes = 0
        self._share.close()

    def is_page_wanted(self) -> bool:
        """Return whether other streams wait for the place of this one's page."""
        return self._place.is_wanted()

    # ---- drained by the writer

    async def next_frames(self) -> list[Frame]:
        """Wait for the next frames and return them, at most one page of messages at a time.

        The frames before them must be written.
        """
        while True:
            if self._has_read:
                self._place.leave()
                self._has_read = False
            await self._wake.wait()
            small = self.small_frames.take()
            batches = await self._next_batches()
            frames: list[Frame] = [*await self._directory_for(small, batches), *small]
            if batches:
                service_figures().delivered += sum(len(messages) for messages, _ in batches)
            frames += (messages_frame(messages, self._encoded_cursor(up_to)) for messages, up_to in batches)
            if not self._behind and not self._announced_catch_up:
                self._announced_catch_up = True
                frames.append(pb.ServerFrame(caught_up=pb.CaughtUp(cursor=self._encoded_cursor(self._cursor))))
            if not self._has_more():
                self._wake.clear()
            if frames:
                return frames

    async def _next_batches(self) -> list[_Batch]:
        if not self._behind:
            return self._take_live()
        return [] if self._place.is_awaited else await self._fetch_page()

    def _has_more(self) -> bool:
        can_read = self._behind and not self._place.is_awaited
        return can_read or bool(self._live) or self.small_frames.has_more or self._sent_directory.has_changes

    def _take_live(self) -> list[_Batch]:
        taken: list[EncodedMessage] = []
        size = 0
        while self._live and len(taken) < self._page_messages:
            size += len(self._live[0].entry)
            if taken and size > FRAME_BYTES:
                break
            message = self._live.popleft()
            self._live_bytes -= _cost(message)
            if message.id > self._cursor:  # a page may have included it already
                taken.append(message)
                self._cursor = message.id
        if not self._live:
            self._drop_live()
        return [(taken, self._cursor)] if taken else []

    async def _fetch_page(self) -> list[_Batch]:
        self._stored_meanwhile = False
        page = await self._source.page(self._cursor, self._page_messages)
        if sum(len(message.entry) for message in page.messages) > SMALL_FRAME_BYTES and not self._has_place():
            return []  # it is read again when there is a place, and nothing is kept until then
        self._has_read = self._place.is_held
        self._cursor = max(self._cursor, page.up_to)
        for conversation_id, up_to in page.removed:
            self._sent_directory.conversation_removed(conversation_id, up_to)
        if not page.more and not self._stored_meanwhile:
            # Nothing was stored while the page was read, so the next messages come live.
            self._behind = False
        return [(page.messages, self._cursor)] if page.messages else []

    def _has_place(self) -> bool:
        """Return whether this stream has its place; ask for it if it has not."""
        if not self._place.is_held:
            self._place.ask().add_done_callback(lambda _: self._wake.set())
        return self._place.is_held

    async def _directory_for(self, frames: Sequence[pb.ServerFrame], batches: Sequence[_Batch]) -> list[pb.ServerFrame]:
        """Return the Directory frame that must come before these, if any."""
        accounts, conversations = named_in(frames)
        for messages, _ in batches:
            for message in messages:
                accounts.update(message.account_ids)
                conversations.add(message.conversation_id)
        accounts, conversations = self._sent_directory.take(accounts, conversations)
        removed = self._sent_directory.take_removed()
        if not accounts and not conversations and not removed:
            return []
        directory = await self._source.directory(accounts, conversations)
        self._sent_directory.sent(directory)
        for conversation_id, up_to in removed.items():
            directory.removed.add(conversation_id=conversation_id, up_to=up_to)
        return [pb.ServerFrame(directory=directory)]

    def _encoded_cursor(self, message_id: int) -> bytes:
        return StreamCursor.at(self._generation, message_id).encode()


_Batch = tuple[Sequence[EncodedMessage], int]  # messages of one frame, and the id of the cursor after it


def _cost(message: EncodedMessage) -> int:
    return MESSAGE_OVERHEAD_BYTES + len(message.entry)
