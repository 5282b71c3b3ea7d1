"""What a shell must do for a group: the closed set of effects that `Group.handle` returns, to be done in their order.

An effect named `Start...`, MakeSnapshot and CompactLog takes some time. Its end is an input (inputs.py). If one of them
fails, the node stops at once and never repeats it: after a failed fsync the content of the disk is unknown. Only
MakeSnapshot may fail (SnapshotFailed), because a copy changes nothing that the node needs.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from parleyd.group.errors import ProposalFailure
from parleyd.group.proposals import AppliedCommands
from parleyd.membership.members import ClusterMembers
from parleyd.membership.rules import ChangeRefusedError, NoSuchMemberError
from parleyd.raft.messages import Message
from parleyd.raft.types import ConfState, Entry, Index, NodeId, SnapshotMeta, Term
from parleyd.raft.update import Persist, RoleChange

# ---- network and disk


@dataclass(frozen=True, slots=True)
class Send:
    """Queue messages for other nodes; they may be dropped."""

    messages: Sequence[Message]


@dataclass(frozen=True, slots=True)
class StartWrite:
    """Make `writes` durable, in order and in one transaction; ends with Written."""

    writes: Sequence[Persist]


@dataclass(frozen=True, slots=True)
class StartApply:
    """Apply entries to the state machine; ends with EntriesApplied.

    `conf_state` is the membership that starts with the only entry.
    """

    entries: Sequence[Entry]
    conf_state: ConfState | None


@dataclass(frozen=True, slots=True)
class StartInstall:
    """Replace the state by the received snapshot, then the log by `write`; ends with SnapshotInstalled."""

    snapshot: SnapshotMeta
    write: Persist


@dataclass(frozen=True, slots=True)
class StartCheckpoint:
    """Make the state durable; ends with Checkpointed."""


@dataclass(frozen=True, slots=True)
class CompactLog:
    """Remove the entries up to `snapshot.index` from the log's file; ends with LogCompacted."""

    snapshot: SnapshotMeta


@dataclass(frozen=True, slots=True)
class MakeSnapshot:
    """Copy the state for followers that need entries that are not in the log any more.

    It ends with SnapshotMade or SnapshotFailed.
    """

    nodes: Sequence[NodeId]


# ---- answers to callers


@dataclass(frozen=True, slots=True)
class CommandsAnswered:
    """The outcome of commands or of a membership change."""

    token: int
    outcome: AppliedCommands | ProposalFailure


@dataclass(frozen=True, slots=True)
class ChangeRefused:
    """A membership change is not allowed now; nothing was proposed."""

    token: int
    error: ChangeRefusedError | NoSuchMemberError


@dataclass(frozen=True, slots=True)
class ReadAnswered:
    """State applied up to `index` has every write acknowledged before the caller asked."""

    token: int
    index: Index


@dataclass(frozen=True, slots=True)
class AppliedReached:
    """The index that the caller waits for is applied here."""

    token: int


@dataclass(frozen=True, slots=True)
class SnapshotAnswered:
    """Whether a received snapshot will be installed. If not, its file is of no use."""

    token: int
    snapshot: SnapshotMeta
    is_taken: bool


@dataclass(frozen=True, slots=True)
class TransferEnded:
    """The end of a transfer. `transferred`: this node does not lead any more."""

    token: int
    transferred: bool


# ---- news for the node


@dataclass(frozen=True, slots=True)
class RoleChanged:
    """Role, term or leader has changed."""

    change: RoleChange


class ElectionReason(enum.Enum):
    """Why a node asks for votes."""

    NO_LEADER_HEARD = "no leader was heard for an election timeout"
    LEADER_DISCONNECTED = "the connection to the leader broke"
    LEADER_SILENT = "the leader was silent for longer than it ever is"
    LEADER_TRANSFERS = "the leader transfers leadership to this node"


@dataclass(frozen=True, slots=True)
class ElectionStarted:
    """This node asks for votes, or whether it would get them, after `term`."""

    term: Term
    reason: ElectionReason


@dataclass(frozen=True, slots=True)
class VoteGiven:
    """This node votes for `candidate` in `term`, as soon as that is on disk."""

    term: Term
    candidate: NodeId


@dataclass(frozen=True, slots=True)
class MembersChanged:
    """The new members."""

    members: ClusterMembers


@dataclass(frozen=True, slots=True)
class StateReplaced:
    """A snapshot replaced the state. Streams that were read from the old one may have gaps."""

    snapshot: SnapshotMeta


@dataclass(frozen=True, slots=True)
class NodeRetired:
    """This node was removed from the cluster. It stands for no election and serves no clients any more."""

    told_by: str


@dataclass(frozen=True, slots=True)
class DiskStalled:
    """A write takes too long. Leadership is transferred to `target`."""

    target: NodeId


@dataclass(frozen=True, slots=True)
class LoopJudged:
    """This node's event loop lags for long now, or does not any more. `lag_ms` is what half of its time exceeds."""

    is_lagging: bool
    lag_ms: float


@dataclass(frozen=True, slots=True)
class LoopLags:
    """This leader's event loop lags. Leadership is transferred to `target`, which is punctual."""

    target: NodeId


@dataclass(frozen=True, slots=True)
class ClocksJudged:
    """Other clocks than before are wrong. `offsets_ms`: how far each is ahead of a majority's time, or behind it."""

    offsets_ms: Mapping[NodeId, int]


@dataclass(frozen=True, slots=True)
class EntriesLost:
    """This node's disk lost entries that it had confirmed; `detail` has the indexes. It takes part in nothing more."""

    detail: str


@dataclass(frozen=True, slots=True)
class MessageDropped:
    """A message violates the protocol; nothing was changed."""

    sender: NodeId
    why: str


Effect = (
    Send
    | StartWrite
    | StartApply
    | StartInstall
    | StartCheckpoint
    | CompactLog
    | MakeSnapshot
    | CommandsAnswered
    | ChangeRefused
    | ReadAnswered
    | AppliedReached
    | SnapshotAnswered
    | TransferEnded
    | RoleChanged
    | ElectionStarted
    | VoteGiven
    | MembersChanged
    | StateReplaced
    | NodeRetired
    | DiskStalled
    | LoopJudged
    | LoopLags
    | ClocksJudged
    | EntriesLost
    | MessageDropped
)
