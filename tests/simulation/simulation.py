"""One run of one seed: a heap of things to happen, servers, a network, clients, faults; then healing and progress.

Simulated time only moves from one thing to the next. In the fault phase everything the plan allows goes wrong; then
all faults end, everybody is started, and within a bound the cluster must have a leader, commit, answer reads, leave a
joint membership and bring all members to the same state.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from server.raft.events import (
    Campaign,
    ForgetLeader,
    Propose,
    ProposeConfChange,
    ReadIndex,
    Receive,
    Tick,
    TransferLeader,
)
from server.raft.membership import (
    ConfChange,
    ConfChangeType,
    MembershipError,
    SingleChange,
    Transition,
    change_membership,
    encode_conf_change,
    members_of,
)
from server.raft.messages import Message
from server.raft.types import ConfState, Entry, Index, NodeId, Role, Term
from tests.simulation.checker import Checker, ViolationError, require
from tests.simulation.disk import State
from tests.simulation.network import Network
from tests.simulation.plan import TICK_MS, Plan
from tests.simulation.server import SimulatedServer

PROGRESS_MS = 30_000
FOUNDING_INDEX = Index(1)


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run was; `violation` is empty when all properties held, `trace` is a hash of all that happened."""

    seed: int
    violation: str
    trace: str
    simulated_ms: int
    events: int
    faults: Counter[str]
    counters: Counter[str]
    timeline: list[str]


