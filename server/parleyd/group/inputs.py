"""Everything that can happen to a group: the closed set of inputs of `Group.handle`.

A caller that waits for an answer has a token: a number that the shell draws and never uses again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parley_proto.v1 import state_pb2
from parleyd.group.member_room import Room
from parleyd.membership.members import ClusterMembers
from parleyd.membership.rules import MembershipRequest
from parleyd.raft.messages import Message
from parleyd.raft.types import Index, NodeId, SnapshotMeta

# ---- time and peers


@dataclass(frozen=True, slots=True)
class TimePassed:
    """The time `Group.next_deadline_ms` may have come."""


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A message came from another node."""

    message: Message


@dataclass(frozen=True, slots=True)
class SnapshotReceived:
    """A snapshot of another node is stored here; answered by SnapshotAnswered."""

    token: int
    message: Message


@dataclass(frozen=True, slots=True)
class PeerLost:
    """The connection to `node` broke."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class PeerUnreachable:
    """Messages to `node` were dropped."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class RoomReported:
    """A member, this node included, reports the room on its disk."""

    node: NodeId
    room: Room


@dataclass(frozen=True, slots=True)
class ClockReported:
    """Another member reports what its wall clock shows, Unix time in milliseconds."""

    node: NodeId
    wall_ms: int


@dataclass(frozen=True, slots=True)
class LagReported:
    """Another member reports how late its event loop is."""

    node: NodeId
    lag_ms: int


@dataclass(frozen=True, slots=True)
class SnapshotSent:
    """A snapshot transfer to `node` ended."""

    node: NodeId
    ok: bool


# ---- callers


@dataclass(frozen=True, slots=True)
class ProposeCommands:
    """Put `commands` in the log, all in one entry; answered by CommandsAnswered."""

    token: int
    commands: Sequence[state_pb2.Command]


@dataclass(frozen=True, slots=True)
class ChangeMembers:
    """Propose a membership change, if it is allowed now; answered by CommandsAnswered or ChangeRefused."""

    token: int
    request: MembershipRequest


@dataclass(frozen=True, slots=True)
class AskReadBarrier:
    """Find an index that covers every write acknowledged before now (thesis §6.4); answered by ReadAnswered."""

    token: int


@dataclass(frozen=True, slots=True)
class AwaitApplied:
    """Report when this node has applied `index`; answered by AppliedReached."""

    token: int
    index: Index


@dataclass(frozen=True, slots=True)
class TransferLeadership:
    """Transfer leadership to `target`, or to the most advanced follower if None; answered by TransferEnded."""

    token: int
    target: NodeId | None = None


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The caller has left. What is in the log already stays there."""

    token: int


@dataclass(frozen=True, slots=True)
class Retire:
    """A member refuses this node because it was removed from the cluster."""

    told_by: str


@dataclass(frozen=True, slots=True)
class Stop:
    """The node stops. Callers that wait for the log get an error, and nothing is proposed any more."""


# ---- completions of effects


@dataclass(frozen=True, slots=True)
class Written:
    """StartWrite is durable."""


@dataclass(frozen=True, slots=True)
class EntriesApplied:
    """StartApply is done.

    `results` are aligned with its entries, `level` is the cluster's now, `members` is set where they changed.
    """

    results: Sequence[Sequence[state_pb2.CommandResult]]
    level: int
    members: ClusterMembers | None = None


@dataclass(frozen=True, slots=True)
class SnapshotInstalled:
    """StartInstall has replaced state and log; these are the members and the level of the new state."""

    members: ClusterMembers
    level: int


@dataclass(frozen=True, slots=True)
class FenceState:
    """This node's state is not trusted. It stops leading and serving until its state is replaced."""


@dataclass(frozen=True, slots=True)
class DistrustNodes:
    """No leadership is transferred to these nodes, because their states are not trusted."""

    nodes: frozenset[NodeId]


@dataclass(frozen=True, slots=True)
class SnapshotMade:
    """MakeSnapshot is done: state as of `snapshot` can be sent."""

    snapshot: SnapshotMeta


@dataclass(frozen=True, slots=True)
class SnapshotFailed:
    """MakeSnapshot could not be done, for example because the disk has no room. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """StartCheckpoint is done: the state is durable up to this index."""

    durable_index: Index


@dataclass(frozen=True, slots=True)
class LogCompacted:
    """CompactLog is done: entries up to `index` are gone from disk."""

    index: Index


Input = (
    TimePassed
    | MessageReceived
    | SnapshotReceived
    | PeerLost
    | PeerUnreachable
    | RoomReported
    | ClockReported
    | LagReported
    | SnapshotSent
    | ProposeCommands
    | ChangeMembers
    | AskReadBarrier
    | AwaitApplied
    | TransferLeadership
    | Withdraw
    | Retire
    | FenceState
    | DistrustNodes
    | Stop
    | Written
    | EntriesApplied
    | SnapshotInstalled
    | SnapshotMade
    | SnapshotFailed
    | Checkpointed
    | LogCompacted
)
