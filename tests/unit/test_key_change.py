"""A new key of a running node: every link has it before the cluster bars the old one.

What can go wrong: the old key is barred while links use it; all links are down at once; a key that the cluster refuses
cuts the node off; a member that is down holds the change up for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from parleyd import key_change
from parleyd.key_change import KeyChanges
from parleyd.machine.records import BarredNode, Members, RevokedCertificate
from parleyd.membership.members import ClusterMembers
from parleyd.raft.types import NodeId

TWO, THREE, FOUR = NodeId(2), NodeId(3), NodeId(4)
NEW, BARRED, REVOKED = b"n" * 32, b"b" * 32, b"r" * 32


class Network:
    """Links to three members, of which the last is down. It stands for the certificates, the registry and the links."""

    def __init__(self) -> None:
        self.key_digest = NEW
        self.up = {TWO, THREE}
        self.done: list[object] = []
        self.begun: asyncio.Queue[NodeId] = asyncio.Queue()
        self._changes: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def linked(self) -> tuple[NodeId, ...]:
        return (TWO, THREE, FOUR)

    def connected(self, node: NodeId) -> bool:
        return node in self.up

    def reconnect(self, node: NodeId) -> None:
        assert self.up >= {TWO, THREE}, "one link at a time"
        self.up.discard(node)
        self.done.append(node)
        self.begun.put_nowait(node)

    def next_change(self) -> asyncio.Future[None]:
        return self._changes

    def connect(self, node: NodeId) -> None:
        self.up.add(node)
        changed, self._changes = self._changes, asyncio.get_running_loop().create_future()
        changed.set_result(None)

    def publish(self, key_digest: bytes) -> None:
        self.done.append(key_digest)

    def changes(self, members: Members | None = None) -> KeyChanges:
        known = ClusterMembers.of(members or Members((), ()))
        me = cast(Any, self)
        return KeyChanges(me, me, me, lambda: known, self.publish)


async def test_links_are_opened_anew_one_after_the_other_and_then_the_key_is_published() -> None:
    network = Network()
    changing = asyncio.ensure_future(network.changes().take_over())
    for number, node in enumerate((TWO, THREE), start=1):
        assert await asyncio.wait_for(network.begun.get(), 5) == node
        assert network.done == [TWO, THREE][:number]
        network.connect(node)
    async with asyncio.timeout(5):
        await changing
    assert network.done == [TWO, THREE, NEW], "the one that is down has the new key when it comes back"


async def test_a_member_that_does_not_come_back_holds_the_change_up_for_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(key_change, "RECONNECT_S", 0.01)
    network = Network()
    network.up = {TWO, THREE}
    monkeypatch.setattr(network, "reconnect", network.done.append)
    monkeypatch.setattr(network, "connected", lambda node: node == TWO and not network.done)
    async with asyncio.timeout(5):
        await network.changes().take_over()
    assert network.done == [TWO, NEW]


async def test_what_the_cluster_refuses_is_refused_with_the_reason() -> None:
    members = Members((), (), (BarredNode("n2", BARRED), BarredNode("n4", b"")), (RevokedCertificate(REVOKED, "", 1),))
    changes = Network().changes(members)
    assert changes.why_not(frozenset({NEW, b"c" * 32})) == ""
    assert "had a newer one" in changes.why_not(frozenset({b"c" * 32, BARRED}))
    assert "revoked" in changes.why_not(frozenset({REVOKED, NEW}))
