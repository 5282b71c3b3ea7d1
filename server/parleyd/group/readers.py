"""Queries on the applied state, off the event loop: a few read-only connections, each used by one thread at a time.

Whose query comes next is decided by owner (budgets.py), in two lanes with readers of their own:

- Short queries: those of the node itself, and those of callers before their session is known. Each takes a bounded
  number of steps.
- Queries of sessions, which may be long. An account has one reader at a time. So another reader is left for the others.

A task says whose queries it makes with `read_for`. Without that they are the node's own, which wait behind one query of
each address, at most, and are never refused.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog

from parleyd.budgets import FairPlaces, Place
from parleyd.group.errors import TooManyReadsError
from parleyd.machine.errors import MachineDamagedError
from parleyd.machine.reader import StateReader
from parleyd.owners import Owner

T = TypeVar("T")

CLOSE_WITHIN_S = 5.0
INTERRUPT_INTERVAL_S = 0.05
WAIT_S = 10.0
WAITING_OF_ACCOUNT = 128
WAITING_OF_ADDRESS = 2_048
"""An address may be a ward of some hundred people, or a gateway. Its calls have a bound besides."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """Whose queries a task makes. Those of a session may be long."""

    owner: Owner
    has_session: bool


_NODE = _Reading(("this node",) * 3, has_session=False)
_READING: ContextVar[_Reading] = ContextVar("whose queries", default=_NODE)


def read_for(owner: Owner, *, has_session: bool) -> None:
    """Make the queries of the current task, and of tasks that it starts, those of `owner`."""
    _READING.set(_Reading(owner, has_session))


class StateReaders:
    """A fixed pool of readers of one state file; callers wait for a free one in fair order."""

    def __init__(self, path: Path, count: int = 2) -> None:
        """Open one reader for short queries, and `count` for those of sessions."""
        self._path = path
        self._short = _Lane(1, WAITING_OF_ADDRESS)
        self._sessions = _Lane(count, WAITING_OF_ACCOUNT)
        self._threads = ThreadPoolExecutor(count + 1, thread_name_prefix="reader")
        self._damage: MachineDamagedError | None = None
        self._damaged = asyncio.Event()
        self._in_use: set[StateReader] = set()
        self._returned = asyncio.Event()
        self._opened = asyncio.Event()
        self._open()

    async def run(self, query: Callable[[StateReader], T]) -> T:
        """Run `query` on a reader. A cancelled caller returns at once; the reader is free when its thread ends.

        Raises TooManyReadsError if too many queries of the same owner wait, or if its turn does not come in time.
        """
        reading = _READING.get()
        lane = self._sessions if reading.has_session else self._short
        place = Place(lane.places, reading.owner)
        try:
            if reading is _NODE:
                await self._wait(place)
            else:
                await self._wait_as_caller(lane, place, reading.owner)
            running = self._start(query, lane, place)
        except BaseException:
            place.leave()
            raise
        return await asyncio.wrap_future(running)

    async def watch_damage(self) -> None:
        """Wait until a query finds damage in the state file, and raise it: the node must stop."""
        await self._damaged.wait()
        if self._damage is not None:
            raise self._damage

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Close all readers inside this block, so that the file may be replaced. Queries wait meanwhile."""
        self._opened.clear()
        try:
            while self._in_use:
                await self._next_return()
        except BaseException:
            self._opened.set()
            raise
        self._close_free()
        try:
            yield
        finally:
            self._open()

    async def close(self) -> None:
        """Close all readers. Queries in progress are interrupted, because a stopping node waits for nobody's query.

        A reader that does not come back in time is left to the end of the process.
        """
        self._opened.clear()
        try:
            async with asyncio.timeout(CLOSE_WITHIN_S):
                while self._in_use:
                    await self._interrupt()
        except TimeoutError:
            structlog.get_logger("readers").error("reader_not_closed", effect="none: it only reads")
        self._close_free()
        self._threads.shutdown(wait=False, cancel_futures=True)

    # ---- inside

    async def _wait_as_caller(self, lane: _Lane, place: Place, owner: Owner) -> None:
        try:
            with lane.one_waiting(owner):
                async with asyncio.timeout(WAIT_S):
                    await self._wait(place)
        except TimeoutError:
            raise TooManyReadsError(f"this read got no turn within {WAIT_S:.0f} s") from None

    async def _wait(self, place: Place) -> None:
        # Shielded, because a place must not be given to a caller that was cancelled in the same turn of the loop.
        await asyncio.shield(place.ask())
        while not self._opened.is_set():  # another pause may begin in the turn of the loop that ends one
            await self._opened.wait()

    def _start(self, query: Callable[[StateReader], T], lane: _Lane, place: Place) -> Future[T]:
        loop = asyncio.get_running_loop()
        reader = lane.free[-1]
        running = self._threads.submit(query, reader)
        lane.free.pop()
        self._in_use.add(reader)

        def give_back() -> None:
            self._in_use.discard(reader)
            lane.free.append(reader)
            self._returned.set()
            place.leave()

        def ended(done: Future[T]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(give_back)
                error = None if done.cancelled() else done.exception()
                if isinstance(error, MachineDamagedError):
                    loop.call_soon_threadsafe(self._report, error)

        running.add_done_callback(ended)
        return running

    def _report(self, damage: MachineDamagedError) -> None:
        self._damage = self._damage or damage
        self._damaged.set()

    async def _next_return(self) -> None:
        self._returned.clear()
        await self._returned.wait()

    async def _interrupt(self) -> None:
        # Again and again, because a query may just be between two statements.
        for reader in self._in_use:
            reader.interrupt()
        try:
            async with asyncio.timeout(INTERRUPT_INTERVAL_S):
                await self._next_return()
        except TimeoutError:
            return

    def _open(self) -> None:
        for lane in (self._short, self._sessions):
            lane.free.extend(StateReader.open(self._path) for _ in range(lane.count))
        self._opened.set()

    def _close_free(self) -> None:
        for lane in (self._short, self._sessions):
            while lane.free:
                lane.free.pop().close()


class _Lane:
    """Readers of one kind of queries. Who has a place has a reader, unless all are closed for a pause."""

    def __init__(self, count: int, most_waiting: int) -> None:
        self.count = count
        self.places = FairPlaces(count, (count, count, 1))
        self.free: list[StateReader] = []
        self._most_waiting = most_waiting
        self._waiting: Counter[Hashable] = Counter()

    @contextmanager
    def one_waiting(self, owner: Owner) -> Iterator[None]:
        """Count a query that waits, while inside. An account is one, wherever it is."""
        account = owner[-1]
        if self._waiting[account] >= self._most_waiting:
            raise TooManyReadsError("too many reads of the same account or address wait already")
        self._waiting[account] += 1
        try:
            yield
        finally:
            self._waiting[account] -= 1
            if not self._waiting[account]:
                del self._waiting[account]
