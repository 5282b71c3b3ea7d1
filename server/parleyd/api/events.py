"""Streams this node's events to administrators who ask for them or follow them.

A follower reads from the ring that all share, from its own place. So a slow one costs no memory: it misses what left
the ring meanwhile, and is told how much. Bound: MAX_FOLLOWERS streams of a node at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress

import grpc

from parley_proto.v1 import admin_pb2 as pb
from parleyd.api.errors import ApiError
from parleyd.events.event import Event, Value
from parleyd.events.kinds import KINDS
from parleyd.events.source import EventSource

MAX_FOLLOWERS = 32
MAX_BATCH = 256
QUIET_S = 10.0
"""After so long without an event a follower gets an empty batch, and its session is looked up again."""

FULL_TEXT = (
    "This node has {most} followers of its events, and takes no more. Nothing was changed. End one, or ask without "
    "--follow."
)
ENDED_TEXT = "This session has ended, or its account is no administrator any more. Log in again."
STOPPING_TEXT = "This node stops. Follow it again when it is back: no event is told twice or left out."

Allowed = Callable[[], Awaitable[bool]]


class EventFollowers:
    """The streams of a serving node's events. Used on the event loop only."""

    def __init__(self, source: EventSource, most: int = MAX_FOLLOWERS) -> None:
        self._source = source
        self._most = most
        self._followed = 0

    async def batches(
        self, node: str, request: pb.FollowEventsRequest, is_allowed: Allowed
    ) -> AsyncGenerator[pb.EventBatch]:
        """Yield what the request asks for; raises ApiError when the stream has to end."""
        if self._followed >= self._most:
            raise ApiError(grpc.StatusCode.RESOURCE_EXHAUSTED, FULL_TEXT.format(most=self._most))
        self._followed += 1
        try:
            async for batch in self._read(node, request, is_allowed):
                yield batch
        finally:
            self._followed -= 1

    async def _read(
        self, node: str, request: pb.FollowEventsRequest, is_allowed: Allowed
    ) -> AsyncGenerator[pb.EventBatch]:
        ring, start = self._source.ring, self._source.start
        after = request.after.number if request.after.start == start else 0
        last, round_ = ring.last_number, ring.round
        news = asyncio.Event()
        end = ring.listen(_waker(news))
        try:
            is_quiet = True
            while True:
                is_ending = ring.round != round_
                news.clear()
                found = ring.read(after, MAX_BATCH if request.follow else min(MAX_BATCH, max(0, last - after)))
                if found.events or is_quiet:
                    yield _batch(node, start, found.events, found.missed)
                    is_quiet = False
                    after = found.events[-1].number if found.events else after
                    if found.events:
                        continue
                if not request.follow:
                    return
                if is_ending:
                    raise ApiError(grpc.StatusCode.UNAVAILABLE, STOPPING_TEXT)
                try:
                    async with asyncio.timeout(QUIET_S):
                        await news.wait()
                except TimeoutError:
                    is_quiet = True
                if not await is_allowed():
                    raise ApiError(grpc.StatusCode.UNAUTHENTICATED, ENDED_TEXT)
        finally:
            end()


def _waker(news: asyncio.Event) -> Callable[[], None]:
    """Return what any thread calls to set `news`."""
    loop = asyncio.get_running_loop()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop has ended, and the stream with it
            loop.call_soon_threadsafe(news.set)

    return wake


def _batch(node: str, start: int, events: tuple[Event, ...], missed: int) -> pb.EventBatch:
    return pb.EventBatch(node=node, start=start, events=map(encode_event, events), missed=missed)


def encode_event(event: Event) -> pb.NodeEvent:
    """Return an event as it goes over the wire."""
    return pb.NodeEvent(
        number=event.number,
        at_ms=event.at_ms,
        kind=event.kind,
        topic=KINDS[event.kind].topic.value,
        fields={name: _value(value) for name, value in event.fields.items()},
    )


def _value(value: Value) -> pb.EventValue:
    match value:
        case bool():
            return pb.EventValue(flag=value)
        case int() if -(2**63) <= value < 2**63:
            return pb.EventValue(number=value)
        case _:
            return pb.EventValue(text=str(value).encode(errors="replace").decode())
