"""The shell: its rhythm, its cancellation, and what is logged."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from parley_proto.v1 import peer_pb2 as pb
from parleyd.presence import clients as shell
from parleyd.presence.clients import ConnectedClients
from parleyd.presence.presence import Presence
from parleyd.presence.typists import Typing
from parleyd.raft.types import NodeId

N1, N2 = NodeId(1), NodeId(2)
NEVER_S = 3600.0
TURNS = 20


class AllUp:
    """Every node is a member, and every link is up."""

    def is_member(self, _: NodeId) -> bool:
        return True

    def connected(self, _: NodeId) -> bool:
        return True


class Node:
    """The clients of one node; counts how often reports are sent."""

    def __init__(self) -> None:
        self.sent = 0
        self.now_s = 50.0
        self.presence = Presence(N1, 1, AllUp())
        self.told: list[tuple[int, int, int]] = []
        self.clients = ConnectedClients(
            self.presence, self.send, lambda *typing: self.told.append(typing), lambda: self.now_s
        )

    def send(self) -> None:
        self.sent += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.ensure_future(self.clients.run())
        await turns()
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert task.cancelled()


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def test_an_idle_node_sends_nothing_between_two_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "BEAT_S", NEVER_S)
    monkeypatch.setattr(shell, "INTERVAL_S", 0.0)
    node = Node()
    async with node.running():
        assert node.sent == 1
        await turns()
        assert node.sent == 1


async def test_a_beat_is_a_sign_of_life_without_any_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "BEAT_S", 0.0)
    monkeypatch.setattr(shell, "INTERVAL_S", 0.0)
    node = Node()
    async with node.running():
        assert node.sent > 2


async def test_a_change_is_sent_at_once_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "BEAT_S", NEVER_S)
    monkeypatch.setattr(shell, "INTERVAL_S", 0.0)
    node = Node()
    async with node.running():
        node.clients.client_connected(7)
        await turns()
        assert node.sent == 2
        node.clients.link_began(N2)
        await turns()
        assert node.sent == 3


async def test_changes_of_a_busy_node_share_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "INTERVAL_S", NEVER_S)
    node = Node()
    async with node.running():
        for account_id in range(1, 100):
            node.clients.client_connected(account_id)
            await asyncio.sleep(0)
        assert node.sent == 1


async def test_a_report_that_could_not_take_all_makes_another_one_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "BEAT_S", NEVER_S)
    monkeypatch.setattr(shell, "INTERVAL_S", 0.0)
    node = Node()
    for account_id in range(1, 5001):
        node.presence.client_connected(account_id, 0.0)
    async with node.running():
        assert node.clients.next_report(N2) is not None
        await turns()
        assert node.sent == 2
        assert node.clients.next_report(N2) is not None
        await turns()
        assert node.sent == 2, "the second one had the rest"


async def test_who_is_away_is_reported_at_once_and_not_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "BEAT_S", NEVER_S)
    monkeypatch.setattr(shell, "INTERVAL_S", 0.0)
    node = Node()
    async with node.running():
        node.clients.client_connected(7)
        await turns()
        with capture_logs() as logs:
            node.clients.client_away(7, away=True)
        await turns()
        assert (node.sent, logs) == (3, [])


def test_clients_that_come_and_go_are_logged_with_their_count_and_nothing_secret() -> None:
    node = Node()
    with capture_logs() as logs:
        node.clients.client_connected(7)
        node.clients.client_connected(8)
        node.clients.client_gone(7)
    assert logs == [
        {"event": "client_connected", "account_id": 7, "clients": 1, "log_level": "info"},
        {"event": "client_connected", "account_id": 8, "clients": 2, "log_level": "info"},
        {"event": "client_gone", "account_id": 7, "clients": 1, "log_level": "info"},
    ]


def test_when_somebody_came_is_counted_by_the_clock_that_never_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node()
    node.clients.client_connected(7)
    node.now_s += 61.0
    monkeypatch.setattr("time.time_ns", lambda: 1_000_000_000_000_000)
    [seen] = node.clients.page(0, 10)
    assert node.clients.unix_ms(seen.since_s) == 1_000_000_000 - 61_000


def test_who_types_here_is_told_here_and_to_the_others_at_once() -> None:
    node = Node()
    node.presence.next_report(N2, node.now_s)
    node.clients.client_types(Typing(5, 7, to=8))
    assert node.told == [(5, 7, 8)]
    report = node.clients.next_report(N2)
    assert report is not None
    assert [(one.conversation_id, one.account_id, one.to) for one in report.typists] == [(5, 7, 8)]
    node.clients.received(
        N2, pb.PresenceReport(epoch=2, sequence=1, typists=[pb.TypingReport(conversation_id=5, account_id=8)])
    )
    assert node.told[1:] == [(5, 8, 0)]


def test_of_who_types_only_members_are_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node()
    report = pb.PresenceReport(epoch=2, sequence=1, typists=[pb.TypingReport(conversation_id=5, account_id=8)])
    monkeypatch.setattr(AllUp, "is_member", lambda *_: False)
    node.clients.received(N2, report)
    assert node.told == []
    monkeypatch.undo()
    node.clients.received(N2, report)
    assert node.told == [(5, 8, 0)]
