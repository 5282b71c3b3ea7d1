"""What the cluster of the workload decided: one fixed list of entries, and the state as of each of them.

The states are the reference. They come from a state machine that was fed one entry at a time and never crashed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from parleyd.group.opening import snapshot_meta
from parleyd.machine.machine import StateMachine
from parleyd.machine.records import CommittedEntry, MemberRow
from parleyd.membership.entries import describe_change
from parleyd.membership.members import addition
from parleyd.raft.membership import encode_conf_change
from parleyd.raft.types import ConfState, Entry, EntryType, Index, NodeId, SnapshotMeta, Term
from parleyd.storage.identity import NodeIdentity, PeerInfo, cluster_id_of
from parleyd.storage.snapshots import SnapshotFile, write_snapshot
from parleyd.transport.codec import encode_membership
from tests.unit.machine.harness import START_MS, dump, mark_delivered, mark_read, open_session, payload, register, sends

OWN, SECOND, THIRD, NEWCOMER = (NodeId(number) for number in (11, 12, 13, 14))
BOOTSTRAP_MEMBERS = tuple(PeerInfo(n, f"n{n}", f"10.0.0.{n}:7000", f"10.0.0.{n}:7001") for n in (OWN, SECOND, THIRD))
NOT_BOOTSTRAPPED = NodeIdentity(OWN, "n11")
BOOTSTRAPPED = NodeIdentity(OWN, "n11", cluster_id_of(BOOTSTRAP_MEMBERS), BOOTSTRAP_MEMBERS)
FIRST_MEMBERS = ConfState(voters=(OWN, SECOND, THIRD))
LATER_MEMBERS = ConfState(voters=(OWN, SECOND, THIRD), learners=(NEWCOMER,))

CHANGE_AT = 5
LAST = 44
SNAPSHOTS = (28, 32)  # what the leader sends this node, and as of which entry
_TERMS = ((12, 1), (26, 2), (LAST, 4))

Rows = dict[str, list[tuple[object, ...]]]


@dataclass(frozen=True, slots=True)
class State:
    """All that a state machine holds at one index."""

    applied: int
    term: int
    membership: bytes
    state_hash: bytes
    rows: Rows

    def difference(self, other: State) -> str:
        """In words, what of `self` is not as in `other`; '' for nothing."""
        wrong = [
            f"{name} is {getattr(self, name)!r}, not {getattr(other, name)!r}"
            for name in ("applied", "term", "membership", "state_hash")
            if getattr(self, name) != getattr(other, name)
        ]
        wrong += [f"the rows of {table} differ" for table in other.rows if self.rows.get(table) != other.rows[table]]
        return "; ".join(wrong)


@dataclass(frozen=True, slots=True)
class History:
    """Entries from index 1 on, the state as of each, and the snapshots that were made on the way."""

    entries: tuple[Entry, ...]
    states: tuple[State, ...]  # by index, from 0 on
    snapshots: dict[int, SnapshotFile]

    def entry(self, index: int) -> Entry:
        """The entry at `index`."""
        return self.entries[index - 1]

    def slice(self, first: int, last: int) -> tuple[Entry, ...]:
        """The entries from `first` to `last`, both included."""
        return self.entries[first - 1 : last]

    def meta(self, index: int) -> SnapshotMeta:
        """The snapshot that ends with `index`."""
        return SnapshotMeta(Index(index), self.entry(index).term, members_at(index))


def term_at(index: int) -> Term:
    """The term in which the cluster decided the entry."""
    return Term(next(term for last, term in _TERMS if index <= last))


def members_at(index: int) -> ConfState:
    """The membership once `index` is applied."""
    return FIRST_MEMBERS if index < CHANGE_AT else LATER_MEMBERS


def entry_at(index: int) -> Entry:
    """Accounts, sessions, a membership change, then messages and marks, now and then nothing."""
    if index == CHANGE_AT:
        data = encode_conf_change(addition(MemberRow(NEWCOMER, "n14", "10.0.0.14:7000", "10.0.0.14:7001")))
        return Entry(term_at(index), Index(index), EntryType.CONF_CHANGE_V2, data)
    turn = index - CHANGE_AT
    session, recipient = (1, "bob") if index % 2 else (2, "ada")
    if index <= 2:
        commands = [register(("ada", "bob")[index - 1])]
    elif index <= 4:
        commands = [open_session(index - 2, index, index)]
    elif index % 10 == 0:
        commands = []
    elif index % 7 == 0:
        commands = [mark_delivered(session, 100), mark_read(session, 1, 100)]
    else:
        commands = [sends(session, (turn // 2 + 1, recipient, f"message {index} " + "x" * (index * 371 % 2000)))]
    data = payload(commands, START_MS + index) if commands else b""
    return Entry(term_at(index), Index(index), EntryType.NORMAL, data)


def committed(entry: Entry) -> CommittedEntry:
    """The entry as the state machine is given it."""
    if entry.type is EntryType.NORMAL:
        return CommittedEntry(entry.index, entry.term, entry.data)
    change = describe_change(entry.data, members_at(entry.index))
    return CommittedEntry(entry.index, entry.term, b"", change)


def look_at(machine: StateMachine, path: Path) -> State:
    """Everything in a state machine."""
    return State(machine.applied_index, machine.applied_term, machine.membership, machine.state_hash, dump(path))


def make_history(folder: Path) -> History:
    """Apply the whole list once, in a folder of its own."""
    entries = tuple(entry_at(index) for index in range(1, LAST + 1))
    path = folder / "state.sqlite"
    rows = [MemberRow(f.node_id, f.name, f.peer_address, f.client_address) for f in BOOTSTRAP_MEMBERS]
    snapshots: dict[int, SnapshotFile] = {}
    with _closing(StateMachine.create(path, rows, encode_membership(FIRST_MEMBERS))) as machine:
        states = [look_at(machine, path)]
        for entry in entries:
            machine.apply([committed(entry)])
            states.append(look_at(machine, path))
            if entry.index in SNAPSHOTS:
                target = folder / f"snapshot-{entry.index}.sqlite"
                snapshots[entry.index] = write_snapshot(path, target, snapshot_meta)
    return History(entries, tuple(states), snapshots)


@contextmanager
def _closing(machine: StateMachine) -> Iterator[StateMachine]:
    try:
        yield machine
    finally:
        machine.close()
