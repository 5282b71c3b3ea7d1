"""Snapshots of one simulated server: made when one is needed, on their way, received and waiting to be installed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parleyd.group.inputs import SnapshotFailed, SnapshotMade, SnapshotSent
from parleyd.group.snapshot_plan import ReceivedSnapshots
from parleyd.raft.messages import Message
from parleyd.raft.types import Index, SnapshotMeta, Term
from parleyd.transport.codec import decode_membership

if TYPE_CHECKING:
    from tests.simulation.cluster.server import SimulatedServer

TIMEOUT_MS = 2_000

Tell = Callable[[bool], None]


@dataclass(frozen=True, slots=True)
class SnapshotBody:
    """A snapshot's content: the whole state machine as of `meta`."""

    meta: SnapshotMeta
    image: bytes


class Transfers:
    """The files that parleyd.group.snapshot_store keeps; a new process has none."""

    def __init__(self, server: SimulatedServer) -> None:
        self._server = server
        self._made: SnapshotBody | None = None
        self._received: ReceivedSnapshots[SnapshotBody] = ReceivedSnapshots()
        self._waiting: dict[int, Tell] = {}

    @property
    def wait_to_be_installed(self) -> bool:
        """Whether another snapshot has been received."""
        return bool(len(self._received))

    # Sending

    def make(self) -> None:
        """Copy the state after a while."""
        server = self._server
        server.world.after(server.node, server.world.delay(50), self._copy_state)

    def _copy_state(self) -> None:
        server, machine = self._server, self._server.machine
        if server.disk.is_full:
            server.world.counters["snapshot-failed"] += 1
            server.act(SnapshotFailed())
            return
        meta = SnapshotMeta(
            Index(machine.applied_index), Term(machine.applied_term), decode_membership(machine.membership)
        )
        self._made = SnapshotBody(meta, server.disk.state_connection.serialize("main"))
        server.world.counters["snapshot-made"] += 1
        server.act(SnapshotMade(meta))

    def send(self, message: Message) -> None:
        """Begin the transfer that `message` announces; the core hears how it ended, if the server lives."""
        server, made, life = self._server, self._made, self._server.life
        world = server.world

        def tell(ok: bool) -> None:
            if not ok:
                world.counters["snapshot-transfer-failed"] += 1
            if server.life == life:
                world.after(server.node, 1, lambda: server.act(SnapshotSent(message.to, ok)))

        if made is None or message.snapshot is None or made.meta != message.snapshot:
            tell(False)
        else:
            world.send_snapshot(message, made, tell)

    # Receiving

    def keep(self, body: SnapshotBody, tell: Tell) -> bool:
        """All of a snapshot has come: keep it, and say when it counts; False if there is no room."""
        if self._received.is_full:
            tell(False)
            return False
        server, index = self._server, body.meta.index
        self._received.keep(body.meta, body)

        def counts() -> None:
            del self._waiting[token]
            tell(True)
            self.discard(server.group.applied_index)

        def give_up() -> None:
            if self._waiting.pop(token, None) is not None:
                server.withdraw(token)
                tell(False)

        token = server.wait_applied(index, lambda: server.world.after(server.node, 0, counts))
        if not server.is_up:
            tell(False)
            return False
        self._waiting[token] = tell
        server.world.after(server.node, TIMEOUT_MS, give_up)
        return True

    def take(self, meta: SnapshotMeta) -> SnapshotBody:
        """The received snapshot that is installed now."""
        return self._received.take(meta)

    def discard(self, applied_index: Index) -> None:
        """Remove what the state has reached without it."""
        self._received.discard(applied_index)

    def fail(self) -> None:
        """The process has ended, and its connections with it."""
        for tell in self._waiting.values():
            tell(False)
