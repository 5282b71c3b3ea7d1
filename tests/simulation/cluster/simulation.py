"""One run of one seed: a calendar of things to happen, servers, a network, clients, faults; then healing and progress.

Simulated time only moves from one thing to the next. In the fault phase everything the plan allows goes wrong; then
faults end, a core of the servers is healed, and within a bound it must have a leader, store what was sent, answer
reads, hand everybody what is theirs, and agree to the last row.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from parleyd.raft.membership import members_of
from parleyd.raft.messages import Message
from parleyd.raft.types import ConfState, Entry, EntryType, NodeId
from parleyd.transport.codec import decode_membership
from tests.simulation.cluster.checker import Checker, require
from tests.simulation.cluster.clients import Client
from tests.simulation.cluster.faults import Faults
from tests.simulation.cluster.ledger import Ledger
from tests.simulation.cluster.network import STALE_MS, Network
from tests.simulation.cluster.plan import LOSES_A_DISK, MEMBERSHIP, TICK_MS, Plan
from tests.simulation.cluster.server import SimulatedServer
from tests.simulation.cluster.transfers import SnapshotBody, Tell

PROGRESS_MS = 15_000
QUIET_AFTER_MS = 500
READ_BARRIER_MS = 400
EPOCH_MS = 1_700_000_000_000


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run was; `violation` is empty when all properties held, `trace` is a hash of all that happened.

    `recovery_ms` is how long it took, once healed, until everything was in order, the clients' last sends included.
    """

    seed: int
    violation: str
    trace: str
    simulated_ms: int
    recovery_ms: int
    events: int
    faults: Counter[str]
    counters: Counter[str]
    timeline: list[str]


