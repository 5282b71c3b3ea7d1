"""Reads the events of all nodes, each from the node itself, and follows them over the ends of nodes.

A task for each node puts what it hears into a bounded queue. A reader that is slow slows the tasks, and the nodes keep
what it has not read as long as their memory reaches.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress

from parley.cluster_model import ClusterStatus, NodeStatus
from parley.errors import ParleyError, UnreachableError
from parley.event_model import ClusterEvent, EventNews, EventsMissed, NodeLost, NodeReached
from parley.net.answer_stream import answers_of
from parley.net.unary_caller import UnaryCaller, bearer
from parley.wire.endpoints import parse_endpoints
from parley.wire.timeline import Positions, in_order, since
from parley_proto.v1 import admin_pb2 as pb
from parley_proto.v1.admin_pb2_grpc import AdminStub

SILENCE_S = 30.0
"""A node sends something every 10 s."""
RETRY_S = 1.0
LOOK_S = 5.0
"""How often new members are looked for."""
GATHER_S = 0.25
"""News that come within this time are put in order."""
MAX_WAITING = 1_024


class EventReader:
    """The events of all nodes, for one reader."""

    def __init__(
        self, caller: UnaryCaller, token: str, status: Callable[[], Awaitable[ClusterStatus]], since_ms: int | None
    ) -> None:
        """Leave out what happened before `since_ms`."""
        self._caller = caller
        self._token = token
        self._status = status
        self._since_ms = since_ms
        self._positions = Positions()
        self._waiting: asyncio.Queue[EventNews | Exception] = asyncio.Queue(MAX_WAITING)
        self._followed: dict[str, asyncio.Task[None]] = {}
        self._began: set[str] = set()

    async def read(self) -> Sequence[EventNews]:
        """Return what the nodes have in memory now, and which nodes told nothing.

        Raises UnreachableError if no node told anything, and RefusedError for an account that is no administrator.
        """
        return in_order(one for _, news in await self._read_all() for one in news)

    async def follow(self) -> AsyncGenerator[EventNews]:
        """Yield the same, and then all that happens, until closed. A node that is lost is told, and tried again."""
        told = await self._read_all()
        for one in in_order(one for _, news in told for one in news):
            yield one
        try:  # no TaskGroup: a generator must not be left inside of one
            for node, news in told:
                self._follow(node, is_lost=_is_lost(news))
            looked_at = time.monotonic()
            while True:
                for one in in_order(await self._gather()):
                    yield one
                if time.monotonic() - looked_at >= LOOK_S:
                    for node in (await self._status()).nodes:
                        self._follow(node, is_lost=False)
                    looked_at = time.monotonic()
        finally:
            for task in self._followed.values():
                task.cancel()
            await asyncio.gather(*self._followed.values(), return_exceptions=True)

    # ---- what happened until now

    async def _read_all(self) -> Sequence[tuple[NodeStatus, Sequence[EventNews]]]:
        nodes = (await self._status()).nodes
        answers = await asyncio.gather(*map(self._read_node, nodes), return_exceptions=True)
        told: list[tuple[NodeStatus, Sequence[EventNews]]] = []
        for node, answer in zip(nodes, answers, strict=True):
            if isinstance(answer, BaseException):
                raise answer
            told.append((node, answer))
        if all(_is_lost(news) for _, news in told):
            raise UnreachableError("No node told its events. Nothing was changed. Look at: parley cluster status.")
        return told

    async def _read_node(self, node: NodeStatus) -> Sequence[EventNews]:
        news: list[EventNews] = []
        try:
            async for batch in self._batches(node, node.name, follow=False):
                news.extend(self._news(batch))
        except (UnreachableError, TimeoutError) as error:
            news.append(NodeLost(node.name or node.address, _now_ms(), _reason(error)))
        return news

    # ---- what happens

    def _follow(self, node: NodeStatus, *, is_lost: bool) -> None:
        if node.address not in self._followed:
            self._followed[node.address] = asyncio.create_task(self._follow_node(node, is_lost=is_lost))

    async def _gather(self) -> Sequence[EventNews]:
        """Wait a while for news, and return them with those that come shortly after."""
        news: list[EventNews] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                news.append(_checked(await self._waiting.get()))
        if news:
            await asyncio.sleep(GATHER_S)
            while not self._waiting.empty():
                news.append(_checked(self._waiting.get_nowait()))
        return news

    async def _follow_node(self, node: NodeStatus, *, is_lost: bool) -> None:
        name = node.name
        while True:
            try:
                async for batch in self._batches(node, name, follow=True):
                    name = batch.node
                    if is_lost:
                        is_lost = False
                        await self._waiting.put(NodeReached(name, _now_ms()))
                    for one in self._news(batch):
                        await self._waiting.put(one)
                reason = "it ended the stream"
            except (UnreachableError, TimeoutError) as error:
                reason = _reason(error)
            except Exception as error:  # a defect, too: otherwise the reader would wait, and miss this node's events
                await self._waiting.put(error)
                return
            if not is_lost:
                is_lost = True
                await self._waiting.put(NodeLost(name or node.address, _now_ms(), reason))
            await asyncio.sleep(RETRY_S)

    # ---- one node

    def _news(self, batch: pb.EventBatch) -> Sequence[EventNews]:
        events: Sequence[ClusterEvent] = self._positions.take(batch)
        is_first = batch.node not in self._began
        if is_first and self._since_ms is not None:
            events = since(events, self._since_ms)
        if events or self._since_ms is None:
            self._began.add(batch.node)
        if batch.missed and not is_first:
            at_ms = events[0].at_ms if events else _now_ms()
            return [EventsMissed(batch.node, at_ms, batch.missed), *events]
        return events

    def _batches(self, node: NodeStatus, name: str, *, follow: bool) -> AsyncIterator[pb.EventBatch]:
        (endpoint,) = parse_endpoints([node.address])
        request = self._positions.request(name, follow=follow)
        call = AdminStub(self._caller.channel(endpoint)).FollowEvents(request, metadata=bearer(self._token))
        return answers_of(self._caller, endpoint, call, SILENCE_S)


def _is_lost(news: Sequence[EventNews]) -> bool:
    return bool(news) and isinstance(news[-1], NodeLost)


def _checked(one: EventNews | Exception) -> EventNews:
    if isinstance(one, Exception):
        raise one
    return one


def _reason(error: Exception) -> str:
    return error.text if isinstance(error, ParleyError) else f"it sent nothing for {SILENCE_S:.0f} s"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
