"""The pool of readers gives every reader back, whoever is cancelled when."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from parleyd.group import readers as readers_module
from parleyd.group.readers import StateReaders
from parleyd.machine.errors import MachineDamagedError, MachineStorageError
from parleyd.machine.machine import StateMachine
from parleyd.machine.reader import StateReader


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
