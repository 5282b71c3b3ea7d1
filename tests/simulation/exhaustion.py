"""`python -m tests.simulation.exhaustion`: every order of events in a small world, breadth first.

Three servers; a few campaigns; one proposal, or one change of the membership; one crash that loses what was not
synced, or keeps it without anybody having been told. A message may arrive at any time after it was sent, or never: a
lost one is one that nobody delivers. Each disk carries out its writes in order, at any time. What is committed is
applied at once. After every step the checker of the simulation looks at all that was ever seen.

Two states are the same when some renaming of the servers makes them so; what the checker remembers is part of a state.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import marshal
import random
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby, permutations, product
from pathlib import Path
from typing import Any

from server.raft.config import RaftConfig
from server.raft.core import Core, Outbox
from server.raft.events import Applied, Campaign, ConfChangeApplied, Event, Propose, ProposeConfChange, Receive
from server.raft.inflights import Inflights
from server.raft.invariant import InvariantError
from server.raft.log import RaftLog
from server.raft.membership import ConfChange, ConfChangeType, SingleChange, decode_conf_change, encode_conf_change
from server.raft.messages import Message
from server.raft.progress import Progress
from server.raft.raft import Raft
from server.raft.readqueue import ReadQueue
from server.raft.types import NO_INDEX, NO_TERM, ConfState, Entry, EntryType, HardState, NodeId, Role
from server.raft.update import Persist, Update
from tests.simulation.checker import Checker, View, ViolationError, digest_after
from tests.simulation.disk import Disk, State, Write

ROOT = Path(__file__).resolve().parents[2]
NODES = (NodeId(1), NodeId(2), NodeId(3))
FOUNDING = State(NO_INDEX, NO_TERM, b"", ConfState(voters=NODES))


@dataclass(frozen=True, slots=True)
class Scope:
    """How much may happen in a world."""

    name: str
    campaigns: int = 2
    proposals: int = 0
    changes: int = 0
    crashes: int = 0


SCOPES = (
    Scope("one campaign, one proposal", campaigns=1, proposals=1),
    Scope("one campaign, one crash", campaigns=1, crashes=1),
    Scope("one campaign, one change of the membership", campaigns=1, changes=1),
    Scope("two campaigns", campaigns=2),
    Scope("two campaigns, one crash", campaigns=2, crashes=1),
    Scope("two campaigns, one proposal, one crash", campaigns=2, proposals=1, crashes=1),
    Scope("two campaigns, one change, one crash", campaigns=2, changes=1, crashes=1),
)


class _Fixed(random.Random):
    """Draws the lowest or the highest number, always: time does not pass here, and a crash loses all or nothing."""

    def __init__(self, *, highest: bool) -> None:
        super().__init__(0)
        self._highest = highest

    def randint(self, a: int, b: int) -> int:
        return b if self._highest else a


LOSE_ALL, KEEP_ALL = _Fixed(highest=False), _Fixed(highest=True)


@dataclass
class Node:
    """One server; never changed once it is part of a state."""

    raft: Raft
    disk: Disk
    digest: bytes = b""


@dataclass
class World:
    """One state; `trace` is how it was reached, newest first."""

    nodes: dict[NodeId, Node]
    wire: tuple[Message, ...]
    checker: Checker
    left: Scope
    trace: Any = None


@dataclass
class Report:
    """What came of one scope; `complete` when nothing was left to try.

    `leaders` and `committed` are the most that any state had: where they are 0, the properties had nothing to say.
    """

    scope: str
    states: int = 0
    steps: int = 0
    depth: int = 0
    leaders: int = 0
    committed: int = 0
    complete: bool = False
    seconds: float = 0.0
    violation: str = ""
    trace: list[str] = field(default_factory=list)


# Copies: everything immutable is shared.

_SLOTTED = (Core, RaftLog, Progress, Inflights, ReadQueue)


def _copied(value: Any) -> Any:
    kind = type(value)
    if kind in _SLOTTED:
        twin = object.__new__(kind)
        for name in kind.__slots__:
            setattr(twin, name, _copied(getattr(value, name)))
        return twin
    if kind is dict:
        return {key: _copied(item) for key, item in value.items()}
    if kind is list or kind is deque:
        return kind(value)
    return Outbox() if kind is Outbox else value


def _copy_node(node: Node) -> Node:
    raft = object.__new__(Raft)
    raft.__dict__.update({name: _copied(value) for name, value in node.raft.__dict__.items()})
    disk = replace(
        node.disk, entries=list(node.disk.entries), queue=deque(node.disk.queue), cached=list(node.disk.cached)
    )
    return Node(raft, disk, node.digest)


def _copy_checker(checker: Checker) -> Checker:
    return Checker(
        leaders=dict(checker.leaders),
        entries=dict(checker.entries),
        committed=dict(checker.committed),
        applied=dict(checker.applied),
        votes=dict(checker.votes),
        views={node: replace(view) for node, view in checker.views.items()},
    )


# Encoding: a state under a renaming, as nested tuples of numbers and bytes.


class _Names:
    """A renaming of the servers; 0 stays 0."""

    def __init__(self, order: tuple[NodeId, ...]) -> None:
        self.new = {0: 0, **{int(node): place for place, node in enumerate(order, 1)}}

    def entry(self, entry: Entry) -> Any:
        if entry.type is EntryType.NORMAL or not entry.data:
            return (entry.term, entry.index, int(entry.type), entry.data)
        return (entry.term, entry.index, int(entry.type), self.change(entry.data))

    def change(self, data: bytes) -> Any:
        change = decode_conf_change(data)
        return (int(change.transition), tuple((int(one.type), self.new[one.node]) for one in change.changes))

    def content(self, content: tuple[int, int, bytes]) -> Any:
        before, kind, data = content
        return (before, kind, self.change(data) if kind != int(EntryType.NORMAL) and data else data)

    def nodes(self, nodes: tuple[NodeId, ...]) -> Any:
        return tuple(sorted(self.new[node] for node in nodes))

    def membership(self, conf: ConfState) -> Any:
        groups = (conf.voters, conf.learners, conf.voters_outgoing, conf.learners_next)
        return (*map(self.nodes, groups), conf.auto_leave)

    def hard_state(self, state: HardState | None) -> Any:
        return None if state is None else (state.current_term, self.new[state.voted_for], state.commit_index)

    def message(self, message: Message) -> Any:
        m = message
        return (
            *(int(m.type), self.new[m.sender], self.new[m.to], m.term, m.log_term, m.index, m.commit),
            *(m.reject, m.reject_hint, m.context, tuple(map(self.entry, m.entries))),
        )

    def persist(self, persist: Persist) -> Any:
        done = persist.done
        return (
            *(self.hard_state(persist.hard_state), tuple(map(self.entry, persist.entries)), persist.must_sync),
            *(done.term, done.last_term, done.last_index, tuple(map(self.message, done.messages))),
        )

    def write(self, write: Write) -> Any:
        return (self.persist(write.persist), tuple(map(self.message, write.promises)))

    def progress(self, progress: Progress) -> Any:
        p = progress
        return (
            *(p.match_index, p.next_index, p.state.value, p.paused_by_flow, p.commit_sent, p.is_learner),
            *(p.recent_active, tuple(p.inflights._window)),
        )

    def node(self, node: Node) -> Any:
        core, log, disk = node.raft._core, node.raft._core.log, node.disk
        told = node.raft._told_role
        return (
            *(core.role.value, core.current_term, self.new[core.voted_for], self.new[core.leader]),
            *(log.commit_index, log.applied_index, log.stable_index, log._persisting_index, log._handed_index),
            *(log._applying_bytes, log._paused, core.pending_conf_index, core.uncommitted_bytes),
            tuple(map(self.entry, log._entries)),
            self.membership(core.conf_state),
            tuple(sorted((self.new[voter], granted) for voter, granted in core.votes.items())),
            tuple(sorted((self.new[other], self.progress(progress)) for other, progress in core.progress.items())),
            *(self.hard_state(node.raft._told_hard_state), told.role.value, told.term, self.new[told.leader]),
            *(self.hard_state(disk.hard_state), tuple(map(self.entry, disk.entries))),
            *(tuple(map(self.write, disk.queue)), tuple(map(self.write, disk.cached))),
        )

    def memory(self, checker: Checker) -> Any:
        """What the checker remembers. What was applied follows from what was committed and from the entries."""
        return (
            tuple(sorted((term, self.new[node]) for term, node in checker.leaders.items())),
            tuple(sorted((key, self.content(content)) for key, content in checker.entries.items())),
            tuple(sorted(checker.committed.items())),
            tuple(sorted(checker.applied)),
            tuple(sorted((self.new[voter], term, self.new[to]) for (voter, term), to in checker.votes.items())),
        )


def _orders(world: World) -> Iterator[tuple[NodeId, ...]]:
    """The renamings worth comparing: servers in the order of what they are, all orders among those that are alike."""

    def looks(node: NodeId) -> Any:
        one, log = world.nodes[node], world.nodes[node].raft._core.log
        core, disk = one.raft._core, one.disk
        received = sum(message.to == node for message in world.wire)
        return (
            *(core.role.value, core.current_term, log.last_index, log.commit_index, log.stable_index),
            *(len(disk.queue), len(disk.cached), len(disk.entries), disk.hard_state.current_term, received),
            *(len(core.votes), len(world.wire) and sum(message.sender == node for message in world.wire)),
        )

    ranked = sorted(world.nodes, key=looks)
    alike = [list(permutations(group)) for _, group in groupby(ranked, key=looks)]
    for choice in product(*alike):
        yield tuple(node for group in choice for node in group)


def key_of(world: World) -> bytes:
    """The same for states that differ by a renaming of the servers only, and on every run."""
    encodings = []
    for order in _orders(world):
        names = _Names(order)
        encoded = (
            tuple(names.node(world.nodes[node]) for node in order),
            tuple(sorted(map(names.message, world.wire))),
            names.memory(world.checker),
            (world.left.campaigns, world.left.proposals, world.left.changes, world.left.crashes),
        )
        encodings.append(marshal.dumps(encoded, 2))
    return hashlib.blake2b(min(encodings), digest_size=16).digest()


# Steps


def _raft(node: NodeId, disk: Disk) -> Raft:
    config = RaftConfig(node_id=node, pre_vote=False, check_quorum=False)
    raft = Raft(config, disk.initial_state())
    raft._core.random = LOSE_ALL
    return raft


def first_world(scope: Scope) -> World:
    """Three servers that have just been founded."""
    checker = Checker()
    nodes = {}
    for node in NODES:
        disk = Disk(state=FOUNDING)
        nodes[node] = Node(_raft(node, disk), disk)
        checker.started(node, nodes[node].raft)
    return World(nodes, (), checker, scope)


class _Step:
    """One event on one server, carried out on copies."""

    def __init__(self, world: World, node: NodeId, left: Scope, label: str, without: int | None = None) -> None:
        wire = list(world.wire)
        if without is not None:
            del wire[without]
        self._wire = wire
        self._id = node
        self.node = _copy_node(world.nodes[node])
        self.checker = _copy_checker(world.checker)
        self._world, self._left, self._label = world, left, label

    def event(self, event: Event) -> None:
        update = self.node.raft.step(event)
        self.checker.stepped(self._id, self.node.raft, update)
        self._send(update.send)
        if update.persist is not None:
            self.node.disk.queue.append(Write(update.persist, update.after_persist, None))
        self._apply(update)

    def sync(self) -> None:
        (write,) = self.node.disk.sync(1)
        self._send(write.promises)
        for message in write.persist.done.messages:
            self.checker.left(message)
        self.event(write.persist.done)

    def crash(self, rng: random.Random) -> None:
        disk = self.node.disk
        disk.crash(rng)
        self.node = Node(_raft(self._id, disk), disk)
        self.checker.views[self._id] = View()
        self.checker.started(self._id, self.node.raft)

    def _send(self, messages: tuple[Message, ...]) -> None:
        for message in messages:
            self.checker.left(message)
            self._wire.append(message)

    def _apply(self, update: Update) -> None:
        for entry in update.committed:
            self.node.digest = digest_after(self.node.digest, entry)
            self.checker.has_applied(self._id, entry.index, self.node.digest)
            if entry.type is not EntryType.NORMAL:
                self.event(ConfChangeApplied(entry.data))
        if update.committed:
            self.event(Applied(update.committed[-1].index))

    def world(self) -> World:
        nodes = {**self._world.nodes, self._id: self.node}
        return World(nodes, tuple(self._wire), self.checker, self._left, (self._label, self._world.trace))


def _changes(world: World) -> list[ConfChange]:
    """Each voter leaves, or becomes a learner."""
    kinds = (ConfChangeType.REMOVE_NODE, ConfChangeType.ADD_LEARNER)
    return [ConfChange((SingleChange(kind, node),)) for kind in kinds for node in world.nodes]


def _choices(world: World) -> Iterator[tuple[_Step, Any]]:
    """All that can happen next: a step, and what to do with it."""
    left = world.left
    for place, message in enumerate(world.wire):
        if message in world.wire[:place]:
            continue  # a second copy arriving is the same as the first
        label = f"{message.sender}->{message.to} {message.type.name} {message.term} {message.index}"
        step = _Step(world, message.to, left, label, without=place)
        yield step, lambda step=step, message=message: step.event(Receive(message))
    for node, server in world.nodes.items():
        core = server.raft._core
        if server.disk.queue:
            step = _Step(world, node, left, f"{node} syncs")
            yield step, step.sync
        if left.campaigns and core.role is not Role.LEADER:
            step = _Step(world, node, replace(left, campaigns=left.campaigns - 1), f"{node} campaigns")
            yield step, lambda step=step: step.event(Campaign())
        if left.proposals and core.role is Role.LEADER:
            step = _Step(world, node, replace(left, proposals=left.proposals - 1), f"{node} proposes")
            yield step, lambda step=step: step.event(Propose((b"x",)))
        if left.changes and core.role is Role.LEADER:
            for change in _changes(world):
                fewer = replace(left, changes=left.changes - 1)
                step = _Step(world, node, fewer, f"{node} proposes {change.changes[0]}")
                data = encode_conf_change(change)
                yield step, lambda step=step, data=data: step.event(ProposeConfChange(data))
        if left.crashes:
            for rng, what in ((LOSE_ALL, "loses"), (KEEP_ALL, "keeps")):
                if rng is KEEP_ALL and not (server.disk.queue or server.disk.cached):
                    continue
                fewer = replace(left, crashes=left.crashes - 1)
                step = _Step(world, node, fewer, f"{node} crashes and {what} what was not synced")
                yield step, lambda step=step, rng=rng: step.crash(rng)


def successors(world: World) -> Iterator[World]:
    """All states one step away, the same one perhaps more than once."""
    for step, act in _choices(world):
        act()
        yield step.world()


def explore(scope: Scope, *, max_states: int, max_seconds: float) -> Report:
    """Go through all states of `scope` until all are seen, one is wrong, or a bound is reached."""
    started = time.monotonic()
    report = Report(scope.name)
    first = first_world(scope)
    seen = {key_of(first)}
    layer = [first]
    while layer and not report.violation:
        following: list[World] = []
        for world in layer:
            if len(seen) >= max_states or time.monotonic() - started > max_seconds:
                break
            try:
                following.extend(_unseen(world, seen, report))
            except _FoundError as found:
                report.violation, report.trace = str(found), found.trace
                break
        else:
            report.depth += 1
            layer = following
            continue
        break
    report.complete = not layer
    report.states = len(seen)
    report.seconds = round(time.monotonic() - started, 2)
    return report


class _FoundError(Exception):
    """A property does not hold; `trace` is the shortest way there."""

    def __init__(self, text: str, trace: list[str]) -> None:
        super().__init__(text)
        self.trace = trace


def _unseen(world: World, seen: set[bytes], report: Report) -> Iterator[World]:
    for step, act in _choices(world):
        report.steps += 1
        try:
            act()
        except (ViolationError, InvariantError) as error:
            raise _FoundError(f"{type(error).__name__}: {error}", _path(step.world())) from error
        after = step.world()
        key = key_of(after)
        if key not in seen:
            seen.add(key)
            report.leaders = max(report.leaders, len(after.checker.leaders))
            report.committed = max(report.committed, len(after.checker.committed))
            yield after


def _path(world: World) -> list[str]:
    labels, trace = [], world.trace
    while trace is not None:
        label, trace = trace
        labels.append(label)
    return labels[::-1]


def main() -> int:
    """Exit code 0: no property was broken; 1: one was."""
    parser = argparse.ArgumentParser(prog="make exhaust", description=__doc__)
    parser.add_argument("--max-states", type=int, default=1_000_000, help="per scope")
    parser.add_argument("--seconds", type=float, default=60.0, help="per scope")
    arguments = parser.parse_args()
    reports = []
    for scope in SCOPES:
        report = explore(scope, max_states=arguments.max_states, max_seconds=arguments.seconds)
        reports.append(report)
        end = "all there are" if report.complete else "stopped at its bound"
        print(
            f"{report.scope}: {report.states} states ({end}), {report.steps} steps, all of depth {report.depth}, "
            f"up to {report.leaders} leaders and {report.committed} committed entries, {report.seconds} s, "
            f"{report.violation or 'no property broken'}",
            flush=True,
        )
        for line in report.trace:
            print("   ", line)
    summary = {
        "states": sum(report.states for report in reports),
        "depth": max(report.depth for report in reports),
        "wall_s": round(sum(report.seconds for report in reports), 2),
        "violations": sum(bool(report.violation) for report in reports),
        "scopes": [asdict(report) for report in reports],
    }
    target = ROOT / "build" / "exhaust.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print(f"{summary['states']} states in {summary['wall_s']} s; details in {target.relative_to(ROOT)}")
    return 1 if summary["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
