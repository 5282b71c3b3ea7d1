"""A stopped node with a cluster's history, and backups of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from parley_proto.v1 import state_pb2 as pb
from parleyd.backup.making import Backups
from parleyd.group.opening import create_files, open_files
from parleyd.machine.levels import MAX_LEVEL, MIN_LEVEL
from parleyd.machine.machine import StateMachine
from parleyd.membership.entries import to_committed
from parleyd.raft.types import Entry, HardState, Index, NodeId, Term
from parleyd.raft.update import Persist
from parleyd.storage import identity as identities
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.identity import NodeIdentity, PeerInfo, cluster_id_of
from tests.unit.machine.harness import START_MS, open_session, register

TERM = Term(7)
MEMBERS = tuple(
    PeerInfo(NodeId(number), f"n{number}", f"10.0.0.{number}:7700", f"10.0.0.{number}:7600", MIN_LEVEL, MAX_LEVEL)
    for number in (1, 2, 3)
)
IDENTITY = NodeIdentity(NodeId(1), "n1", cluster_id_of(MEMBERS), MEMBERS)
ANN = 1


def batch(*commands: pb.Command, level: int = MIN_LEVEL) -> bytes:
    return pb.CommandBatch(level=level, proposed_at_ms=START_MS, commands=commands).SerializeToString()


def raising(up_to: int) -> list[bytes]:
    """The entries that raise the level."""
    return [
        batch(pb.Command(raise_level=pb.RaiseLevel(level=level + 1, release="0.2.0")), level=level)
        for level in range(MIN_LEVEL, up_to)
    ]


def history(level: int = MAX_LEVEL, people: int = 3) -> list[bytes]:
    """Accounts, and a session of the first one."""
    return [
        *raising(level),
        *(batch(register(f"person{number}"), level=level) for number in range(people)),
        batch(open_session(ANN, token=1, device=1), level=level),
    ]


def make_node(
    folder: Path, payloads: Sequence[bytes], *, commit: int | None = None, applied: int | None = None
) -> None:
    """A stopped node: all `payloads` are in its log, `commit` of them are known to be committed, `applied` applied."""
    commit = len(payloads) if commit is None else commit
    applied = commit if applied is None else applied
    with DataDirectory.open(folder) as data:
        create_files(data, IDENTITY)
        identities.save(data.identity, IDENTITY)
        log, machine = open_files(data)
        entries = tuple(Entry(TERM, Index(index), data=payload) for index, payload in enumerate(payloads, 1))
        log.append([Persist(hard_state=HardState(TERM, NodeId(2), Index(commit)), entries=entries)])
        if applied:
            machine.apply(to_committed(entries[:applied], None))
        log.close()
        machine.close()


def make_backup(data: DataDirectory, folder: Path) -> Path:
    """A backup of a node's state."""

    async def yes() -> bool:
        return True

    folder.mkdir(exist_ok=True)
    return asyncio.run(Backups(data, IDENTITY, yes).write_into(folder))


def facts(state: Path) -> tuple[int, int, bytes, int]:
    """Position, hash and generation of a state."""
    with closing(StateMachine.open(state)) as machine:
        return machine.applied_index, machine.applied_term, machine.state_hash, machine.generation


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
