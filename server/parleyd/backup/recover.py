"""Makes a cluster of one node from the directory of one that has lost its majority for good.

Everything that this node has counts, also the entries at the end of its log that no majority confirmed to it: a message
that was acknowledged may be among them. What only the other nodes had is lost.

The recovered state is made as a copy: the rest of the log is applied, and the next generation is begun in it. Then it
replaces the state by the steps of storage/snapshots.py. From there on, any start finds that the state is beyond the
log, and starts the log at the state's position (storage/recovery.py). So a crash at any moment leaves the old
directory or the recovered one, complete. A repeated recovery finds that this node is alone, and changes nothing.

Node id and cluster id stay. The others are recorded as removed, so this node refuses them. If the ids changed, a second
file would have to change together with the state. Only this node's state has the next generation, by which clients
distinguish it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from parleyd.backup.errors import RecoveryRefusedError
from parleyd.group.opening import open_files, recover, snapshot_meta
from parleyd.machine.features.generations import GenerationKind
from parleyd.machine.machine import StateMachine
from parleyd.machine.new_generation import Begun, NewGeneration, begin_generation
from parleyd.machine.records import MemberRow
from parleyd.membership.entries import to_committed
from parleyd.raft.membership import MembershipError, change_membership, decode_conf_change
from parleyd.raft.types import ConfState, Entry, EntryType
from parleyd.storage import fence as fences
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.identity import NodeIdentity
from parleyd.storage.raft_storage import RaftStorage
from parleyd.storage.recovery import Recovered
from parleyd.storage.snapshots import install
from parleyd.transport.codec import encode_membership

_ENTRIES_PER_APPLY = 512


@dataclass(frozen=True, slots=True)
class Survey:
    """What a stopped node has, and what it knows of the others."""

    cluster_id: str
    generation: int
    level: int
    own: MemberRow
    is_voter: bool
    others: tuple[MemberRow, ...]
    applied_index: int
    commit_index: int
    last_index: int
    last_term: int
    current_term: int
    fence: str  # why this node's state is not trusted; empty if it is

    @property
    def unconfirmed(self) -> int:
        """Return how many entries no majority has confirmed to this node."""
        return self.last_index - self.commit_index

    def lines(self) -> list[str]:
        """Return what a person has to know before a recovery."""
        role = "a voter" if self.is_voter else "a learner, whose state may lag far behind"
        lines = [
            f"This node is {self.own.name}, {role} of cluster {self.cluster_id}, generation {self.generation}.",
            f"Its log ends at entry {self.last_index} of term {self.last_term}. Its term is {self.current_term}.",
            f"Entries up to {self.commit_index} are confirmed by a majority, as far as this node knows.",
            f"{self.unconfirmed} entries after that are in its log only, or the confirmation did not arrive. "
            "They will count, too.",
            "Entries that only other nodes have will be lost, and so will the messages in them.",
            "The other members, as this node knows them:",
            *(f"  {row.name}  {row.peer_address}  {row.client_address}" for row in self.others),
            "They will be recorded as removed. Never start them again with their data: a majority of them would go on "
            "as a second cluster, and devices would send to either.",
        ]
        return [*lines, f"This node's state is not trusted: {self.fence}"] if self.fence else lines


class Recovery:
    """The files of a stopped node, open. `survey` says what it has; `carry_out` makes it the only member."""

    def __init__(
        self, data: DataDirectory, identity: NodeIdentity, log: RaftStorage, machine: StateMachine, recovered: Recovered
    ) -> None:
        self._data = data
        self._identity = identity
        self._log = log
        self._machine = machine
        self._recovered = recovered
        self.survey = self._look()

    @classmethod
    @contextmanager
    def open(cls, data: DataDirectory, identity: NodeIdentity) -> Iterator[Recovery]:
        """Have the files open while inside. Raises RecoveryRefusedError where there is nothing to recover.

        What a start repairs after a crash is repaired. Raises StorageError and MachineDamagedError like a start.
        """
        if not identity.has_cluster:
            raise RecoveryRefusedError(
                f"{data.path} belongs to no cluster yet. Nothing was changed. Start the node, or restore a backup"
            )
        log, machine = open_files(data)
        recovery = None
        try:
            recovery = cls(data, identity, log, machine, recover(log, machine))
            yield recovery
        finally:
            log.close()
            (machine if recovery is None else recovery._machine).close()

    def _look(self) -> Survey:
        members, recovered = self._machine.members(), self._recovered
        own = next((row for row in members.rows if row.node_id == self._identity.node_id), None)
        if own is None:
            raise RecoveryRefusedError(
                f"this node ({self._identity.name}) is no member of its cluster any more. Nothing was changed. Recover "
                "from a node that is a member, or restore a backup"
            )
        others = tuple(row for row in members.rows if row is not own)
        conf_state = recovered.conf_state
        if not others and conf_state == ConfState(voters=(self._identity.node_id,)):
            raise RecoveryRefusedError(
                f"this node ({own.name}) is the only member of its cluster: no majority is lost. Nothing was changed. "
                f"Start it. Its generation is {self._machine.generation}"
            )
        last = recovered.entries[-1] if recovered.entries else None
        fence = fences.load(self._data.fence)
        return Survey(
            cluster_id=self._identity.cluster_id,
            generation=self._machine.generation,
            level=self._machine.level,
            own=own,
            is_voter=self._identity.node_id in conf_state.voters,
            others=others,
            applied_index=recovered.applied_index,
            commit_index=recovered.hard_state.commit_index,
            last_index=recovered.snapshot.index if last is None else last.index,
            last_term=recovered.snapshot.term if last is None else last.term,
            current_term=recovered.hard_state.current_term,
            fence="" if fence is None else fence.reason,
        )

    def carry_out(self, now_ms: Callable[[], int]) -> Begun:
        """Make this node the only member, in the next generation.

        Raises CopyFailedError, which changes nothing, if there is no room for a copy of the state.
        """
        copy = self._data.copy_state("recovering.sqlite", snapshot_meta).path
        try:
            apply_rest(copy, self._recovered)
            alone = encode_membership(ConfState(voters=(self._identity.node_id,)))
            term = max(self.survey.current_term, self.survey.last_term) + 1
            kind = GenerationKind.RECOVERED
            begun = begin_generation(copy, NewGeneration(kind, self.survey.own, alone, term, now_ms()))
        except BaseException:
            copy.unlink(missing_ok=True)
            raise
        self._machine.close()
        install(copy, self._data.state_db)
        self._machine = StateMachine.open(self._data.state_db)
        recover(self._log, self._machine)
        fences.clear(self._data.fence)
        return begun


def apply_rest(state: Path, recovered: Recovered) -> None:
    """Apply all entries of the log that the state in this file does not have."""
    rest = [entry for entry in recovered.entries if entry.index > recovered.applied_index]
    conf_state = recovered.conf_state
    with closing(StateMachine.open(state)) as machine:
        for part in _parts(rest):
            if part[0].type is EntryType.NORMAL:
                machine.apply(to_committed(part, None))
                continue
            [entry] = part
            conf_state = _after(conf_state, entry)
            machine.apply(to_committed(part, conf_state))


def _after(conf_state: ConfState, entry: Entry) -> ConfState:
    """Return the membership after an entry. One that does not fit changes nothing: no majority had it."""
    try:
        return change_membership(conf_state, decode_conf_change(entry.data)).conf_state if entry.data else conf_state
    except (MembershipError, ValueError):
        return conf_state


def _parts(entries: list[Entry]) -> Iterator[list[Entry]]:
    """Divide entries into runs of normal ones and single membership entries."""
    part: list[Entry] = []
    for entry in entries:
        if part and (
            entry.type is not EntryType.NORMAL
            or part[0].type is not EntryType.NORMAL
            or len(part) == _ENTRIES_PER_APPLY
        ):
            yield part
            part = []
        part.append(entry)
    if part:
        yield part
