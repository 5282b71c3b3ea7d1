"""The pool of readers gives every reader back, whoever is cancelled when, and gives all owners their turns."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from parleyd.group import readers as readers_module
from parleyd.group.errors import TooManyReadsError
from parleyd.group.readers import StateReaders, read_for
from parleyd.machine.errors import MachineDamagedError, MachineStorageError
from parleyd.machine.machine import StateMachine
from parleyd.machine.reader import StateReader
from parleyd.owners import Owner


@pytest.fixture
def state_db(tmp_path: Path) -> Path:
    path = tmp_path / "state.sqlite"
    StateMachine.create(path, [], b"").close()
    return path


async def test_a_pause_that_is_cancelled_half_way_gives_back_what_it_took(state_db: Path) -> None:
    readers = StateReaders(state_db, count=2)
    release = threading.Event()

    def slow(reader: StateReader) -> int:
        release.wait(5)
        return reader.applied_index()

    querying = asyncio.ensure_future(readers.run(slow))
    await asyncio.sleep(0)

    async def pause() -> None:
        async with readers.paused():
            raise AssertionError

    pausing = asyncio.ensure_future(pause())
    await asyncio.sleep(0)
    pausing.cancel()
    await asyncio.gather(pausing, return_exceptions=True)
    release.set()
    assert await querying == 0
    async with asyncio.timeout(5):
        await readers.close()


async def test_a_cancelled_query_frees_its_reader_when_its_thread_is_done(state_db: Path) -> None:
    readers = StateReaders(state_db, count=1)
    release = threading.Event()
    querying = asyncio.ensure_future(readers.run(lambda _: release.wait(5)))
    await asyncio.sleep(0)
    querying.cancel()
    await asyncio.gather(querying, return_exceptions=True)
    waiting = asyncio.ensure_future(readers.run(lambda reader: reader.applied_index()))
    await asyncio.sleep(0)
    assert not waiting.done(), "the only reader is still in use by a thread"
    release.set()
    async with asyncio.timeout(5):
        assert await waiting == 0
        await readers.close()


async def test_damage_that_a_query_meets_is_reported_to_the_node(state_db: Path) -> None:
    """A caller's call fails with it, and the node must stop: the next caller would get wrong answers or none."""
    readers = StateReaders(state_db, count=1)
    watching = asyncio.ensure_future(readers.watch_damage())

    def meet_damage(_: StateReader) -> None:
        raise MachineDamagedError("a page does not match its checksum")

    with pytest.raises(MachineDamagedError):
        await readers.run(meet_damage)
    async with asyncio.timeout(5):
        with pytest.raises(MachineDamagedError, match="does not match"):
            await watching
    await readers.close()


async def test_a_query_that_fails_otherwise_does_not_stop_the_node(state_db: Path) -> None:
    readers = StateReaders(state_db, count=1)
    watching = asyncio.ensure_future(readers.watch_damage())

    def fail(_: StateReader) -> None:
        raise ValueError("a bad cursor")

    with pytest.raises(ValueError, match="bad cursor"):
        await readers.run(fail)
    assert await readers.run(StateReader.applied_index) == 0
    assert not watching.done()
    watching.cancel()
    await readers.close()


async def test_closing_interrupts_a_query_that_runs_for_long(state_db: Path) -> None:
    readers = StateReaders(state_db, count=2)
    started = threading.Event()

    def endless(reader: StateReader) -> None:
        started.set()
        reader.rows("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")

    querying = asyncio.ensure_future(readers.run(endless))
    await asyncio.to_thread(started.wait, 5)
    async with asyncio.timeout(5):
        await readers.close()
    with pytest.raises(MachineStorageError, match="interrupt"):
        await querying


async def test_closing_ends_although_the_file_could_not_be_opened_again(state_db: Path) -> None:
    readers = StateReaders(state_db, count=2)
    with pytest.raises(MachineDamagedError):
        async with readers.paused():
            os.unlink(state_db)
    async with asyncio.timeout(5):
        await readers.close()


async def test_closing_leaves_a_query_that_cannot_be_interrupted(
    state_db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers_module, "CLOSE_WITHIN_S", 0.01)
    readers = StateReaders(state_db, count=1)
    release = threading.Event()
    querying = asyncio.ensure_future(readers.run(lambda _: release.wait(5)))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await readers.close()
    release.set()
    await querying


# ---- fairness


def account(name: str, address: str = "here") -> Owner:
    return "near", address, name


