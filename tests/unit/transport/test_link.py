"""A link to a peer outlives its conversations, however strangely grpc lets one of them end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

import grpc
import pytest

from parley_proto.v1 import peer_pb2 as pb
from parleyd.raft.types import NodeId
from parleyd.transport import peer_calls, peers
from parleyd.transport.peer_calls import CallMetadata
from parleyd.transport.peers import LinkSetup, PeerEvents, PeerLink, SnapshotSource

DEADLINE_S = 5.0

Conversation = Callable[[PeerLink], Awaitable[None]]


class Channel:
    """Nothing but something to close."""

    async def close(self, grace: float | None = None) -> None:
        """Closed."""


class Events:
    """Notes which connections broke."""

    def __init__(self) -> None:
        self.lost: list[NodeId] = []
        self.called: list[str] = []

    def open(self, _: str, address: str) -> grpc.aio.Channel:
        """A connection is made."""
        self.called.append(address)
        return cast(grpc.aio.Channel, Channel())

    def peer_lost(self, node: NodeId) -> None:
        """A connection broke."""
        self.lost.append(node)


@pytest.fixture(autouse=True)
def _reconnect_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "RECONNECT_MS", (0, 0))


def make_link(events: Events, conversations: list[Conversation], monkeypatch: pytest.MonkeyPatch) -> PeerLink:
    """A link whose conversations are these, one after the other."""
    setup = LinkSetup(
        CallMetadata("cluster", NodeId(1), pb.HandshakeInfo()),
        events.open,
        cast(PeerEvents, events),
        cast(SnapshotSource, None),
        lambda: None,
    )
    link = PeerLink(NodeId(2), "n2", ["127.0.0.1:1", "127.0.0.1:2"], setup)

    async def converse(_: object) -> None:
        await conversations.pop(0)(link)

    monkeypatch.setattr(link, "_converse", converse)
    return link


async def in_a_group(error: BaseException) -> None:
    """Raise the way a conversation does: from a task inside a task inside it."""

    async def fail() -> None:
        raise error

    async with asyncio.TaskGroup() as outer:

        async def inner() -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(fail())

        outer.create_task(inner())


async def bare_cancelled(_: PeerLink) -> None:
    """What grpc does when a call was cancelled under a write."""
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    "end",
    [
        lambda _: in_a_group(asyncio.InvalidStateError("RPC already finished.")),
        lambda _: in_a_group(ConnectionError("the peer ended the stream")),
        lambda _: in_a_group(TimeoutError()),
        bare_cancelled,
    ],
    ids=["write to a dead call", "ended", "timeout", "cancelled by grpc itself"],
)
async def test_a_conversation_that_breaks_is_followed_by_the_next(
    end: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, again = Events(), asyncio.Event()

    async def break_off(link: PeerLink) -> None:
        link.connected = True
        await end(link)

    async def go_on(_: PeerLink) -> None:
        again.set()
        await asyncio.Event().wait()

    link = make_link(events, [break_off, break_off, go_on], monkeypatch)
    running = asyncio.create_task(link.run())
    async with asyncio.timeout(DEADLINE_S):
        await again.wait()
    assert events.lost == [2, 2]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_the_addresses_of_a_peer_are_tried_in_turn_and_the_one_that_worked_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events, again = Events(), asyncio.Event()

    async def nobody(_: PeerLink) -> None:
        raise ConnectionError("nobody is there")

    async def break_off(link: PeerLink) -> None:
        link.connected = True
        raise ConnectionError("broke")

    async def go_on(_: PeerLink) -> None:
        again.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(make_link(events, [nobody, nobody, nobody, break_off, go_on], monkeypatch).run())
    async with asyncio.timeout(DEADLINE_S):
        await again.wait()
    assert [address[-1] for address in events.called] == ["1", "2", "1", "2", "2"]
    running.cancel()


async def test_cancelling_a_link_ends_its_conversation_first(monkeypatch: pytest.MonkeyPatch) -> None:
    talking, ended = asyncio.Event(), asyncio.Event()

    async def talk(_: PeerLink) -> None:
        talking.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    running = asyncio.create_task(make_link(Events(), [talk], monkeypatch).run())
    async with asyncio.timeout(DEADLINE_S):
        await talking.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert ended.is_set()


async def test_an_error_that_is_no_broken_connection_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    link = make_link(Events(), [lambda _: in_a_group(ZeroDivisionError("a bug"))], monkeypatch)
    with pytest.raises(ExceptionGroup):
        async with asyncio.timeout(DEADLINE_S):
            await link.run()


@pytest.mark.parametrize("end", ["returns", "cancelled"])
async def test_a_part_that_ends_by_itself_ends_the_conversation(end: str) -> None:
    async def part() -> None:
        if end == "cancelled":
            raise asyncio.CancelledError

    with pytest.raises(ConnectionError):
        await peer_calls.run_to_its_end(part())


async def test_a_part_that_is_cancelled_by_us_is_cancelled() -> None:
    started = asyncio.Event()

    async def part() -> None:
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(peer_calls.run_to_its_end(part()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
