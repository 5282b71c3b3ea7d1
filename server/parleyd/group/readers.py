"""Queries on the applied state, off the event loop: a few read-only connections, each used by one thread at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import structlog

from parleyd.machine.errors import MachineDamagedError
from parleyd.machine.reader import StateReader

T = TypeVar("T")

CLOSE_WITHIN_S = 5.0
INTERRUPT_INTERVAL_S = 0.05


class StateReaders:
    """A fixed pool of readers of one state file; callers queue for a free one."""

    def __init__(self, path: Path, count: int = 2) -> None:
        self._path = path
        self._count = count
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="reader")
        self._free: asyncio.Queue[StateReader] = asyncio.Queue()
        self._damage: MachineDamagedError | None = None
        self._damaged = asyncio.Event()
        self._all: list[StateReader] = []
        for _ in range(count):
            self._open_one()

    async def run(self, query: Callable[[StateReader], T]) -> T:
        """Run `query` on a free reader. A cancelled caller returns at once; the reader is free when its thread ends."""
        reader = await self._free.get()
        loop = asyncio.get_running_loop()
        try:
            running = self._threads.submit(query, reader)
        except BaseException:
            self._free.put_nowait(reader)
            raise

        def give_back(done: Future[T]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._free.put_nowait, reader)
                error = None if done.cancelled() else done.exception()
                if isinstance(error, MachineDamagedError):
                    loop.call_soon_threadsafe(self._report, error)

        running.add_done_callback(give_back)
        return await asyncio.wrap_future(running)

    async def watch_damage(self) -> None:
        """Wait until a query finds damage in the state file, and raise it: the node must stop."""
        await self._damaged.wait()
        if self._damage is not None:
            raise self._damage

    def _report(self, damage: MachineDamagedError) -> None:
        self._damage = self._damage or damage
        self._damaged.set()

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Close all readers inside this block, so that the file may be replaced. Queries wait meanwhile."""
        taken: list[StateReader] = []
        try:
            while len(taken) < self._count:
                taken.append(await self._free.get())
        except BaseException:
            for reader in taken:
                self._free.put_nowait(reader)
            raise
        for reader in taken:
            reader.close()
        self._all.clear()
        try:
            yield
        finally:
            for _ in taken:
                self._open_one()

    async def _next_free(self) -> StateReader:
        while True:
            # Again and again, because a query may just be between two statements.
            for reader in self._all:
                reader.interrupt()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERRUPT_INTERVAL_S):
                    return await self._free.get()

    def _open_one(self) -> None:
        reader = StateReader.open(self._path)
        self._all.append(reader)
        self._free.put_nowait(reader)

    async def close(self) -> None:
        """Close all readers. Queries in progress are interrupted, because a stopping node waits for nobody's query.

        A reader that does not come back in time is left to the end of the process.
        """
        try:
            async with asyncio.timeout(CLOSE_WITHIN_S):
                for _ in range(len(self._all)):
                    (await self._next_free()).close()
        except TimeoutError:
            structlog.get_logger("readers").error("reader_not_closed", effect="none: it only reads")
        self._threads.shutdown(wait=False, cancel_futures=True)
