"""What one simulated server does on its disk, which takes a while: writing, applying, compacting, installing.

Each ends with telling the group, unless the server dies first; then the disk has all of it or nothing, and nobody was
told. Between the two halves of an installation the server may die too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import apsw

from parleyd.group.inputs import Checkpointed, EntriesApplied, Input, LogCompacted, SnapshotInstalled, Written
from parleyd.machine.errors import MachineStorageError
from parleyd.machine.features.conversations import ConversationCreated
from parleyd.machine.features.messages import MessageStored
from parleyd.machine.machine import ApplyOutcome
from parleyd.membership.entries import members_in, to_committed
from parleyd.raft.types import ConfState, Entry, EntryType, Index, SnapshotMeta
from parleyd.raft.update import Persist
from parleyd.storage.errors import StorageError
from parleyd.transport.codec import decode_membership
from tests.simulation.cluster.checker import require

if TYPE_CHECKING:
    from tests.simulation.cluster.server import SimulatedServer


class Crashed(Exception):  # noqa: N818 (not an error: the end of one life)
    """The server has died in the middle of carrying something out."""


class Work:
    """What is under way; a new process has nothing under way."""

    def __init__(self, server: SimulatedServer) -> None:
        self._server = server
        self._writing: Sequence[Persist] | None = None
        self._applying: tuple[Sequence[Entry], ConfState | None] | None = None
        self._installing: tuple[SnapshotMeta, Persist] | None = None
        self._state_is_replaced = False
        self._compacting: SnapshotMeta | None = None

    def _later(self, delay_ms: int, action: Callable[[], None]) -> None:
        server = self._server
        server.world.after(server.node, delay_ms, lambda: server.attempt(action))

    def end(self) -> None:
        """The process has ended: what was under way is done, or it is not."""
        server, counters, rng = self._server, self._server.world.counters, self._server.world.rng
        if self._writing is not None:
            kept = rng.random() < 0.5 and _succeeds(partial(server.log.append, self._writing))
            counters["write-kept-untold" if kept else "write-lost"] += 1
        if self._applying is not None and rng.random() < 0.5 and _succeeds(partial(self._do_apply, *self._applying)):
            counters["apply-kept-untold"] += 1
        server.disk.roll_back()
        counters["died-between-state-and-log"] += self._state_is_replaced

    # Writing the log

    def write(self, writes: Sequence[Persist]) -> None:
        """Make `writes` durable, in one go."""
        server = self._server
        self._note_truncation(writes)
        self._writing = writes
        world = server.world
        delay = max(world.delay(world.plan.max_write_ms), server.disk.stalled_until - world.now)
        self._later(delay, self._written)

    def _written(self) -> None:
        server, writes = self._server, self._writing
        assert writes is not None
        self._writing = None
        self._append(writes)
        done: list[Input] = [Written()]
        if self._compacting is not None:
            done.append(self._compact(self._compacting))
        server.act(*done)

    def _append(self, writes: Sequence[Persist]) -> None:
        server = self._server
        server.disk.write(lambda: server.log.append(writes), server.disk.log_connection, server.world.rng)
        for write in writes:
            for message in write.done.messages:
                server.world.checker.left(message, server.disk)

    def _note_truncation(self, writes: Sequence[Persist]) -> None:
        """Count log tails that are replaced, and those with a membership entry in them."""
        server = self._server
        last = server.log.last_index
        for write in writes:
            if not write.entries:
                continue
            first = write.entries[0].index
            if first <= last:
                server.world.counters["log-tail-replaced"] += 1
                query = "SELECT count(*) FROM entries WHERE idx >= ? AND type <> ?"
                if server.disk.log_connection.execute(query, (first, int(EntryType.NORMAL))).get:
                    server.world.counters["membership-entry-truncated"] += 1
            last = write.entries[-1].index

    # Applying, and compacting the log behind it

    def apply(self, entries: Sequence[Entry], conf_state: ConfState | None) -> None:
        """Apply committed entries in one transaction of the state machine."""
        self._applying = (entries, conf_state)
        world = self._server.world
        self._later(world.delay(world.plan.max_apply_ms), self._applied)

    def _applied(self) -> None:
        assert self._applying is not None
        (entries, conf_state), self._applying = self._applying, None
        server, world = self._server, self._server.world
        outcomes: list[ApplyOutcome] = []
        server.disk.write(
            lambda: outcomes.append(self._do_apply(entries, conf_state)), server.disk.state_connection, world.rng
        )
        [outcome] = outcomes
        server.disk.sample_image(outcome.applied_index, world.rng)
        server.act(EntriesApplied(outcome.results, outcome.level, members_in(outcome.effects)))

    def _do_apply(self, entries: Sequence[Entry], conf_state: ConfState | None) -> ApplyOutcome:
        server, world = self._server, self._server.world
        outcome = server.machine.apply(to_committed(entries, conf_state))
        if server.machine.has_long_wal:
            server.machine.shorten_wal()
        require(not outcome.failures, f"a command failed in a way nobody foresaw: {outcome.failures}")
        world.checker.has_applied(int(server.node), outcome.applied_index, server.machine.state_hash)
        for effect in outcome.effects:
            if isinstance(effect, ConversationCreated):
                world.ledger.begun(effect)
            elif isinstance(effect, MessageStored):
                world.ledger.stored(effect.message)
        if conf_state is not None:
            world.note_membership(entries[0], conf_state)
        return outcome

    def checkpoint(self) -> None:
        """Make the state durable."""
        self._later(self._server.world.delay(20), self._checkpointed)

    def _checkpointed(self) -> None:
        server = self._server
        durable = server.machine.checkpoint()
        server.disk.checkpointed(durable)
        server.act(Checkpointed(Index(durable)))

    def compact(self, snapshot: SnapshotMeta) -> None:
        """Drop entries from the log; one thread works on it, so a write under way comes first."""
        if self._writing is None:
            self._server.act(self._compact(snapshot))
        else:
            self._compacting = snapshot

    def _compact(self, snapshot: SnapshotMeta) -> LogCompacted:
        server = self._server
        self._compacting = None
        server.effect()
        server.log.compact(snapshot)
        server.effect()
        server.world.counters["log-compacted"] += 1
        return LogCompacted(snapshot.index)

    # Installing a snapshot

    def install(self, snapshot: SnapshotMeta, write: Persist) -> None:
        """Replace the state, then the log."""
        self._installing = (snapshot, write)
        self._later(self._server.world.delay(60), self._replace_state)

    def _replace_state(self) -> None:
        assert self._installing is not None
        snapshot, _ = self._installing
        server, world = self._server, self._server.world
        server.disk.install(server.transfers.take(snapshot).image, snapshot.index)
        server.machine = server.disk.open_machine()
        self._state_is_replaced = True
        if world.next_install_dies and not world.network.is_healed:
            world.next_install_dies = False
            raise Crashed
        self._later(world.delay(60), self._reset_log)

    def _reset_log(self) -> None:
        assert self._installing is not None
        snapshot, write = self._installing
        server, world = self._server, self._server.world
        self._append([write])
        self._installing, self._state_is_replaced = None, False
        world.checker.has_applied(int(server.node), snapshot.index, server.machine.state_hash)
        brought = decode_membership(server.machine.membership)
        require(
            brought == snapshot.conf_state,
            f"the snapshot at {snapshot.index} brings {brought} and not {snapshot.conf_state}",
        )
        self._count_install(snapshot)
        server.act(SnapshotInstalled(server.members(), server.machine.level))

    def _count_install(self, snapshot: SnapshotMeta) -> None:
        server, counters = self._server, self._server.world.counters
        counters["snapshot-installed"] += 1
        if snapshot.conf_state.voters_outgoing:
            counters["snapshot-of-joint-membership-installed"] += 1
        if server.crashed_in_joint:
            server.crashed_in_joint = False
            counters["joint+crash+snapshot"] += 1
        if server.transfers.wait_to_be_installed:
            counters["snapshots-back-to-back"] += 1


def _succeeds(work: Callable[[], object]) -> bool:
    try:
        work()
    except (StorageError, MachineStorageError, apsw.Error):
        return False
    return True
