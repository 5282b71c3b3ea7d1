"""Live fan-out: from what the applier changed to the streams of the devices connected to this node."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import assert_never

from parley_proto.v1 import messaging_pb2 as pb
from parleyd.delivery.device_stream import CloseReason, DeviceStream
from parleyd.delivery.records import receipt, to_proto
from parleyd.machine.records import (
    AccountDeleted,
    Effect,
    MembersChanged,
    MessageStored,
    ReceiptMoved,
    SessionClosed,
)

RATE_WINDOW_S = 5


class DeviceHub:
    """Who is connected here, and what reaches them. Used from the event loop only."""

    def __init__(self) -> None:
        self._streams: dict[int, dict[int, DeviceStream]] = {}  # account id -> session id -> stream
        self._status = pb.ClusterStatusUpdate()
        self._shut: CloseReason | None = None
        self._stored_per_second: deque[tuple[int, int]] = deque(maxlen=RATE_WINDOW_S + 1)

    @property
    def connected(self) -> int:
        """How many devices are connected to this node."""
        return sum(len(streams) for streams in self._streams.values())

    @property
    def status(self) -> pb.ClusterStatusUpdate:
        """The cluster's condition as last announced."""
        return self._status

    def messages_per_second(self) -> float:
        """Messages stored here, the mean of the last five whole seconds."""
        now = int(time.monotonic())
        counted = sum(count for second, count in self._stored_per_second if now - RATE_WINDOW_S <= second < now)
        return counted / RATE_WINDOW_S

    def join(self, session_id: int, stream: DeviceStream) -> None:
        """A device connected. An older stream of the same device ends: two would each be told half."""
        if self._shut is not None:
            stream.close(self._shut)
        streams = self._streams.setdefault(stream.account_id, {})
        for other in list(streams.values()):
            if other.device_id == stream.device_id:
                other.close(CloseReason.TAKEN_OVER)
        streams[session_id] = stream

    def leave(self, session_id: int, stream: DeviceStream) -> None:
        """A device disconnected."""
        streams = self._streams.get(stream.account_id, {})
        if streams.get(session_id) is stream:
            del streams[session_id]
        if not streams:
            self._streams.pop(stream.account_id, None)

    def announce(self, status: pb.ClusterStatusUpdate) -> None:
        """Tell every connected device how the cluster fares."""
        self._status = status
        for stream in self._all():
            stream.offer_status(status)

    def shut(self, reason: CloseReason) -> None:
        """End all streams, and every one that comes later: this node serves nobody any more."""
        self._shut = reason
        self.close_all(reason)

    def close_all(self, reason: CloseReason) -> None:
        """End the streams there are; their devices may come back."""
        for stream in list(self._all()):
            stream.close(reason)

    def publish(self, effects: Sequence[Effect]) -> None:
        """Pass on what one apply changed."""
        stored = 0
        for effect in effects:
            match effect:
                case MessageStored():
                    stored += 1
                    self._message(effect)
                case ReceiptMoved():
                    self._receipt(effect)
                case SessionClosed():
                    self._sessions_closed(effect)
                case AccountDeleted():
                    for stream in list(self._streams.get(effect.account_id, {}).values()):
                        stream.close(CloseReason.SIGNED_OUT)
                case MembersChanged():
                    pass
                case _:
                    assert_never(effect)
        if stored:
            self._count(stored)

    def _message(self, effect: MessageStored) -> None:
        for recipient in effect.recipients:
            streams = self._streams.get(recipient.account_id)
            if streams:
                message = to_proto(effect.message, recipient.peer)
                for stream in streams.values():
                    stream.offer_message(message)

    def _receipt(self, effect: ReceiptMoved) -> None:
        moved = receipt(effect.conversation_id, effect.account_id, effect.delivered_up_to, effect.read_up_to)
        for watcher in effect.watchers:
            for stream in self._streams.get(watcher, {}).values():
                stream.offer_receipt(moved)

    def _sessions_closed(self, effect: SessionClosed) -> None:
        for streams in list(self._streams.values()):
            for session_id in effect.session_ids:
                stream = streams.get(session_id)
                if stream is not None:
                    stream.close(CloseReason.SIGNED_OUT)

    def _count(self, stored: int) -> None:
        second = int(time.monotonic())
        if self._stored_per_second and self._stored_per_second[-1][0] == second:
            stored += self._stored_per_second.pop()[1]
        self._stored_per_second.append((second, stored))

    def _all(self) -> Iterator[DeviceStream]:
        for streams in self._streams.values():
            yield from streams.values()
