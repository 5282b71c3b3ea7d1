"""The window's requests end with an answer, whatever the SDK raises."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

import pytest

from parley import ParleyError
from parley.gui import events
from parley.gui.client_worker import ClientWorker
from parley.gui.commands import ClusterAddress, SignInForm
from parley.gui.events import Action, Event
from parley.gui.port import Client

ADDRESS = ClusterAddress("localhost:7600", None, insecure=True, insecure_network=False)


class Broken(AbstractAsyncContextManager[Client]):
    async def __aenter__(self) -> Client:
        raise RuntimeError("a defect")

    async def __aexit__(self, *_: object) -> None:
        raise AssertionError


def connect(address: ClusterAddress, account: str | None) -> AbstractAsyncContextManager[Client]:
    return Broken()


async def wait_for_capacity() -> None:
    pass


async def test_a_defect_on_entry_is_told_and_leaves_nobody_waiting() -> None:
    told: list[Event] = []
    worker = ClientWorker(connect, ADDRESS, "ann", told.append, wait_for_capacity)
    running = asyncio.ensure_future(worker.run())
    async with asyncio.timeout(5):
        with pytest.raises(ParleyError, match="RuntimeError: a defect"):
            await worker.resume()
        assert not await worker.attempt(Action.SIGN_IN, worker.sign_in(SignInForm(ADDRESS, "ann", "password")))
        await running
    [refused] = told
    assert isinstance(refused, events.Refused)
    assert "a defect" in refused.text


async def test_a_request_that_fails_by_a_defect_is_told_with_what_was_typed() -> None:
    told: list[Event] = []
    worker = ClientWorker(connect, ADDRESS, "ann", told.append, wait_for_capacity)

    async def fail() -> None:
        raise ValueError("a defect")

    assert not await worker.attempt(Action.SEND, fail(), body="typed")
    [refused] = told
    assert isinstance(refused, events.Refused)
    assert refused.body == "typed"
