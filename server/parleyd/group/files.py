"""The files of one group and the threads that work on them: log, state, readers, snapshots.

One thread works on the log and one on the state. Each does its work in the order given. A failure is final and ends the
node, because after a failed fsync the content of the disk is unknown.
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
from parleyd.raft.types import Index, SnapshotMeta
from parleyd.raft.update import Persist
from parleyd.storage.raft_storage import RaftStorage

T = TypeVar("T")


class GroupFiles:
    """Files and threads of one group, used on the event loop. Methods named `start_...` call `done` on the loop."""

    def __init__(
        self, log: RaftStorage, machine: StateMachine, readers: StateReaders, snapshot_store: SnapshotStore
    ) -> None:
        self.machine = machine  # an installed snapshot brings another one
        self.readers = readers
        self.snapshot_store = snapshot_store
        self._log = log
        self._log_thread = ThreadPoolExecutor(1, thread_name_prefix="raft-log")
        self._state_thread = ThreadPoolExecutor(1, thread_name_prefix="apply")
        self._loop = asyncio.get_running_loop()
        self._failure: asyncio.Future[None] = self._loop.create_future()
        self._installing: asyncio.Future[ClusterMembers] | None = None

    # ---- work

    def start_write(self, writes: Sequence[Persist], done: Callable[[None], None]) -> None:
        """Make `writes` durable, in order and under one fsync."""
        self._start(self._log_thread, partial(self._log.append, writes), done)

    def start_compact(self, snapshot: SnapshotMeta, done: Callable[[None], None]) -> None:
        """Remove entries up to `snapshot.index` from the log."""
        self._start(self._log_thread, partial(self._log.compact, snapshot), done)

    def start_apply(self, committed: Sequence[CommittedEntry], done: Callable[[ApplyOutcome], None]) -> None:
        """Apply committed entries in one transaction."""
        self._start(self._state_thread, partial(self.machine.apply, committed), done)

    def start_checkpoint(self, done: Callable[[int], None]) -> None:
        """Make the state durable; `done` receives the index up to which it is."""
        self._start(self._state_thread, self.machine.checkpoint, done)

    async def install(self, snapshot: SnapshotMeta, write: Persist) -> ClusterMembers:
        """Replace state and log by the received snapshot; returns the members of the new state.

        A cancelled caller returns at once. The installation continues, because its files are between two states.
        `close` waits for it.
        """
        self._installing = asyncio.ensure_future(self._install(snapshot, write))
        return await asyncio.shield(self._installing)

    async def _install(self, snapshot: SnapshotMeta, write: Persist) -> ClusterMembers:
        async with self.readers.paused():
            await self._call(self._state_thread, self.machine.close)
            # State first, log second: after a crash in between, the start recognises a state ahead of the log and
            # repairs it.
            self.machine = await self._call(self._state_thread, partial(self.snapshot_store.install_received, snapshot))
            await self._call(self._log_thread, partial(self._log.append, [write]))
            return ClusterMembers.of(await self._call(self._state_thread, self.machine.members))

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
        await self._call(self._state_thread, self.machine.close)
        await self._call(self._log_thread, self._log.close)
        self.let_go()

    def let_go(self) -> None:
        """Wait for the threads and leave the files open."""
        self._state_thread.shutdown()
        self._log_thread.shutdown()

    # ---- threads

    async def _call(self, thread: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await self._loop.run_in_executor(thread, work)

    def _start(self, thread: ThreadPoolExecutor, work: Callable[[], T], done: Callable[[T], None]) -> None:
        def finish(result: T | None, error: BaseException | None) -> None:
            if error is None:
                done(result)  # type: ignore[arg-type]
            elif not self._failure.done():
                self._failure.set_exception(error)

        def run() -> None:
            result, error = None, None
            try:
                result = work()
            except BaseException as caught:
                error = caught
            with contextlib.suppress(RuntimeError):  # the loop has ended: no caller is left
                self._loop.call_soon_threadsafe(finish, result, error)

        thread.submit(run)
