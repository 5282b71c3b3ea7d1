"""One simulated server: the real core, a driver that keeps the rules of update.py, a disk, a state machine."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from server.raft.config import RaftConfig
from server.raft.events import (
    Applied,
    Compact,
    ConfChangeApplied,
    Event,
    SnapshotAvailable,
    SnapshotStatus,
    Unreachable,
)
from server.raft.messages import Message, MessageType
from server.raft.proposals import NOT_LEADER
from server.raft.raft import Raft
from server.raft.types import ConfState, Entry, EntryType, Index, NodeId, Role, Term
from server.raft.update import Proposed, Update
from tests.simulation.checker import digest_after, require
from tests.simulation.disk import Disk, State, Write
from tests.simulation.plan import ELECTION_TICKS, Plan

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation


class Crashed(Exception):  # noqa: N818 (not an error: the end of one life)
    """The server has died in the middle of carrying out an Update."""


class SimulatedServer:
    """`life` counts incarnations: what an earlier one had planned is void. `to_apply` are entries handed out."""

    def __init__(self, world: Simulation, node: NodeId, founding: State, *, founded: bool) -> None:
        self.world = world
        self.node = node
        self.life = 0
        self.is_up = False
        self.tick_ms = world.draw_tick_ms()
        start = founding if founded else State(Index(0), Term(0), b"", ConfState())
        self.disk = Disk(state=start, start=start.index, start_term=start.term)
        self.state = start
        self.to_apply: deque[Entry] = deque()
        self.proposed: dict[Index, tuple[Term, bytes]] = {}
        self.last_answer: Proposed | None = None
        self.sync_planned = self.apply_planned = False
        self.stalled_until = 0
        self.raft: Raft

    # Life and death

    def start(self) -> bool:
        """Start from what the disk holds; False if it has died again at once."""
        self.life += 1
        self.is_up = True
        self.state = self.disk.state
        self.to_apply.clear()
        self.proposed.clear()
        self.sync_planned = self.apply_planned = False
        self.raft = Raft(self._config(self.world.plan), self.disk.initial_state())
        self.world.checker.started(self.node, self.raft)
        self._offer_snapshot()
        return self.is_up

    def _config(self, plan: Plan) -> RaftConfig:
        return RaftConfig(
            node_id=self.node,
            election_timeout_ticks=ELECTION_TICKS,
            pre_vote=plan.pre_vote,
            check_quorum=plan.check_quorum,
            max_entries_bytes=plan.max_entries_bytes,
            max_inflight_messages=plan.max_inflight_messages,
            max_uncommitted_bytes=plan.max_uncommitted_bytes,
            max_applying_bytes=plan.max_applying_bytes,
            max_pending_reads=64,
            seed=plan.seed * 1000 + self.life,
        )

    def crash(self) -> None:
        """Die now; the disk loses what it has not synced."""
        self.is_up = False
        self.life += 1
        lost = self.disk.crash(self.world.rng)
        self.world.faults["crash"] += 1
        self.world.faults["lost-write"] += lost
        self.world.note(f"{self.node} crashes, {lost} writes lost")

    # Steps

    def step(self, event: Event) -> None:
        """Step the core and carry out what it says; dying in between is one of the faults."""
        require(self.is_up, f"the simulation steps {self.node}, which is down")
        update = self.raft.step(event)
        self.world.checker.stepped(self.node, self.raft, update)
        try:
            self._carry_out(update)
        except Crashed:
            self.crash()

    def _carry_out(self, update: Update) -> None:
        world = self.world
        if update.role is not None:
            world.note(f"{self.node} is {update.role.role.value} in {update.role.term}, leader {update.role.leader}")
            world.counters["role-change"] += 1
            if update.role.role is Role.LEADER:
                world.counters["elected"] += 1
        for message in update.send:
            self._maybe_die(world.plan.torn_update)
            self._send(message)
        if update.persist is not None:
            self._maybe_die(world.plan.torn_update)
            body = world.bodies[update.persist.snapshot.index] if update.persist.snapshot is not None else None
            self._note_truncation(update)
            self.disk.queue.append(Write(update.persist, update.after_persist, body))
            self._plan_sync()
        self.to_apply.extend(update.committed)
        if self.to_apply:
            self._plan_apply()
        for ready in update.reads:
            world.checker.read_is_ready(self.node, ready)
        for context in update.dropped_reads:
            world.checker.reads.pop(context)
            world.counters["dropped-read"] += 1
        if update.need_snapshot_for:
            world.after(self.node, world.rng.randint(1, 50), self._offer_snapshot)
        if update.proposed is not None:
            self.last_answer = update.proposed

    def _note_truncation(self, update: Update) -> None:
        persist = update.persist
        if persist is None or not persist.entries:
            return
        queued = [write.persist.entries[-1].index for write in self.disk.queue if write.persist.entries]
        last = queued[-1] if queued else self.disk.start + len(self.disk.entries)
        if persist.entries[0].index <= last:
            self.world.counters["truncated"] += 1
            if any(entry.type is not EntryType.NORMAL for entry in self.disk.entries[persist.entries[0].index - 1 :]):
                self.world.counters["conf-change-truncated"] += 1

    def _maybe_die(self, chance: float) -> None:
        if chance and not self.world.network.is_healed and self.world.rng.random() < chance:
            self.world.faults["torn-update"] += 1
            raise Crashed

    def _send(self, message: Message) -> None:
        self.world.send(message)

    def transport_says(self, message: Message, *, delivered: bool) -> None:
        """What the transport tells the sender: always about snapshots, sometimes about lost messages."""
        if message.type is MessageType.SNAPSHOT:
            self.step(SnapshotStatus(message.to, delivered))
        elif not delivered and self.world.rng.random() < 0.2:
            self.step(Unreachable(message.to))

    # Storage

    def _plan_sync(self) -> None:
        if not self.sync_planned:
            self.sync_planned = True
            world = self.world
            delay = 1 if world.network.is_healed else world.rng.randint(1, world.plan.max_sync_ms)
            delay = max(delay, self.stalled_until - world.now)
            world.after(self.node, delay, self._sync)

    def _sync(self) -> None:
        self.sync_planned = False
        rng = self.world.rng
        for write in self.disk.sync(rng.randint(1, len(self.disk.queue))):
            for message in write.promises:
                self._send(message)
            if write.body is not None:
                self._install(write.body)
            for message in write.persist.done.messages:
                self.world.checker.left(message)
            self.step(write.persist.done)
            if not self.is_up:
                return
        if self.disk.queue:
            self._plan_sync()

    def _install(self, body: State) -> None:
        self.state = body
        while self.to_apply and self.to_apply[0].index <= body.index:
            self.to_apply.popleft()
        self.world.counters["snapshot-installed"] += 1
        if body.conf_state.voters_outgoing:
            self.world.counters["joint-snapshot-installed"] += 1
        self.world.checker.has_applied(self.node, body.index, body.digest)

    def _offer_snapshot(self) -> None:
        if self.state.index:
            self.world.bodies.setdefault(self.state.index, self.state)
            self.step(SnapshotAvailable(self.state.meta()))

    def save_and_compact(self) -> None:
        """The state machine becomes durable, and the log below is cut."""
        self.disk.state = max(self.disk.state, self.state, key=lambda state: state.index)
        last_durable = Index(self.disk.start + len(self.disk.entries))
        if self.disk.state.index > last_durable or self.disk.queue:
            return  # a snapshot is being installed, or the log is still being written
        keep = self.world.rng.randint(0, 8)
        cut = self.disk.compact(Index(max(self.disk.state.index - keep, self.disk.start)))
        self.world.counters["compacted"] += 1
        self.step(Compact(cut))

    # State machine

    def _plan_apply(self) -> None:
        if not self.apply_planned:
            self.apply_planned = True
            world = self.world
            delay = 1 if world.network.is_healed else world.rng.randint(1, world.plan.max_apply_ms)
            world.after(self.node, delay, self._apply)

    def _apply(self) -> None:
        self.apply_planned = False
        life, applied = self.life, 0
        for _ in range(self.world.rng.randint(1, max(len(self.to_apply), 1))):
            if not self.to_apply:
                break
            entry = self.to_apply.popleft()
            self._apply_entry(entry)
            applied += 1
            if self.life != life:
                return
        if applied:
            self.step(Applied(self.state.index))
        if self.is_up and self.life == life and self.to_apply:
            self._plan_apply()

    def _apply_entry(self, entry: Entry) -> None:
        world = self.world
        if entry.index <= self.state.index:
            return
        conf_state = self.state.conf_state
        digest = digest_after(self.state.digest, entry)
        if entry.type is not EntryType.NORMAL:
            life = self.life
            self.step(ConfChangeApplied(entry.data, entry.type is EntryType.CONF_CHANGE_V2))
            if self.life != life:
                return
            conf_state = self.raft.conf_state
            world.counters["conf-change-applied"] += 1
            if conf_state.voters_outgoing:
                world.counters["joint-entered"] += 1
        self.state = State(entry.index, entry.term, digest, conf_state)
        world.checker.has_applied(self.node, entry.index, digest)
        world.note_final(entry, conf_state)
        known = self.proposed.pop(entry.index, None)
        if known is not None and known[0] == entry.term:
            world.checker.has_acknowledged(entry.index, known[1])
            world.counters["acknowledged"] += 1

    # Clients

    def propose(self, event: Event, payload: bytes) -> str:
        """Propose; returns the reason for a refusal, or nothing."""
        self.last_answer = None
        life = self.life
        self.step(event)
        answer: Proposed | None = self.last_answer
        if answer is None or self.life != life:
            return NOT_LEADER
        if not answer.reason and payload:
            self.proposed[answer.first_index] = (answer.term, payload)
        return answer.reason
