"""Begins the next generation in a state file that nobody else uses: a cluster of one node goes on from there.

It is one transaction. It changes:

- the membership: this node alone, and all others are recorded as removed, so their directories never join again
- the generation: the second in which it begins, or one more if that is not higher. By it clients and nodes distinguish
  this life from the one before, and from another one that began with the same state, as after a second restore
- the position: GAP entries further, in a term above every earlier one
- the counters of ids: GAP further for messages, ID_GAP for accounts, sessions, devices and conversations
- the state hash: everything before, and a payload that says what was done

The gaps are for what the old cluster did after the entry at which this life begins. Devices still have messages and
conversations from then. No id of the new life is equal to one of those, unless the old cluster gave out more ids after
that entry than a gap has (docs/adr/0019-restore-and-recover.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import apsw

from parleyd.machine.audit_actions import AuditAction
from parleyd.machine.entries import next_hash
from parleyd.machine.errors import MachineStorageError
from parleyd.machine.features import audit, generations, members
from parleyd.machine.features.generations import GENERATIONS_LEVEL, GenerationKind, GenerationRow
from parleyd.machine.files import fsync_path, open_writer, storage_faults
from parleyd.machine.limits import GROUP_SHIFT, MAX_ID
from parleyd.machine.records import CommittedEntry, MemberRow, MembershipChange
from parleyd.machine.state import Meta, State

GAP: Final = 1 << 32
ID_GAP: Final = 1 << 20
_LARGEST_COUNTER: Final = (1 << GROUP_SHIFT) - 1
_WIDE = ("applied_index", "last_message_id")
_AUDITED = {
    GenerationKind.RESTORED: AuditAction.CLUSTER_RESTORED,
    GenerationKind.RECOVERED: AuditAction.CLUSTER_RECOVERED,
}
_NARROW = ("last_account_id", "last_session_id", "last_device_id", "last_conversation_id")


@dataclass(frozen=True, slots=True)
class NewGeneration:
    """What the next generation begins with. `membership` is the encoded membership of `own` alone."""

    kind: GenerationKind
    own: MemberRow
    membership: bytes
    term: int
    began_at_ms: int


@dataclass(frozen=True, slots=True)
class Begun:
    """Where the new generation begins."""

    generation: int
    index: int
    term: int


def begin_generation(path: Path, new: NewGeneration) -> Begun:
    """Change the state in `path` to the beginning of its next generation; the file is complete and durable afterwards.

    `path` must be a copy: a crash leaves it in any condition. Raises MachineDamagedError or MachineStorageError.
    """
    with storage_faults(f"beginning a generation in {path}"), _writing(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        state = State(connection)
        begun = _begin(state, new)
        state.flush()
        state.write_meta()
        connection.execute("COMMIT")
    with storage_faults(f"syncing {path}"):
        fsync_path(path)
    return begun


def _begin(state: State, new: NewGeneration) -> Begun:
    meta = state.meta
    after_index = meta.applied_index
    _leave_gaps(meta)
    meta.generation = max(meta.generation + 1, new.began_at_ms // 1000)
    meta.applied_term = new.term
    meta.membership = new.membership
    audit.record(
        state,
        audit.OPERATOR,
        _AUDITED[new.kind],
        f"generation {meta.generation}",
        f"after entry {after_index}",
        index=meta.applied_index,
        at_ms=new.began_at_ms,
    )
    # The others go first: one of them may have had the name of this node, which its admission frees again.
    members.change(state, MembershipChange(new.membership, (new.own.node_id,)))
    # An entry that no majority had may have removed this node.
    state.connection.execute("DELETE FROM removed_members WHERE node_id = ?", (new.own.node_id,))
    change = MembershipChange(new.membership, (new.own.node_id,), (new.own,))
    members.change(state, change)
    if meta.level >= GENERATIONS_LEVEL:
        row = GenerationRow(meta.generation, new.kind, new.began_at_ms, after_index)
        generations.insert(state.connection, row)
    payload = f"generation {meta.generation} {new.kind.name} {new.began_at_ms}".encode()
    meta.state_hash = next_hash(meta.state_hash, CommittedEntry(meta.applied_index, new.term, payload, change), ())
    return Begun(meta.generation, meta.applied_index, meta.applied_term)


def _leave_gaps(meta: Meta) -> None:
    for names, gap, most in ((_WIDE, GAP, _LARGEST_COUNTER), (_NARROW, ID_GAP, MAX_ID)):
        for name in names:
            value = getattr(meta, name) + gap
            if value > most:
                raise MachineStorageError(
                    f"the counter {name} has no room for another generation. Nothing was changed. Report it"
                )
            setattr(meta, name, value)


@contextmanager
def _writing(path: Path) -> Iterator[apsw.Connection]:
    """Open the file, and leave it without a write-ahead log: everything is in the one file when this ends."""
    connection = open_writer(path)
    try:
        yield connection
        if connection.in_transaction or connection.pragma("journal_mode", "delete") != "delete":
            raise MachineStorageError(f"{path} is in use by another program")
    finally:
        connection.close()
