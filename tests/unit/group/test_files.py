"""Work on the files of a group: its order, where it is done, and what a failure of it ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from parleyd.group.files import INLINE_APPLY_BYTES, GroupFiles
from parleyd.group.readers import StateReaders
from parleyd.group.snapshot_store import SnapshotStore
from parleyd.machine.records import CommittedEntry
from parleyd.storage.raft_storage import RaftStorage

SMALL, LARGE = b"x", b"x" * (INLINE_APPLY_BYTES + 1)


class Machine:
    """A state machine that says on which thread it was called, and can be held up there."""

    def __init__(self) -> None:
        self.done: list[tuple[str, int]] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.failure: Exception | None = None
        self.has_long_wal = False
        self.may_sync = False

    def apply(self, entries: list[CommittedEntry]) -> int:
        if self.failure is not None:
            raise self.failure
        return self._note(entries[0].index)

    def checkpoint(self) -> int:
        self.go_on.wait(10)
        return self._note(0)

    def shorten_wal(self) -> None:
        self.has_long_wal = False
        self._note(-1)

    def close(self) -> None:
        pass

    def _note(self, index: int) -> int:
        place = "loop" if threading.current_thread() is threading.main_thread() else "thread"
        self.done.append((place, index))
        return index


def entry(index: int, payload: bytes = SMALL) -> list[CommittedEntry]:
    return [CommittedEntry(index, 1, payload)]


@asynccontextmanager
async def files_of(machine: Machine) -> AsyncIterator[GroupFiles]:
    async def close() -> None:
        pass

    log = SimpleNamespace(close=lambda: None)
    readers = SimpleNamespace(close=close)
    files = GroupFiles(
        cast(RaftStorage, log), cast(Any, machine), cast(StateReaders, readers), cast(SnapshotStore, SimpleNamespace())
    )
    try:
        yield files
    finally:
        machine.go_on.set()
        await files.close()


async def applied(files: GroupFiles, entries: list[CommittedEntry]) -> object:
    done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    files.start_apply(entries, done.set_result)
    return await asyncio.wait_for(done, 10)


async def test_a_small_apply_is_done_at_once_and_a_large_one_on_the_thread() -> None:
    machine = Machine()
    async with files_of(machine) as files:
        assert await applied(files, entry(1)) == 1
        assert await applied(files, entry(2, LARGE)) == 2
        assert await applied(files, entry(3)) == 3
        assert sum(files.apply_seconds.read().counts) == 3
    assert machine.done == [("loop", 1), ("thread", 2), ("loop", 3)]


async def test_a_small_apply_waits_for_what_the_thread_does_and_does_not_hold_up_the_loop() -> None:
    machine = Machine()
    async with files_of(machine) as files:
        machine.go_on.clear()
        files.start_checkpoint(lambda _: None)
        applying = asyncio.ensure_future(applied(files, entry(1)))
        for _ in range(5):
            await asyncio.sleep(0)
        assert machine.done == []
        machine.go_on.set()
        await applying
    assert machine.done == [("thread", 0), ("thread", 1)]


async def test_an_apply_that_may_sync_is_done_on_the_thread() -> None:
    machine = Machine()
    machine.may_sync = True
    async with files_of(machine) as files:
        await applied(files, entry(1))
    assert machine.done == [("thread", 1)]


async def test_a_long_wal_is_shortened_on_the_thread() -> None:
    machine = Machine()
    async with files_of(machine) as files:
        machine.has_long_wal = True
        await applied(files, entry(1))
        await applied(files, entry(2, LARGE))
    assert machine.done == [("loop", 1), ("thread", -1), ("thread", 2)]


@pytest.mark.parametrize("payload", [SMALL, LARGE])
async def test_an_apply_that_fails_is_told_to_who_watches_and_to_nobody_else(payload: bytes) -> None:
    machine = Machine()
    machine.failure = OSError("the disk is gone")
    told: list[object] = []
    async with files_of(machine) as files:
        files.start_apply(entry(1, payload), told.append)
        with pytest.raises(OSError, match="the disk is gone"):
            await asyncio.wait_for(files.watch(), 10)
    assert told == []
