"""Cancelling at every single await: what was begun is there whole or not at all, and the client goes on."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from parley import ConnectionState, ParleyClient
from parley.net.message_stream import MessageStream
from tests.support.node import running_cluster
from tests.unit.client.helpers import PASSWORD, make_client, signed_in, until

MOST_AWAITS = 60


class CancelAt:
    """Drives a coroutine and cancels its task exactly when it suspends for the n-th time, counted from 0."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], at: int) -> None:
        self._coroutine = coroutine
        self._at = at
        self.reached = False

    def __await__(self) -> Generator[Any, Any, Any]:
        suspended = 0
        error: BaseException | None = None
        while True:
            try:
                waiting = self._coroutine.send(None) if error is None else self._coroutine.throw(error)
            except StopIteration as stop:
                return stop.value
            if suspended == self._at:
                self.reached = True
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            suspended += 1
            try:
                yield waiting
                error = None
            except BaseException as raised:
                error = raised


async def at_every_await(
    make: Callable[[int], Awaitable[tuple[Coroutine[Any, Any, Any], Callable[[bool], Any]]]],
) -> int:
    """Runs make(n)'s coroutine cancelled at its n-th await, for all n; then calls its check(completed)."""
    for at in range(MOST_AWAITS):
        coroutine, check = await make(at)
        cancelling = CancelAt(coroutine, at)

        async def run(driven: CancelAt = cancelling) -> None:
            await driven

        task = asyncio.ensure_future(run())
        await asyncio.wait([task])
        completed = not task.cancelled()
        if completed:
            task.result()
        await check(completed)
        if not cancelling.reached:
            return at
    raise AssertionError("it never ended")


async def test_send_cancelled_anywhere_sends_once_or_not_at_all(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path) as anna:
            completed: list[str] = []

            async def make(at: int) -> tuple[Coroutine[Any, Any, Any], Callable[[bool], Any]]:
                body = f"cancelled at {at}"

                async def check(done: bool) -> None:
                    if done:
                        completed.append(body)

                return anna.send("bob", body), check

            assert await at_every_await(make) >= 1
            await (await anna.send("bob", "last")).accepted(5)
            bodies = cluster.bodies_for("bob")
            assert len(bodies) == len(set(bodies))
            assert {*completed, "last"} <= set(bodies)
            assert [m.send_number for m in cluster.messages] == list(range(1, len(bodies) + 1))


async def test_waiting_for_acceptance_can_be_cancelled_without_cancelling_the_message(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path) as anna:
            message = await anna.send("bob", "hello")
            waiting = asyncio.ensure_future(message.accepted())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            await message.accepted(5)
            assert cluster.bodies_for("bob") == ["hello"]


async def test_reading_cancelled_anywhere_loses_and_repeats_nothing(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        bob, anna = cluster.add_account("bob", PASSWORD), cluster.add_account("anna", PASSWORD)
        async with signed_in(cluster, tmp_path, "bob") as client:
            reader = await client.messages()
            seen: list[str] = []

            async def read() -> None:
                seen.append((await anext(reader)).body)

            async def make(at: int) -> tuple[Coroutine[Any, Any, Any], Callable[[bool], Any]]:
                cluster.store(anna, bob, f"m{at}")

                async def check(done: bool) -> None:
                    return None

                return read(), check

            turns = await at_every_await(make) + 1
            while len(seen) < turns:
                await asyncio.wait_for(read(), 5)
            assert seen == [f"m{i}" for i in range(turns)]


@pytest.mark.parametrize("again", [False, True], ids=["first login", "another login"])
async def test_login_cancelled_anywhere_leaves_a_client_that_can_log_in(tmp_path: Path, again: bool) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        cluster.add_account("anna", PASSWORD)
        clients: list[ParleyClient] = []

        async def make(at: int) -> tuple[Coroutine[Any, Any, Any], Callable[[bool], Any]]:
            client = make_client(cluster, tmp_path / str(at))
            await client.__aenter__()
            clients.append(client)
            if again:
                await client.login("bob", PASSWORD)

            async def check(done: bool) -> None:
                if again and not done:
                    assert client.signed_in_as in ("anna", "bob")
                await client.login("anna", PASSWORD)
                await client.wait_until(ConnectionState.CONNECTED, timeout=5)
                await (await client.send("bob", f"m{at}")).accepted(5)
                await client.__aexit__(None, None, None)

            return client.login("anna", PASSWORD), check

        turns = await at_every_await(make) + 1
        assert turns > 5
        assert cluster.bodies_for("bob") == [f"m{i}" for i in range(turns)]


async def test_entering_cancelled_anywhere_holds_no_lock(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path):
            pass
        left: list[ParleyClient] = []

        async def make(at: int) -> tuple[Coroutine[Any, Any, Any], Callable[[bool], Any]]:
            client = make_client(cluster, tmp_path, "anna")

            async def check(done: bool) -> None:
                if done:
                    await client.__aexit__(None, None, None)
                left.append(client)
                async with make_client(cluster, tmp_path, "anna") as following:
                    await following.wait_until(ConnectionState.CONNECTED, timeout=5)

            return client.__aenter__(), check

        assert await at_every_await(make) >= 3


async def test_leaving_in_the_middle_of_sending_loses_nothing(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        cluster.nodes[0].faults.lose_results = True
        async with signed_in(cluster, tmp_path) as anna:
            await anna.send_many([("bob", f"m{i}") for i in range(300)])
            await until(lambda: len(cluster.messages) > 0, "some were applied")
        cluster.nodes[0].faults.lose_results = False
        async with make_client(cluster, tmp_path, "anna") as anna:
            await asyncio.gather(*(message.accepted(5) for message in await anna.waiting()))
            assert await anna.waiting() == ()
        assert cluster.bodies_for("bob") == [f"m{i}" for i in range(300)]
        assert cluster.resent_differently == []


async def test_an_error_of_the_caller_leaves_the_client_as_it_is(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        with pytest.raises(ZeroDivisionError):
            async with signed_in(cluster, tmp_path):
                raise ZeroDivisionError


async def test_a_stream_that_fails_while_it_is_cancelled_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task group with a failed task raises the failure and drops a cancellation that comes with it."""
    real_read, real_run = MessageStream._read, MessageStream.run
    ended: list[type[BaseException]] = []

    async def read(self: MessageStream, call: object) -> NoReturn:
        try:
            await real_read(self, call)
        except asyncio.CancelledError:
            raise asyncio.InvalidStateError("the call is gone") from None

    async def run(self: MessageStream, welcome_timeout_s: float, starts: asyncio.Semaphore) -> NoReturn:
        try:
            await real_run(self, welcome_timeout_s, starts)
        except BaseException as error:
            ended.append(type(error))
            raise

    monkeypatch.setattr(MessageStream, "_read", read)
    monkeypatch.setattr(MessageStream, "run", run)
    async with asyncio.timeout(20), running_cluster() as cluster:
        async with signed_in(cluster, tmp_path) as anna:
            await (await anna.send("anna", "the stream is read")).accepted(10)
        assert ended == [asyncio.CancelledError]
