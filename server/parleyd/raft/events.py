"""Everything that can happen to a server: the closed set of inputs of `Raft.step`."""

from __future__ import annotations

from dataclasses import dataclass

from parleyd.raft.messages import Message
from parleyd.raft.types import NO_INDEX, NO_TERM, Index, NodeId, SnapshotMeta, Term


@dataclass(frozen=True, slots=True)
class Tick:
    """One unit of logical time has passed; election and heartbeat timeouts count these."""


@dataclass(frozen=True, slots=True)
class Receive:
    """A message arrived from the network. It may be late, duplicated, reordered or from a past membership."""

    message: Message


@dataclass(frozen=True, slots=True)
class Propose:
    """Append these payloads to the log. Only a leader accepts them; `Update.proposed` contains the outcome."""

    payloads: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ProposeConfChange:
    """Append one encoded membership change (server/parleyd/raft/membership.py)."""

    data: bytes
    v2: bool = True


@dataclass(frozen=True, slots=True)
class Persisted:
    """Storage has made durable what an `Update.persist` asked for. The core made this event itself (`Persist.done`).

    It contains the term at that time and the last entry of the log at that time. So an acknowledgement of entries that
    were overwritten since differs from a valid one (ABA across terms). `messages` are promises to this server itself
    (its own vote, its own match index), which were held back until now.
    """

    term: Term
    last_term: Term = NO_TERM
    last_index: Index = NO_INDEX
    snapshot_index: Index = NO_INDEX
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class Applied:
    """The state machine has applied committed entries up to `index`."""

    index: Index


@dataclass(frozen=True, slots=True)
class ConfChangeApplied:
    """The state machine reached a committed membership entry: the new membership starts now.

    Empty `data` means an entry that applies as no change.
    """

    data: bytes


@dataclass(frozen=True, slots=True)
class Campaign:
    """Start an election now, without waiting for the timeout."""


@dataclass(frozen=True, slots=True)
class ResumeCampaigning:
    """End a StopCampaigning: this server may stand for elections again."""


@dataclass(frozen=True, slots=True)
class StopCampaigning:
    """Stand for no election, because this server's state is not trusted. Its votes and its log still count."""


@dataclass(frozen=True, slots=True)
class ReadIndex:
    """Ask for an index at which a read is linearizable (thesis §6.4); `context` is a unique name of the request."""

    context: bytes


@dataclass(frozen=True, slots=True)
class TransferLeader:
    """Transfer leadership to `target` (thesis §3.10)."""

    target: NodeId


@dataclass(frozen=True, slots=True)
class ForgetLeader:
    """The connection to the leader broke. The leader is unknown then, so that pre-votes may be granted at once."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The transport could not deliver a message to `node`: stop optimistic replication and probe."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class SnapshotStatus:
    """A snapshot transfer to `node` ended."""

    node: NodeId
    ok: bool


@dataclass(frozen=True, slots=True)
class Compact:
    """Entries up to `index` are covered by durable state: drop them from memory. A slower follower gets a snapshot."""

    index: Index


@dataclass(frozen=True, slots=True)
class SnapshotAvailable:
    """State as of `snapshot` can be sent from now on; the answer to `Update.need_snapshot_for`."""

    snapshot: SnapshotMeta


Event = (
    Tick
    | Receive
    | Propose
    | ProposeConfChange
    | Persisted
    | Applied
    | ConfChangeApplied
    | Campaign
    | StopCampaigning
    | ResumeCampaigning
    | ReadIndex
    | TransferLeader
    | ForgetLeader
    | Unreachable
    | SnapshotStatus
    | Compact
    | SnapshotAvailable
)

__all__ = [
    "Applied",
    "Campaign",
    "Compact",
    "ConfChangeApplied",
    "Event",
    "ForgetLeader",
    "Persisted",
    "Propose",
    "ProposeConfChange",
    "ReadIndex",
    "Receive",
    "ResumeCampaigning",
    "SnapshotAvailable",
    "SnapshotStatus",
    "StopCampaigning",
    "Tick",
    "TransferLeader",
    "Unreachable",
]
