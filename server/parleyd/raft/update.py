"""What a server must do after a step: the only output of the consensus core.

The rules:
1. `send` may be sent at once: nothing in it promises what is not yet durable. A leader's entries are here too; they may
   reach followers before its own disk.
2. `after_persist` is sent only when `persist` (and every earlier one) is durable; then `persist.done` is stepped back
   in. `after_persist` is never given without a `persist`, which may be an empty write that only keeps order.
3. `persist` writes are carried out in the order they were given, each atomic: hard state and entries together. Entries
   replace whatever the log has from their first index on. `snapshot` replaces state machine and log.
4. `committed` entries are applied in order, each given out once. Unless `RaftConfig.apply_unstable` is set, they are
   durable here as well, so that a state machine is never ahead of its own log. Hard state never goes backwards.
5. Several persists may be carried out in one transaction, in order, under one fsync; each `done` is stepped after it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from parleyd.raft.events import Persisted
from parleyd.raft.messages import Message
from parleyd.raft.types import NO_TERM, Entry, HardState, Index, NodeId, Role, SnapshotMeta, Term


@dataclass(frozen=True, slots=True)
class Persist:
    """One durable write. `hard_state` None: unchanged. `must_sync` False: only the commit index moved."""

    hard_state: HardState | None = None
    entries: tuple[Entry, ...] = ()
    snapshot: SnapshotMeta | None = None
    must_sync: bool = True
    done: Persisted = field(default_factory=lambda: Persisted(term=NO_TERM))


@dataclass(frozen=True, slots=True)
class ReadReady:
    """The read `context` is linearizable once the state machine has applied `index`."""

    context: bytes
    index: Index


@dataclass(frozen=True, slots=True)
class RoleChange:
    """The server's role and leader, reported whenever any of it changed."""

    role: Role
    term: Term
    leader: NodeId  # NO_NODE while none is known


class Refusal(enum.Enum):
    """Why a leader, or a server that does not lead, accepted nothing into its log."""

    NOT_LEADER = "not-leader"  # also where no leader is known
    TRANSFERRING = "transferring"  # leadership is being transferred
    OVERLOADED = "overloaded"  # the unapplied entries are at their bound
    CONF_CHANGE_PENDING = "conf-change-pending"


@dataclass(frozen=True, slots=True)
class Proposed:
    """Answer to one Propose: `first_index` of its entries, or 0 and the `refusal` if it was not accepted."""

    first_index: Index
    term: Term
    count: int
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """All output of a step; empty fields mean nothing to do."""

    persist: Persist | None = None
    send: tuple[Message, ...] = ()
    after_persist: tuple[Message, ...] = ()
    committed: tuple[Entry, ...] = ()
    reads: tuple[ReadReady, ...] = ()
    role: RoleChange | None = None
    proposed: Proposed | None = None
    dropped_reads: tuple[bytes, ...] = ()
    need_snapshot_for: tuple[NodeId, ...] = ()