class Simulation:
    """`accounts` can be written to: ids by name; `membership` is the newest that anybody has applied."""

    def __init__(self, plan: Plan, *, keep_timeline: bool = False) -> None:
        self.plan = plan
        self.rng = random.Random(f"run/{plan.seed}")
        self.now = 0
        self.events = 0
        self.faults: Counter[str] = Counter()
        self.counters: Counter[str] = Counter()
        self.checker = Checker(disk_of=lambda node: self.servers[node].disk)
        self.ledger = Ledger(self.checker, self.counters)
        self.network = Network(plan, self.rng, self.faults)
        self.timeline: list[str] = []
        self._keep_timeline = keep_timeline
        self._trace = hashlib.blake2b(digest_size=16)
        self._calendar: list[tuple[int, int, NodeId, int, Callable[[], object]]] = []
        self._sequence = 0
        self._healed_at = 0
        self.last_leader = NodeId(0)
        self.accounts: dict[str, int] = {}
        self.membership = ConfState(voters=tuple(NodeId(node) for node in range(1, plan.voters + 1)))
        self._membership_index = 0
        self.next_install_dies = False
        self.servers: dict[NodeId, SimulatedServer] = {}
        for node in self.membership.voters:
            self.servers[node] = SimulatedServer(self, node)
        self.clients = [Client(self, number) for number in range(1, plan.clients + 1)]

    # Time

    def after(self, node: NodeId, delay_ms: int, action: Callable[[], object]) -> None:
        """Let `action` happen on `node` (0: in the world), unless that node has died meanwhile."""
        life = self.servers[node].life if node else 0
        self._sequence += 1
        heapq.heappush(self._calendar, (self.now + delay_ms, self._sequence, node, life, action))

    def _run_until(self, end: int, done: Callable[[], bool] | None = None) -> bool:
        while self._calendar and self._calendar[0][0] <= end:
            self.now, sequence, node, life, action = heapq.heappop(self._calendar)
            if node:
                server = self.servers[node]
                if server.life != life:
                    continue
                if server.paused_until > self.now:
                    heapq.heappush(self._calendar, (server.paused_until, sequence, node, life, action))
                    continue
            self.events += 1
            action()
            if done is not None and self.events % 32 == 0 and done():
                return True
        self.now = end
        return done is not None and done()

    def delay(self, most_ms: int) -> int:
        """How long some work takes; healed, everything is quick."""
        return 1 if self.network.is_healed else self.rng.randint(1, most_ms)

    def note(self, text: str) -> None:
        """A line of the timeline; it is part of the trace hash."""
        line = f"{self.now:6} {text}"
        self._trace.update(line.encode())
        if self._keep_timeline:
            self.timeline.append(line)

    def draw_tick_ms(self) -> int:
        """How long a server takes a tick to be."""
        return self.rng.randint(35, 70) if self.plan.skewed_clocks else TICK_MS

    def wall_clock_ms(self, server: SimulatedServer) -> int:
        """What the server's clock on the wall says; it may be wrong by any amount."""
        return EPOCH_MS + self.now + server.clock_offset_ms

    def furthest_clock_ms(self, server: SimulatedServer) -> int:
        """The furthest that the server's clock can have been, as seen now."""
        return EPOCH_MS + self.now + server.furthest_offset_ms

    # Servers

    def up(self) -> list[SimulatedServer]:
        """Those that run, paused or not."""
        return [server for server in self.servers.values() if server.is_up]

    def start(self, server: SimulatedServer) -> None:
        """Start a server, unless it runs or cannot any more."""
        if not server.is_up and not server.is_broken:
            server.start()

    def restart_later(self, server: SimulatedServer) -> None:
        """Somebody looks after servers that have ended by themselves."""
        self.after(NodeId(0), self.rng.randint(10, 1_500), lambda: self.start(server))

    def add_server(self) -> NodeId:
        """A fresh server, up and no member yet."""
        node = NodeId(len(self.servers) + 1)
        self.servers[node] = SimulatedServer(self, node)
        self.start(self.servers[node])
        return node

    def is_joint(self) -> bool:
        """Whether a joint membership is in force somewhere."""
        return any(server.raft.conf_state.voters_outgoing for server in self.up())

    def change_is_under_way(self) -> bool:
        """Whether a membership entry, in whatever log or message, may yet be applied, or is not applied everywhere."""
        known = self.checker.committed
        return any(
            index > self._membership_index and kind != EntryType.NORMAL and known.get(index, (term, 0))[0] == term
            for (index, term), (_, kind, _) in self.checker.entries.items()
        ) or any(
            server.is_up and server.raft.conf_state != self.membership and not server.is_removed
            for server in self.servers.values()
        )

    def note_membership(self, entry: Entry, conf_state: ConfState) -> None:
        """A membership entry was applied somewhere, for the first or another time."""
        counters = self.counters
        counters["membership-entry-applied"] += 1
        if entry.index <= self._membership_index:
            return
        before, self.membership, self._membership_index = self.membership, conf_state, int(entry.index)
        self.note(f"members from {entry.index} on: {conf_state}")
        counters["joint-entered"] += bool(conf_state.voters_outgoing and not before.voters_outgoing)
        counters["joint-left"] += bool(before.voters_outgoing and not conf_state.voters_outgoing)
        counters["learner-promoted"] += bool({*before.learners} & {*conf_state.voters})
        counters["voter-demoted"] += bool({*before.voters, *before.learners_next} & {*conf_state.learners})
        gone = {*members_of(before)} - {*members_of(conf_state)}
        counters["member-removed"] += bool(gone)
        counters["leader-removed"] += self.last_leader in gone

    # Network

    def transmit(self, sender: NodeId, to: NodeId, arrive: Callable[[], None]) -> bool:
        """Something leaves one server for another; `arrive` happens once for each copy that comes through."""
        times = self.network.arrivals((int(sender), int(to)), self.now)
        for time in times:
            self.after(NodeId(0), time - self.now, lambda: self.when_awake(to, arrive))
        return bool(times)

    def when_awake(self, to: NodeId, arrive: Callable[[], None]) -> None:
        """What comes to a paused process waits in its socket."""
        server = self.servers[to]
        if server.is_up and server.paused_until > self.now:
            self.after(NodeId(0), server.paused_until - self.now, lambda: self.when_awake(to, arrive))
        else:
            arrive()

    def client_link(self, arrive: Callable[[], None]) -> None:
        """Between a client and a server: lossy as the plan's network, with words that come again, and never cut."""
        if self.network.is_healed:
            self.after(NodeId(0), 1, arrive)
            return
        if self.rng.random() >= self.plan.drop:
            self.after(NodeId(0), self.delay(self.plan.max_delay_ms), arrive)
        if self.rng.random() < self.plan.late:
            self.faults["late"] += 1
            self.after(NodeId(0), self.rng.randint(300, STALE_MS), arrive)

    def send(self, message: Message, tell: Tell) -> None:
        """A message leaves a server; `tell` hears whether the transport got it through."""

        wall_ms = self.wall_clock_ms(self.servers[message.sender])

        def arrive() -> None:
            server = self.servers[message.to]
            if server.is_up:
                kind = message.type.name
                self.note(f"{message.sender}->{message.to} {kind} {message.term} {message.index} {message.reject}")
                server.receive(message, wall_ms)
            else:
                tell(False)

        if not self.transmit(message.sender, message.to, arrive):
            tell(False)

    def send_snapshot(self, message: Message, body: SnapshotBody, tell: Tell) -> None:
        """A snapshot in many pieces: it comes whole, or the transfer breaks on the way."""
        link = (int(message.sender), int(message.to))
        length_ms = self.delay(max(4 * self.plan.max_delay_ms, 40))
        breaks = not self.network.is_healed and self.rng.random() < self.plan.drop

        def arrive() -> None:
            server = self.servers[message.to]
            if breaks or not server.is_up or not self.network.is_open(link):
                self.faults["snapshot-transfer-broken"] += 1
                tell(False)
                return
            self.note(f"{message.sender}->{message.to} snapshot {body.meta.index}")
            server.receive_snapshot(message, body, tell)

        self.after(NodeId(0), length_ms, lambda: self.when_awake(message.to, arrive))

    # The run

    def run(self) -> RunResult:
        """Run both phases; whatever is wrong is in the result."""
        violation = ""
        try:
            self._fault_phase()
            self._progress_phase()
        except Exception as error:
            violation = f"{type(error).__name__}: {error}"
            self.note(violation)
        return RunResult(
            seed=self.plan.seed,
            violation=violation,
            trace=self._trace.hexdigest(),
            simulated_ms=self.now,
            recovery_ms=self.now - self._healed_at if self._healed_at else 0,
            events=self.events,
            faults=self.faults,
            counters=+self.counters,
            timeline=self.timeline,
        )

    def _fault_phase(self) -> None:
        for server in self.servers.values():
            self.start(server)
        for client in self.clients:
            client.start()
        Faults(self).plan()
        self._run_until(self.plan.fault_phase_ms)

    def _progress_phase(self) -> None:
        left_behind = self._draw_left_behind()
        self.note(f"all are healed but {sorted(left_behind)}")
        self._healed_at = self.now
        self.network.is_healed = True
        self.network.silent = {int(node) for node in left_behind}
        self.network.blocked = frozenset()
        for server in self.servers.values():
            if server.node not in left_behind:
                self._heal(server)
            elif server.is_up and self.rng.random() < 0.5:
                server.die("left behind")
        answered = sum(client.reads_answered for client in self.clients)
        self.after(NodeId(0), QUIET_AFTER_MS, self._let_clients_finish)
        deadline = self.now + PROGRESS_MS

        def progressed() -> bool:
            return (
                self.now > deadline - PROGRESS_MS + QUIET_AFTER_MS
                and all(client.session_id and not client.unanswered for client in self.clients)
                and sum(client.reads_answered for client in self.clients) > answered
                and not self.membership.voters_outgoing
                and self._core_agrees(left_behind)
                and self._all_is_received()
            )

        require(self._run_until(deadline, progressed), f"no progress after healing: {self._describe()}")
        self._check_final_state(left_behind)

    def _draw_left_behind(self) -> set[NodeId]:
        """Whom not to heal: nobody; or, where neither members nor disks are ever touched, all but a majority.

        Elsewhere an operator may still be about to remove somebody, and those left behind would be too many then.
        """
        touched = {fault.kind for fault in self.plan.faults} & (MEMBERSHIP | LOSES_A_DISK)
        if touched or self.rng.random() < 0.4:
            return set()
        self.counters["bare-majority-healed"] += 1
        return set(self.rng.sample(list(self.servers), (len(self.servers) - 1) // 2))

    def _heal(self, server: SimulatedServer) -> None:
        server.paused_until = 0
        server.dies_after = None
        server.disk.stalled_until = 0
        server.disk.is_full = False
        server.disk.next_error = None
        self.start(server)

    def _let_clients_finish(self) -> None:
        for client in self.clients:
            client.is_sending = False

    def _healed_members(self, left_behind: set[NodeId]) -> list[SimulatedServer]:
        members = [self.servers[node] for node in members_of(self.membership) if node not in left_behind]
        return [server for server in members if not server.is_broken]

    def _core_agrees(self, left_behind: set[NodeId]) -> bool:
        """Whether all healed members follow one leader and have applied all that any client has seen."""
        members = self._healed_members(left_behind)
        if not all(server.is_up for server in members) or len({server.raft.leader for server in members}) != 1:
            return False
        return min(server.machine.applied_index for server in members) >= self.checker.acknowledged_up_to

    def _all_is_received(self) -> bool:
        return all(client.cursor >= self.ledger.newest_acknowledged for client in self.clients)

    def _check_final_state(self, left_behind: set[NodeId]) -> None:
        members = self._healed_members(left_behind)
        newest = max(members, key=lambda server: server.machine.applied_index)
        for server in members:
            require(
                not server.is_leader or server.group.oldest_read_ms(self.now) < READ_BARRIER_MS,
                f"leader {server.node} has not answered a read for {server.group.oldest_read_ms(self.now)} ms",
            )
        connection = newest.disk.state_connection
        self.ledger.is_final(connection)
        for client in self.clients:
            query = "SELECT id, conversation_id FROM messages WHERE device <> ? AND id <= ? ORDER BY id"
            rows = cast("list[tuple[int, int]]", connection.execute(query, (client.device, client.cursor)).fetchall())
            own = [row_id for row_id, where in rows if self.ledger.is_member(where, client.account_id, row_id)]
            require(client.received == own, f"{client.name} was not handed exactly what is its own")
            self.ledger.knows_its_removals(connection, client.account_id, client.cursor, client.removed)
        for server in members:
            if server.machine.applied_index == newest.machine.applied_index:
                same = server.disk.content() == newest.disk.content()
                require(same, f"{server.node} and {newest.node} differ in content")
            if not self.plan.raw_changes:
                known = {int(node) for node in members_of(decode_membership(server.machine.membership))}
                require({*server.members().rows} == known, f"{server.node} lists other members than its membership has")
        self.note(f"the state is {newest.machine.state_hash.hex()} at {newest.machine.applied_index}")

    def _describe(self) -> str:
        parts = []
        for node, server in self.servers.items():
            if not server.is_up:
                parts.append(f"{node}: down {server.is_broken}")
                continue
            status = server.raft.status()
            parts.append(
                f"{node}: {status.role.value} term {status.term} leader {status.leader} commit {status.commit_index} "
                f"applied {status.applied_index} last {status.last_index}"
            )
        parts.extend(
            f"{client.name} at {client.at}: session {client.session_id}, waits for {list(client.unanswered)}, "
            f"received up to {client.cursor} of {self.ledger.newest_acknowledged}"
            for client in self.clients
        )
        return f"membership {self.membership}; " + "; ".join(parts)


def run_plan(plan: Plan, *, keep_timeline: bool = False) -> RunResult:
    """Run one seed."""
    return Simulation(plan, keep_timeline=keep_timeline).run()
