"""Reads of one simulated server: gathered, asked about at the leader, waiting for the state to come that far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from parleyd.raft.types import Index
from parleyd.raft.update import ReadReady

if TYPE_CHECKING:
    from tests.simulation.cluster.server import SimulatedServer


class SimulatedReadBarriers:
    """One question for a read index serves all reads that have gathered (Replica.read_barrier)."""

    def __init__(self, server: SimulatedServer) -> None:
        self._server = server
        self._number = 0
        self._gathered: list[Callable[[Index], None]] = []
        self._asked: dict[bytes, list[Callable[[Index], None]]] = {}
        self._asked_at: dict[bytes, int] = {}
        self._waiting: list[tuple[Index, Callable[[], None]]] = []

    def add(self, then: Callable[[], None]) -> None:
        """Call `then` when the state here holds all that was acknowledged before; never, if it cannot be told."""

        def known(index: Index) -> None:
            if index <= self._server.machine.applied_index:
                then()
            else:
                self._waiting.append((index, then))

        self._gathered.append(known)

    def next_question(self) -> bytes | None:
        """The context of a question for all that has gathered; None if nothing has."""
        if not self._gathered:
            return None
        server = self._server
        self._number += 1
        context = b"%d/%d/%d" % (server.node, server.life, self._number)
        self._asked[context], self._gathered = self._gathered, []
        self._asked_at[context] = server.world.now
        server.world.checker.asked_to_read(context)
        return context

    def answered(self, reads: Sequence[ReadReady], dropped: Sequence[bytes]) -> None:
        """Some questions have an answer, others are to be asked again by who still wants to know."""
        world = self._server.world
        for ready in reads:
            world.checker.read_is_ready(int(self._server.node), ready)
            del self._asked_at[ready.context]
            for known in self._asked.pop(ready.context):
                known(ready.index)
        for context in dropped:
            world.checker.reads.pop(context)
            del self._asked[context], self._asked_at[context]
            world.counters["read-dropped"] += 1

    def reached(self, applied_index: Index) -> None:
        """The state has come as far as some reads need."""
        ready = [then for index, then in self._waiting if index <= applied_index]
        self._waiting = [(index, then) for index, then in self._waiting if index > applied_index]
        for then in ready:
            then()

    def oldest_ms(self) -> int:
        """How long the oldest question has been without an answer."""
        now = self._server.world.now
        return now - min(self._asked_at.values(), default=now)
