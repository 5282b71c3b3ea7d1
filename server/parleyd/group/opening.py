"""Makes a group's files once, and opens them at every start."""

from __future__ import annotations

import dataclasses
from contextlib import closing

import apsw
import structlog

from parleyd.machine.features import generations
from parleyd.machine.features.generations import GenerationKind
from parleyd.machine.files import WRITER_CACHE_BYTES
from parleyd.machine.machine import StateMachine
from parleyd.machine.reader import StateReader, position
from parleyd.machine.records import MemberRow
from parleyd.raft.types import ConfState, Index, NodeId, SnapshotMeta, Term
from parleyd.storage import identity as identities
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.identity import NodeIdentity
from parleyd.storage.raft_storage import RaftStorage
from parleyd.storage.recovery import Recovered, reconcile
from parleyd.transport.codec import decode_membership, encode_membership


def create_files(data: DataDirectory, bootstrapped: NodeIdentity) -> None:
    """Make the log and the state of a new cluster with these bootstrap members."""
    voters = ConfState(voters=tuple(sorted(NodeId(first.node_id) for first in bootstrapped.bootstrap_members)))
    log = RaftStorage.open(data.raft_db)
    log.initialize(voters)
    log.close()
    # Without keys: the first state is the same on every node, whenever it is made.
    members = [MemberRow(*dataclasses.astuple(first)[:6]) for first in bootstrapped.bootstrap_members]
    StateMachine.create(data.state_db, members, encode_membership(voters)).close()


def open_files(data: DataDirectory, cache_bytes: int = WRITER_CACHE_BYTES) -> tuple[RaftStorage, StateMachine]:
    """Open log and state. Log and identity take the newest format that the cluster's level, from the state, allows."""
    machine = StateMachine.open(data.state_db, cache_bytes=cache_bytes)
    try:
        identities.load(data.identity, machine.level)
        return RaftStorage.open(data.raft_db, level=machine.level), machine
    except BaseException:
        machine.close()
        raise


def recover(log: RaftStorage, machine: StateMachine) -> Recovered:
    """Bring log and state together after a stop or a crash."""
    recovered = reconcile(
        log.load(), Index(machine.applied_index), Term(machine.applied_term), decode_membership(machine.membership)
    )
    if recovered.repair is not None:
        log.append([recovered.repair])
    structlog.get_logger("group").info(
        "state_recovered",
        applied=recovered.applied_index,
        last=recovered.entries[-1].index if recovered.entries else recovered.snapshot.index,
        term=recovered.hard_state.current_term,
        generation=machine.generation,
    )
    return recovered


def snapshot_meta(connection: apsw.Connection) -> SnapshotMeta:
    """Return position and membership of a state, which describe a copy of it."""
    index, term, membership = position(connection)
    return SnapshotMeta(Index(index), Term(term), decode_membership(membership))


def log_generation(data: DataDirectory) -> None:
    """Log how the present generation of the cluster began, unless it is the first."""
    with closing(StateReader.open(data.state_db)) as reader:
        known = generations.all_of(reader)
    for row in known[-1:]:
        structlog.get_logger("group").warning(
            "cluster_was_recovered" if row.kind == GenerationKind.RECOVERED else "cluster_was_restored",
            generation=row.generation,
            began_at_ms=row.began_at_ms,
            after_index=row.after_index,
        )