class Simulation:
    """`bodies` are the states behind snapshots, by index: a state at an index is the same on every server."""

    def __init__(self, plan: Plan, *, keep_timeline: bool = False) -> None:
        self.plan = plan
        self.rng = random.Random(f"run/{plan.seed}")
        self.now = 0
        self.events = 0
        self.faults: Counter[str] = Counter()
        self.counters: Counter[str] = Counter()
        self.checker = Checker()
        self.network = Network(plan, self.rng, self.faults)
        self.timeline: list[str] = []
        self._keep_timeline = keep_timeline
        self._trace = hashlib.blake2b(digest_size=16)
        self._heap: list[tuple[int, int, NodeId, int, Callable[[], None]]] = []
        self._sequence = 0
        self._commands = 0
        self.final: dict[int, Entry] = {}
        self.membership = ConfState(voters=tuple(NodeId(node) for node in range(1, plan.voters + 1)))
        self._membership_index = FOUNDING_INDEX
        founding = State(FOUNDING_INDEX, Term(1), b"", self.membership)
        self.bodies: dict[int, State] = {FOUNDING_INDEX: founding}
        self.servers = {
            NodeId(node): SimulatedServer(self, NodeId(node), founding, founded=node <= plan.voters)
            for node in range(1, plan.voters + plan.spares + 1)
        }

    # Time

    def after(self, node: NodeId, delay_ms: int, action: Callable[[], None]) -> None:
        """Let `action` happen on `node` (0: in the world), unless that node has died meanwhile."""
        life = self.servers[node].life if node else 0
        self._sequence += 1
        heapq.heappush(self._heap, (self.now + delay_ms, self._sequence, node, life, action))

    def _run_until(self, end: int, done: Callable[[], bool] | None = None) -> bool:
        while self._heap and self._heap[0][0] <= end:
            self.now, _, node, life, action = heapq.heappop(self._heap)
            if node and self.servers[node].life != life:
                continue
            self.events += 1
            action()
            if done is not None and self.events % 16 == 0 and done():
                return True
        self.now = end
        return done is not None and done()

    def note(self, text: str) -> None:
        """A line of the timeline; it is part of the trace hash."""
        line = f"{self.now:6} {text}"
        self._trace.update(line.encode())
        if self._keep_timeline:
            self.timeline.append(line)

    def draw_tick_ms(self) -> int:
        """How long this server takes a tick to be."""
        return self.rng.randint(35, 70) if self.plan.skewed_clocks else TICK_MS

    def note_final(self, entry: Entry, conf_state: ConfState) -> None:
        """An entry was applied somewhere, for the first or another time."""
        self.final.setdefault(entry.index, entry)
        if entry.index > self._membership_index:
            self._membership_index, self.membership = entry.index, conf_state

    # Network

    def send(self, message: Message) -> None:
        """A message leaves a server."""
        self.checker.left(message)
        arrivals = self.network.arrivals(message, self.now)
        if not arrivals:
            self._tell_sender(message, delivered=False)
        for time in arrivals:
            self.after(NodeId(0), time - self.now, lambda: self._arrive(message))

    def _arrive(self, message: Message) -> None:
        server = self.servers[message.to]
        if not server.is_up:
            self._tell_sender(message, delivered=False)
            return
        self.note(f"{message.sender}->{message.to} {message.type.name} {message.term} {message.index} {message.reject}")
        self._tell_sender(message, delivered=True)
        server.step(Receive(message))

    def _tell_sender(self, message: Message, *, delivered: bool) -> None:
        sender = self.servers[message.sender]
        if sender.is_up:
            self.after(message.sender, 1, lambda: sender.transport_says(message, delivered=delivered))

    # What goes on

    def _tick(self, server: SimulatedServer) -> None:
        self.after(server.node, server.tick_ms, lambda: self._tick(server))
        server.step(Tick())

    def _start(self, server: SimulatedServer) -> None:
        if server.is_up:
            return
        lives = server.start()
        self.note(f"{server.node} starts in term {server.raft.term}")
        if lives:
            self.after(server.node, self.rng.randint(1, server.tick_ms), lambda: self._tick(server))

    def _every(self, interval_ms: int, action: Callable[[], None], until: int) -> None:
        """Repeat `action` at random intervals of this mean; not at all if the interval is 0."""
        if interval_ms == 0:
            return

        def again() -> None:
            if self.now < until:
                action()
                self.after(NodeId(0), self.rng.randint(1, 2 * interval_ms), again)

        self.after(NodeId(0), self.rng.randint(1, 2 * interval_ms), again)

    def _up(self) -> list[SimulatedServer]:
        return [server for server in self.servers.values() if server.is_up]

    def _leaders(self) -> list[SimulatedServer]:
        return [server for server in self._up() if server.raft.role is Role.LEADER]

    def _someone(self) -> SimulatedServer | None:
        """Mostly a leader, sometimes anybody who is up."""
        choice = self._leaders() if self.rng.random() < 0.85 else self._up()
        return self.rng.choice(choice) if choice else None

    def _client_proposes(self) -> None:
        server = self._someone()
        if server is None:
            return
        self._commands += 1
        payload = b"c%d" % self._commands + b"." * self.rng.choice((0, 10, 60))
        reason = server.propose(Propose((payload,)), payload)
        self.counters["refused-" + reason if reason else "proposed"] += 1

    def _client_reads(self) -> None:
        up = self._up()
        if not up:
            return
        self._commands += 1
        context = b"r%d" % self._commands
        self.checker.asked_to_read(context)
        self.rng.choice(up).step(ReadIndex(context))

    def _admin_changes_members(self) -> None:
        server = self._someone()
        if server is None:
            return
        kinds = list(ConfChangeType)
        count = self.rng.choice((0, 1, 1, 1, 2, 3))
        changes = tuple(SingleChange(self.rng.choice(kinds), self.rng.choice(list(self.servers))) for _ in range(count))
        transition = self.rng.choice(list(Transition)) if count else Transition.AUTO
        change = ConfChange(changes, transition)
        if not _keeps_a_majority_electable(server.raft.conf_state, change):
            return
        reason = server.propose(ProposeConfChange(encode_conf_change(change)), b"")
        self.counters["change-refused" if reason else "change-proposed"] += 1

    def _admin_transfers(self) -> None:
        server = self._someone()
        if server is not None:
            self.counters["transfer-asked" if not self.network.blocked else "transfer-asked-in-partition"] += 1
            server.step(TransferLeader(self.rng.choice(list(self.servers))))

    def _connection_breaks(self) -> None:
        up = [server for server in self._up() if server.raft.role is Role.FOLLOWER]
        if not up:
            return
        server = self.rng.choice(up)
        self.faults["forget-leader"] += 1
        server.step(ForgetLeader())
        if server.is_up:
            self.after(server.node, self.rng.randint(1, 60), lambda: server.step(Campaign()))

    def _somebody_compacts(self) -> None:
        up = self._up()
        if up:
            self.rng.choice(up).save_and_compact()

    # Faults

    def _crash_somebody(self) -> None:
        up = self._up()
        if not up:
            return
        for server in up if self.rng.random() < 0.1 else [self.rng.choice(up)]:
            server.crash()

    def _restart_somebody(self) -> None:
        down = [server for server in self.servers.values() if not server.is_up]
        if down:
            self._start(self.rng.choice(down))

    def _change_partition(self) -> None:
        if self.network.blocked and self.rng.random() < 0.6:
            self.network.heal()
            self.note("links are joined")
        else:
            self.note(f"partition: {self.network.partition([int(node) for node in self.servers])}")

    def _stall_a_disk(self) -> None:
        server = self.rng.choice(list(self.servers.values()))
        server.stalled_until = self.now + self.rng.randint(200, 3_000)
        self.faults["stall"] += 1

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
        self.counters["reads-answered"] += self.checker.reads_answered
        return RunResult(
            seed=self.plan.seed,
            violation=violation,
            trace=self._trace.hexdigest(),
            simulated_ms=self.now,
            events=self.events,
            faults=self.faults,
            counters=self.counters,
            timeline=self.timeline,
        )

    def _fault_phase(self) -> None:
        plan, end = self.plan, self.plan.fault_phase_ms
        for server in self.servers.values():
            self._start(server)
        restart_ms = max(plan.crash_every_ms // 2, 200)
        for interval, action in (
            (plan.propose_every_ms, self._client_proposes),
            (plan.read_every_ms, self._client_reads),
            (plan.change_every_ms, self._admin_changes_members),
            (plan.transfer_every_ms, self._admin_transfers),
            (plan.forget_every_ms, self._connection_breaks),
            (plan.compact_every_ms, self._somebody_compacts),
            (plan.crash_every_ms, self._crash_somebody),
            (restart_ms, self._restart_somebody),
            (plan.partition_every_ms, self._change_partition),
            (plan.stall_every_ms, self._stall_a_disk),
        ):
            self._every(interval, action, end)
        self._run_until(end)

    def _progress_phase(self) -> None:
        self.note("everything is healed")
        self.network.heal()
        self.network.is_healed = True
        for server in self.servers.values():
            server.stalled_until = 0
            self._start(server)
        acknowledged, answered = self.checker.acknowledged_up_to, self.checker.reads_answered
        deadline = self.now + PROGRESS_MS
        self._every(100, self._client_proposes, deadline)
        self._every(200, self._client_reads, deadline)
        self._every(500, self._admin_leaves_joint, deadline)

        def progressed() -> bool:
            return (
                self.checker.acknowledged_up_to > acknowledged
                and self.checker.reads_answered > answered
                and not self.membership.voters_outgoing
                and self._members_agree()
            )

        require(self._run_until(deadline, progressed), f"no progress after healing: {self._describe()}")
        self.checker.is_final(self.final)

    def _admin_leaves_joint(self) -> None:
        """An operator ends a joint membership that does not end by itself."""
        for server in self._leaders():
            conf = server.raft.conf_state
            if conf.voters_outgoing and not conf.auto_leave:
                server.propose(ProposeConfChange(encode_conf_change(ConfChange())), b"")

    def _members_agree(self) -> bool:
        """Whether all members follow one leader and have applied all that was acknowledged."""
        members = [self.servers[node] for node in members_of(self.membership)]
        if len({server.raft.leader for server in members}) != 1:
            return False
        return min(server.state.index for server in members) >= self.checker.acknowledged_up_to

    def _describe(self) -> str:
        parts = []
        for node, server in self.servers.items():
            if server.is_up:
                status = server.raft.status()
                parts.append(
                    f"{node}: {status.role.value} term {status.term} leader {status.leader} commit "
                    f"{status.commit_index} applied {status.applied_index} last {status.last_index}"
                )
        return f"membership {self.membership}; " + "; ".join(parts)


def _keeps_a_majority_electable(conf: ConfState, change: ConfChange) -> bool:
    """What an operator must keep to: at most one voter leaves at a time, and only from three or more.

    A server that has applied its own removal never campaigns again, yet may have a longer log than those that stay
    and do not know yet that the removal is committed. If their majority needs its vote, nobody can be elected.
    """
    try:
        after = change_membership(conf, change).conf_state
    except MembershipError:
        return True  # refused by the core; that is to be tried as well
    leaving = set(conf.voters) - set(after.voters)
    return len(leaving) <= 1 and (not leaving or len(conf.voters) >= 3)


def run_plan(plan: Plan, *, keep_timeline: bool = False) -> RunResult:
    """Run one seed."""
    return Simulation(plan, keep_timeline=keep_timeline).run()


__all__ = ["RunResult", "Simulation", "ViolationError", "run_plan"]
