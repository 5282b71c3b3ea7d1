"""The pool of readers gives every reader back, whoever is cancelled when."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from parleyd.group.readers import StateReaders
from parleyd.machine.errors import MachineDamagedError
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
