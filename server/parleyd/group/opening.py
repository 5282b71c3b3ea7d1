"""Makes a group's files once, and opens them at every start."""

from __future__ import annotations

import dataclasses

import structlog

from parleyd.machine.machine import StateMachine
from parleyd.machine.records import MemberRow
from parleyd.raft.types import ConfState, Index, NodeId, Term
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


def open_files(data: DataDirectory) -> tuple[RaftStorage, StateMachine]:
    """Open log and state. Log and identity take the newest format that the cluster's level, from the state, allows."""
    machine = StateMachine.open(data.state_db)
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
    )
    return recovered
