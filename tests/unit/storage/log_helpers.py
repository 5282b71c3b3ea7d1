"""Short ways to say what goes into a log."""

from __future__ import annotations

from parleyd.raft.types import ConfState, Entry, EntryType, HardState, Index, NodeId, SnapshotMeta, Term
from parleyd.raft.update import Persist

BOOTSTRAP_MEMBERS = ConfState(voters=(NodeId(1), NodeId(2), NodeId(3)))


def hard_state(term: int, vote: int = 0, commit: int = 0) -> HardState:
    return HardState(Term(term), NodeId(vote), Index(commit))


def entries(term: int, first: int, last: int, data: bytes = b"data") -> tuple[Entry, ...]:
    return tuple(Entry(Term(term), Index(index), EntryType.NORMAL, data) for index in range(first, last + 1))


def write(term: int, first: int, last: int, data: bytes = b"data") -> Persist:
    return Persist(entries=entries(term, first, last, data))


def meta(index: int, term: int, conf_state: ConfState = BOOTSTRAP_MEMBERS) -> SnapshotMeta:
    return SnapshotMeta(Index(index), Term(term), conf_state)