class Reads:
    """Queries of many owners, which each take a reader until the test ends them."""

    def __init__(self, readers: StateReaders) -> None:
        self._readers = readers
        self._held: dict[str, threading.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.started: list[str] = []
        self._changed = asyncio.Event()

    async def ask(self, name: str, owner: Owner, *, has_session: bool = True) -> asyncio.Task[None]:
        """Ask for a reader. Returns once the pool has heard of it."""
        loop = asyncio.get_running_loop()
        held = self._held[name] = threading.Event()

        def query(_: StateReader) -> None:
            loop.call_soon_threadsafe(self._note, name)
            held.wait(5)

        async def run() -> None:
            read_for(owner, has_session=has_session)
            await self._readers.run(query)

        task = self._tasks[name] = asyncio.ensure_future(run())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return task

    async def end(self, name: str) -> None:
        """End a query that has begun."""
        await self.until(lambda: name in self.started)
        self._held[name].set()
        await self._tasks[name]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def _note(self, name: str) -> None:
        self.started.append(name)
        self._changed.set()

    async def close(self) -> None:
        for held in self._held.values():
            held.set()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


@asynccontextmanager
async def reading(path: Path, count: int = 2) -> AsyncIterator[Reads]:
    readers = StateReaders(path, count)
    reads = Reads(readers)
    try:
        yield reads
    finally:
        await reads.close()
        await readers.close()


async def test_an_account_with_many_reads_has_one_reader_and_the_others_get_their_turns(state_db: Path) -> None:
    async with reading(state_db) as reads:
        for number in range(60):
            await reads.ask(f"crowd{number}", account("crowd"))
        await reads.ask("ann", account("ann"))
        await reads.ask("ben", account("ben"))
        await reads.until(lambda: len(reads.started) == 2)
        assert reads.started == ["crowd0", "ann"], "the second reader is left for others"
        await reads.end("crowd0")
        await reads.until(lambda: len(reads.started) == 3)
        assert reads.started[2] == "ben", "he has had no turn yet, the crowd has"
        await reads.end("ann")
        await reads.until(lambda: len(reads.started) == 4)
        assert reads.started[3] == "crowd1"


async def test_reads_of_sessions_hold_up_neither_the_node_nor_callers_without_a_session(state_db: Path) -> None:
    async with reading(state_db) as reads:
        for name in ("ann", "ben", "cid", "dan"):
            await reads.ask(name, account(name))
        await reads.until(lambda: len(reads.started) == 2)
        async with asyncio.timeout(5):
            assert await reads._readers.run(StateReader.applied_index) == 0
        await reads.ask("log-in", ("near", "here", "here"), has_session=False)
        await reads.end("log-in")


async def test_callers_without_a_session_hold_up_the_node_for_one_read_of_each_address(state_db: Path) -> None:
    async with reading(state_db) as reads:
        for number in range(20):
            await reads.ask(f"crowd{number}", ("far", "there", "there"), has_session=False)
        await reads.until(lambda: len(reads.started) == 1)
        own = asyncio.ensure_future(reads._readers.run(StateReader.applied_index))
        await asyncio.sleep(0)
        await reads.end("crowd0")
        async with asyncio.timeout(5):
            assert await own == 0
        assert reads.started in (["crowd0"], ["crowd0", "crowd1"])


async def test_an_owner_has_a_bounded_number_of_waiting_reads_and_others_have_room(
    state_db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers_module, "WAITING_OF_ACCOUNT", 3)
    async with reading(state_db) as reads:
        for number in range(4):
            await reads.ask(f"crowd{number}", account("crowd"))
        refused = await reads.ask("one more", account("crowd", "there"))
        with pytest.raises(TooManyReadsError, match="same account or address"):
            await refused
        await reads.ask("ann", account("ann"))
        await reads.end("ann")
        await reads.end("crowd0")
        allowed = await reads.ask("again", account("crowd"))
        assert not allowed.done()


async def test_a_read_that_gets_no_turn_ends_and_leaves_the_queue(
    state_db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers_module, "WAIT_S", 0.05)
    async with reading(state_db) as reads:
        await reads.ask("first", account("ann"))
        await reads.until(lambda: len(reads.started) == 1)
        waiting = await reads.ask("second", account("ann"))
        with pytest.raises(TooManyReadsError, match="no turn"):
            await waiting
        await reads.end("first")
        await reads.ask("third", account("ann"))
        await reads.end("third")
        assert reads.started == ["first", "third"]


async def test_a_cancelled_read_leaves_the_queue(state_db: Path) -> None:
    async with reading(state_db, count=1) as reads:
        await reads.ask("first", account("ann"))
        waiting = await reads.ask("second", account("ben"))
        await reads.ask("third", account("cid"))
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await reads.end("first")
        await reads.end("third")
        assert reads.started == ["first", "third"]


async def test_reads_that_wait_during_a_pause_run_after_it(state_db: Path) -> None:
    async with reading(state_db) as reads:
        async with reads._readers.paused():
            await reads.ask("ann", account("ann"))
            await asyncio.sleep(0)
            assert reads.started == []
        await reads.end("ann")
