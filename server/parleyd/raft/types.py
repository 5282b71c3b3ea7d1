"""The types of the consensus core: ids, entries, hard state, configuration, snapshot metadata.

All values are immutable. Nothing here does I/O, reads a clock or depends on the wire format.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NewType

NodeId = NewType("NodeId", int)
Term = NewType("Term", int)
Index = NewType("Index", int)

NO_NODE = NodeId(0)
NO_TERM = Term(0)
NO_INDEX = Index(0)


class EntryType(enum.IntEnum):
    """The meaning of an entry's data; the numbers are on the wire and on disk."""

    NORMAL = 0
    CONF_CHANGE = 1
    CONF_CHANGE_V2 = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """One slot of the log; an empty NORMAL entry is a new leader's no-op (Raft §8)."""

    term: Term
    index: Index
    type: EntryType = EntryType.NORMAL
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class HardState:
    """What a server must have on disk before it answers (Raft figure 2), and the commit index for a fast restart."""

    current_term: Term = NO_TERM
    voted_for: NodeId = NO_NODE
    commit_index: Index = NO_INDEX


@dataclass(frozen=True, slots=True)
class ConfState:
    """A membership: `voters_outgoing` is non-empty exactly in a joint configuration (Raft §6)."""

    voters: tuple[NodeId, ...] = ()
    learners: tuple[NodeId, ...] = ()
    voters_outgoing: tuple[NodeId, ...] = ()
    learners_next: tuple[NodeId, ...] = ()
    auto_leave: bool = False


@dataclass(frozen=True, slots=True)
class SnapshotMeta:
    """Identifies a snapshot: the last entry it covers and the membership as of that entry."""

    index: Index
    term: Term
    conf_state: ConfState = field(default_factory=ConfState)


class Role(enum.Enum):
    """A server's role (Raft §5.1; pre-candidate from thesis §9.6)."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"
