"""Snapshots of one simulated server: made when one is needed, on their way, received and waiting to be installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parleyd.raft.events import SnapshotAvailable, SnapshotStatus
from parleyd.raft.membership import members_of
from parleyd.raft.messages import Message
from parleyd.raft.types import Index, NodeId, SnapshotMeta, Term
from parleyd.transport.codec import decode_membership

if TYPE_CHECKING:
    from tests.simulation.cluster.server import SimulatedServer

MAX_RECEIVED = 4
TIMEOUT_MS = 2_000

Tell = Callable[[bool], None]


@dataclass(frozen=True, slots=True)
class SnapshotBody:
    """A snapshot's content: the whole state machine as of `meta`."""

    meta: SnapshotMeta
    image: bytes


class Transfers:
    """What server/parleyd/group/snapshot_store.py keeps of snapshots; a new process knows of none."""

    def __init__(self, server: SimulatedServer) -> None:
        self._server = server
        self._made: SnapshotBody | None = None
        self._is_making = False
        self._received: dict[tuple[int, int], SnapshotBody] = {}
        self._waiting: list[tuple[Index, Tell]] = []

    @property
    def wait_to_be_installed(self) -> bool:
        """Whether another snapshot has been received."""
        return bool(self._received)

    # Sending

    def needed(self, nodes: Sequence[NodeId]) -> None:
        """Make a snapshot for `nodes`, unless one is being made."""
        if not self._is_making:
            self._is_making = True
            server = self._server
            world = server.world
            world.after(server.node, world.delay(50), lambda: server.act(lambda: self._offer(nodes)))

    def _offer(self, nodes: Sequence[NodeId]) -> None:
        """The last one made, if it still reaches to the log and has `nodes` in it; else a new one."""
        self._is_making = False
        server, made = self._server, self._made
        if server.work.is_installing:
            return
        first_index = server.raft.status().first_index
        if made is None or made.meta.index < first_index - 1 or not {*nodes} <= {*members_of(made.meta.conf_state)}:
            machine = server.machine
            meta = SnapshotMeta(
                Index(machine.applied_index), Term(machine.applied_term), decode_membership(machine.membership)
            )
            made = self._made = SnapshotBody(meta, server.disk.state_connection.serialize("main"))
            server.world.counters["snapshot-made"] += 1
        server.driver.step(SnapshotAvailable(made.meta))

    def send(self, message: Message) -> None:
        """Begin the transfer that `message` announces; the core hears how it ended, if the server lives."""
        server, made, life = self._server, self._made, self._server.life
        world = server.world

        def tell(ok: bool) -> None:
            if not ok:
                world.counters["snapshot-transfer-failed"] += 1
            if server.life == life:
                world.after(server.node, 1, lambda: server.step(SnapshotStatus(message.to, ok)))

        if made is None or message.snapshot is None or made.meta != message.snapshot:
            tell(False)
        else:
            world.send_snapshot(message, made, tell)

    # Receiving

    def keep(self, body: SnapshotBody, tell: Tell) -> bool:
        """All of a snapshot has come: keep it, and say when it counts; False if there is no room."""
        key = (int(body.meta.index), int(body.meta.term))
        if len(self._received) >= MAX_RECEIVED and key not in self._received:
            tell(False)
            return False
        self._received[key] = body
        self._waiting.append((body.meta.index, tell))
        self._server.world.after(self._server.node, TIMEOUT_MS, lambda: self._give_up(tell))
        return True

    def _give_up(self, tell: Tell) -> None:
        if any(known is tell for _, known in self._waiting):
            self._waiting = [(index, known) for index, known in self._waiting if known is not tell]
            tell(False)

    def take(self, meta: SnapshotMeta) -> SnapshotBody:
        """The received snapshot that is installed now."""
        return self._received.pop((meta.index, meta.term))

    def reached(self, applied_index: Index) -> None:
        """The state is as new as some of what was received, however it came there."""
        ended = [tell for index, tell in self._waiting if index <= applied_index]
        self._waiting = [(index, tell) for index, tell in self._waiting if index > applied_index]
        for tell in ended:
            tell(True)
        if ended:
            for key in [key for key in self._received if key[0] <= applied_index]:
                del self._received[key]

    def fail(self) -> None:
        """The process has ended, and its connections with it."""
        for _, tell in self._waiting:
            tell(False)
