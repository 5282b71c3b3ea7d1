"""Whatever is lost, late or repeated, and whoever restarts: once reports flow, every node soon has all clients."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from parley_proto.v1 import peer_pb2 as pb
from parleyd.presence.presence import Presence
from parleyd.raft.types import NodeId

NODES = [NodeId(number) for number in (1, 2, 3)]
MAX_LISTED = 6
ROUNDS_UNTIL_EQUAL = 4
"""A report, the question for a lost one, the answer, and one round for what was on its way before."""


class AllUp:
    """Every node is a member, and every link is up."""

    def is_member(self, node: NodeId) -> bool:
        return node in NODES

    def connected(self, _: NodeId) -> bool:
        return True


class World:
    """Three nodes, the reports on their way, and who is connected where."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.now_s = 0.0
        self.epochs = 0
        self.clients: dict[NodeId, list[tuple[int, bool]]] = {node: [] for node in NODES}  # and who is away
        self.nodes = {node: self.start(node) for node in NODES}
        self.on_their_way: list[tuple[NodeId, NodeId, pb.PresenceReport]] = []

    def start(self, node: NodeId) -> Presence:
        self.epochs += 1
        return Presence(node, self.epochs, AllUp(), MAX_LISTED)

    def step(self) -> None:
        self.now_s += self.rng.random()
        node = self.rng.choice(NODES)
        match self.rng.randrange(7):
            case 0 | 1 if len(self.clients[node]) < MAX_LISTED:
                account_id = self.rng.randrange(1, 9)
                self.clients[node].append((account_id, False))
                self.nodes[node].client_connected(account_id, self.now_s)
            case 2 if self.clients[node]:
                account_id, away = self.clients[node].pop(self.rng.randrange(len(self.clients[node])))
                self.nodes[node].client_gone(account_id, self.now_s, away=away)
            case 3 if self.rng.random() < 0.2:
                self.clients[node].clear()
                self.nodes[node] = self.start(node)
            case 4:
                self.send(node)
            case 5 if self.on_their_way:
                self.deliver(self.rng.randrange(len(self.on_their_way)))
            case 6 if self.clients[node]:
                place = self.rng.randrange(len(self.clients[node]))
                account_id, away = self.clients[node][place]
                self.clients[node][place] = (account_id, not away)
                self.nodes[node].client_away(account_id, away=not away)

    def send(self, node: NodeId) -> None:
        for to in NODES:
            report = self.nodes[node].next_report(to, self.now_s) if to != node else None
            if report is not None:
                self.on_their_way.append((node, to, report))

    def deliver(self, place: int) -> None:
        """Deliver one report in any order: maybe once more later, maybe never."""
        sender, to, report = self.on_their_way[place]
        fate = self.rng.random()
        if fate < 0.8:
            del self.on_their_way[place]
        if fate > 0.2:
            self.nodes[to].received(sender, report, self.now_s)

    def flow(self) -> None:
        """Every node reports to every other one, and nothing is lost."""
        self.now_s += 1.0
        for node in NODES:
            self.send(node)
        for sender, to, report in self.on_their_way:
            self.nodes[to].received(sender, report, self.now_s)
        self.on_their_way.clear()

    def check(self) -> None:
        devices = [device for clients in self.clients.values() for device in clients]
        there = {account_id for account_id, away in devices if not away}
        everybody = sorted({(account_id, account_id not in there) for account_id, _ in devices})
        for node in NODES:
            assert [(one.account_id, one.away) for one in self.nodes[node].page(0, 100, self.now_s)] == everybody
            assert {other: self.nodes[node].clients_of(other, self.now_s) for other in NODES} == {
                other: len(clients) for other, clients in self.clients.items()
            }


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 1 << 32), steps=st.integers(1, 150))
def test_all_nodes_agree_soon_after_reports_flow(seed: int, steps: int) -> None:
    world = World(Random(seed))
    for _ in range(steps):
        world.step()
    for _ in range(ROUNDS_UNTIL_EQUAL):
        world.flow()
    world.check()
    for node in NODES:
        assert not world.nodes[node].has_more, "nothing is sent for ever"
