"""The files of one group and the threads that work on them: log, state, readers, snapshots.

One thread works on the log and one on the state. Each does its work in the order given. A small apply is done on the
event loop if the state's thread has nothing to do: it takes less time than two switches of threads, and it syncs
nothing. A failure is final and ends the node, because after a failed fsync the content of the disk is unknown.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from parleyd.group.readers import StateReaders
from parleyd.group.snapshot_store import SnapshotStore
from parleyd.machine.machine import ApplyOutcome, StateMachine
from parleyd.machine.records import CommittedEntry
from parleyd.membership.members import ClusterMembers
from parleyd.observability.figures import WORK_BOUNDS_S, Histogram, RecentHistogram, timed
from parleyd.raft.types import Index, SnapshotMeta
from parleyd.raft.update import Persist
from parleyd.storage.raft_storage import RaftStorage

T = TypeVar("T")

INLINE_APPLY_BYTES = 4096
"""Entries up to this size are applied on the event loop. That is about ten messages, which take about a millisecond."""


class GroupFiles:
    """Files and threads of one group, used on the event loop. Methods named `start_...` call `done` on the loop."""

    def __init__(
        self, log: RaftStorage, machine: StateMachine, readers: StateReaders, snapshot_store: SnapshotStore
    ) -> None:
        self.machine = machine  # an installed snapshot brings another one
        self.readers = readers
        self.snapshot_store = snapshot_store
        self.write_seconds = RecentHistogram(WORK_BOUNDS_S)  # durable writes of the log
        self.apply_seconds = Histogram(WORK_BOUNDS_S)
        self._log = log
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._log_thread = _WorkThread("raft-log", self._failure)
        self._state_thread = _WorkThread("apply", self._failure)
        self._installing: asyncio.Future[ClusterMembers] | None = None

    @property
    def log_bytes(self) -> int:
        """Return the size of the entries in the log, also while it is written."""
        return self._log.bytes_used()

    # ---- work

    def start_write(self, writes: Sequence[Persist], done: Callable[[None], None]) -> None:
        """Make `writes` durable, in order and under one fsync."""
        self._log_thread.start(partial(timed, self.write_seconds, partial(self._log.append, writes)), done)

    def start_compact(self, snapshot: SnapshotMeta, done: Callable[[None], None]) -> None:
        """Remove entries up to `snapshot.index` from the log."""
        self._log_thread.start(partial(self._log.compact, snapshot), done)

    def start_apply(self, committed: Sequence[CommittedEntry], done: Callable[[ApplyOutcome], None]) -> None:
        """Apply committed entries in one transaction; `done` may be called before this returns."""
        apply = partial(timed, self.apply_seconds, partial(self.machine.apply, committed))
        is_small = sum(len(entry.payload) for entry in committed) <= INLINE_APPLY_BYTES
        if is_small and not self._state_thread.is_busy and not self.machine.may_sync:
            self._state_thread.do_here(apply, done)
        else:
            self._state_thread.start(apply, done)
        if self.machine.has_long_wal:
            self._state_thread.start(self.machine.shorten_wal, lambda _: None)

    def start_checkpoint(self, done: Callable[[int], None]) -> None:
        """Make the state durable; `done` receives the index up to which it is."""
        self._state_thread.start(self.machine.checkpoint, done)

    async def install(self, snapshot: SnapshotMeta, write: Persist) -> ClusterMembers:
        """Replace state and log by the received snapshot; returns the members of the new state.

        A cancelled caller returns at once. The installation continues, because its files are between two states.
        `close` waits for it.
        """
        self._installing = asyncio.ensure_future(self._install(snapshot, write))
        return await asyncio.shield(self._installing)

    async def _install(self, snapshot: SnapshotMeta, write: Persist) -> ClusterMembers:
        async with self.readers.paused():
            await self._state_thread.call(self.machine.close)
            # State first, log second: after a crash in between, the start recognises a state ahead of the log and
            # repairs it.
            self.machine = await self._state_thread.call(partial(self.snapshot_store.install_received, snapshot))
            await self._log_thread.call(partial(self._log.append, [write]))
            return ClusterMembers.of(await self._state_thread.call(self.machine.members))

    def discard_received(self, applied_index: Index) -> None:
        """Remove received snapshots that the state has reached."""
        self.snapshot_store.discard_received(applied_index)

    # ---- their end

    async def watch(self) -> None:
        """Raise the first failure of a thread."""
        await self._failure

    async def close(self) -> None:
        """Finish the work in progress and close all files."""
        if self._installing is not None:
            await asyncio.wait([self._installing])
        await self.readers.close()
        await self._state_thread.call(self.machine.close)
        await self._log_thread.call(self._log.close)
        self.let_go()

    def let_go(self) -> None:
        """Wait for the threads and leave the files open."""
        self._state_thread.end()
        self._log_thread.end()


class _WorkThread:
    """A thread that does one work after the other. The first failure is the result of `failure`."""

    def __init__(self, name: str, failure: asyncio.Future[None]) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._failure = failure
        self._loop = asyncio.get_running_loop()
        self._started = 0

    @property
    def is_busy(self) -> bool:
        """Return whether started work has not ended."""
        return self._started > 0

    async def call(self, work: Callable[[], T]) -> T:
        """Do `work` on the thread and return its result; an error is the caller's."""
        return await self._loop.run_in_executor(self._executor, work)

    def start(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        """Do `work` on the thread. Then call `done` on the event loop."""
        self._started += 1

        def finish(result: T | None, error: BaseException | None) -> None:
            self._started -= 1
            if error is None:
                done(result)  # type: ignore[arg-type]
            else:
                self._fail(error)

        def run() -> None:
            result, error = None, None
            try:
                result = work()
            except BaseException as caught:
                error = caught
            with contextlib.suppress(RuntimeError):  # the loop has ended: no caller is left
                self._loop.call_soon_threadsafe(finish, result, error)

        self._executor.submit(run)

    def do_here(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        """Do `work` on the event loop, while the thread is not busy. Then call `done`."""
        try:
            result = work()
        except Exception as error:
            self._fail(error)
        else:
            done(result)

    def end(self) -> None:
        """Wait for the thread."""
        self._executor.shutdown()

    def _fail(self, error: BaseException) -> None:
        if not self._failure.done():
            self._failure.set_exception(error)
