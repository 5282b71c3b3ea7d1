"""Commands on their way to the leader: queued, sent, and not yet answered. Bounded in number and in bytes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from parley_proto.v1 import peer_pb2 as pb
from parley_proto.v1 import state_pb2
from parleyd.request_ids import carried_request_id

MAX_IN_FLIGHT = 4096
MAX_IN_FLIGHT_BYTES = 16 * 1024 * 1024
MAX_FRAME_BYTES = 2 * 1024 * 1024
"""A frame has no further request or reply when it has this size."""


class Forwards:
    """The requests of one link. Bytes count until the answer, because the leader keeps them as long."""

    def __init__(self) -> None:
        self.filled = asyncio.Event()
        self._queue: deque[pb.ForwardRequest] = deque()
        self._waiting: dict[int, tuple[asyncio.Future[pb.ForwardReply], int]] = {}
        self._bytes = 0
        self._last_number = 0
        self._has_refused = False

    def add(self, commands: Sequence[state_pb2.Command], group: int, reply: asyncio.Future[pb.ForwardReply]) -> bool:
        """Queue commands, whose answer `reply` gets; return False if too much is on its way. One always may be."""
        request = pb.ForwardRequest(request_id=self._last_number + 1, commands=commands, group=group)
        if client_request_id := carried_request_id():
            request.client_request_id = client_request_id
        size = request.ByteSize()
        is_full = len(self._waiting) >= MAX_IN_FLIGHT or self._bytes + size > MAX_IN_FLIGHT_BYTES
        if self._waiting and is_full:
            self._has_refused = True
            return False
        self._last_number += 1
        self._waiting[self._last_number] = (reply, size)
        self._bytes += size
        self._queue.append(request)
        self.filled.set()
        return True

    def take_room(self) -> bool:
        """Return whether those that were refused should try again: half of the room is free. True once."""
        has_room = 2 * len(self._waiting) <= MAX_IN_FLIGHT and 2 * self._bytes <= MAX_IN_FLIGHT_BYTES
        if not self._has_refused or not has_room:
            return False
        self._has_refused = False
        return True

    def next_batch(self) -> pb.ForwardBatch:
        """Return what waits, up to a frame; the last of it clears `filled`."""
        batch = pb.ForwardBatch()
        room = MAX_FRAME_BYTES
        while self._queue and room > 0:
            request = self._queue.popleft()
            room -= self._waiting[request.request_id][1]
            batch.requests.append(request)
        if not self._queue:
            self.filled.clear()
        return batch

    def answered(self, reply: pb.ForwardReply) -> None:
        """Give the caller of a request its answer."""
        future, size = self._waiting.pop(reply.request_id, (None, 0))
        self._bytes -= size
        if future is not None and not future.done():
            future.set_result(reply)

    def fail_all(self, error: Exception) -> None:
        """Fail every caller, and forget all requests."""
        waiting, self._waiting = self._waiting, {}
        self._queue.clear()
        self.filled.clear()
        self._bytes = 0
        for future, _ in waiting.values():
            if not future.done():
                future.set_exception(error)
