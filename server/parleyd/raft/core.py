"""The mutable state that the parts of the protocol share, and the output they fill.

Each part (election, replication, reads, reconfiguration, snapshots, transfer) is a module of functions over one Core. A
Core is private to this package: `Raft` owns it and converts the output into an Update after every step.
"""

from __future__ import annotations

import random

from parleyd.raft.config import InitialState, RaftConfig
from parleyd.raft.inflights import Inflights
from parleyd.raft.log import RaftLog
from parleyd.raft.membership import check_conf_state, members_of
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.progress import Progress
from parleyd.raft.quorum import VoteResult, joint_committed_index, joint_vote_result
from parleyd.raft.readqueue import ReadQueue
from parleyd.raft.types import (
    NO_INDEX,
    NO_NODE,
    NO_TERM,
    ConfState,
    Entry,
    HardState,
    Index,
    NodeId,
    Role,
    SnapshotMeta,
    Term,
)
from parleyd.raft.update import ReadReady

PROMISES = frozenset({MessageType.APPEND_RESPONSE, MessageType.VOTE_RESPONSE, MessageType.PRE_VOTE_RESPONSE})
"""Answers about the durable state of this server, which therefore wait until it is durable."""


class StepOutput:
    """The output of the current step so far."""

    __slots__ = ("dropped_reads", "need_snapshot_for", "promises", "reads", "send", "to_self")

    def __init__(self) -> None:
        self.send: list[Message] = []
        self.promises: list[Message] = []
        self.to_self: list[Message] = []
        self.reads: list[ReadReady] = []
        self.dropped_reads: list[bytes] = []
        self.need_snapshot_for: list[NodeId] = []

    def is_empty(self) -> bool:
        """Return whether the step has no output."""
        return not (
            self.send or self.promises or self.to_self or self.reads or self.dropped_reads or self.need_snapshot_for
        )


class Core:
    """All state of one server, with the names of the paper.

    `progress` is sorted by node id, so that its order is the same on every run. `transferee` is the node to which
    leadership is being transferred. `pending_conf_index` is the last membership entry that this leader appended. The
    leader takes no further one until that is applied. `uncommitted_bytes` is the size of the entries that this leader
    has accepted but not applied. `may_lead` is False from StopCampaigning to ResumeCampaigning.
    """

    __slots__ = (
        "conf_state",
        "config",
        "current_term",
        "election_elapsed",
        "heartbeat_elapsed",
        "id",
        "leader",
        "log",
        "may_lead",
        "members",
        "output",
        "pending_conf_index",
        "progress",
        "random",
        "randomized_timeout_ticks",
        "reads",
        "role",
        "snapshot_available",
        "transferee",
        "uncommitted_bytes",
        "voted_for",
        "votes",
    )

    def __init__(self, config: RaftConfig, initial: InitialState) -> None:
        check_conf_state(initial.conf_state)
        self.config = config
        self.id = config.node_id
        self.random = random.Random(f"{config.seed}/{config.node_id}")  # noqa: S311 (not for secrets)
        self.log = RaftLog(
            start=initial.snapshot_index,
            start_term=initial.snapshot_term,
            entries=initial.entries,
            commit_index=initial.hard_state.commit_index,
            applied_index=initial.applied_index,
            max_applying_bytes=config.max_applying_bytes,
            apply_unstable=config.apply_unstable,
        )
        self.current_term = initial.hard_state.current_term
        self.voted_for = initial.hard_state.voted_for
        self.role = Role.FOLLOWER
        self.leader = NO_NODE
        self.may_lead = True
        self.transferee = NO_NODE
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.randomized_timeout_ticks = 0
        self.pending_conf_index = NO_INDEX
        self.uncommitted_bytes = 0
        self.votes: dict[NodeId, bool] = {}
        self.reads = ReadQueue(config.max_pending_reads)
        self.snapshot_available: SnapshotMeta | None = None
        self.output = StepOutput()
        self.conf_state = ConfState()
        self.members: tuple[NodeId, ...] = ()
        self.progress: dict[NodeId, Progress] = {}
        self.set_membership(initial.conf_state, fresh=members_of(initial.conf_state))

    # Membership

    def set_membership(self, conf_state: ConfState, fresh: tuple[NodeId, ...]) -> None:
        """Adopt a membership; keep the progress of nodes in it, except of those in `fresh`."""
        self.conf_state = conf_state
        self.members = members_of(conf_state)
        learners = frozenset(conf_state.learners)
        next_index = max(self.log.last_index, Index(1))
        kept = self.progress
        self.progress = {}
        for node in self.members:
            progress = kept.get(node)
            if progress is None or node in fresh:
                # Set as recently active: otherwise the first check of the quorum would count a new node as lost.
                progress = self.new_progress(NO_INDEX, next_index, is_learner=False, recent_active=True)
            progress.is_learner = node in learners
            self.progress[node] = progress

    def new_progress(self, match: Index, next_index: Index, *, is_learner: bool, recent_active: bool) -> Progress:
        """Build the record of a follower of which nothing else is known."""
        window = Inflights(self.config.max_inflight_messages, self.config.max_inflight_bytes)
        return Progress(
            match_index=match,
            next_index=next_index,
            inflights=window,
            is_learner=is_learner,
            recent_active=recent_active,
        )

    def is_only_voter(self) -> bool:
        """Return whether this server alone is a majority."""
        return self.conf_state.voters == (self.id,) and not self.conf_state.voters_outgoing

    def vote_result(self, votes: dict[NodeId, bool]) -> VoteResult:
        """Return the result of `votes` in the current membership."""
        return joint_vote_result(self.conf_state.voters, self.conf_state.voters_outgoing, votes)

    def quorum_match_index(self) -> Index:
        """Return the highest index on a majority's disks."""
        matches = {node: progress.match_index for node, progress in self.progress.items()}
        return joint_committed_index(self.conf_state.voters, self.conf_state.voters_outgoing, matches)

    def committed_in_current_term(self) -> bool:
        """Return whether this leader has committed an entry of its own term:

        only then its commit index is complete (§8).
        """
        return self.log.term(self.log.commit_index) == self.current_term

    # Output

    def send(
        self,
        kind: MessageType,
        to: NodeId,
        *,
        term: Term | None = None,
        log_term: Term = NO_TERM,
        index: Index = NO_INDEX,
        commit: Index = NO_INDEX,
        reject: bool = False,
        reject_hint: Index = NO_INDEX,
        context: bytes = b"",
        entries: tuple[Entry, ...] = (),
        snapshot: SnapshotMeta | None = None,
        is_notice: bool = False,
    ) -> None:
        """Put a message into the output; one that promises something waits there for storage."""
        message = Message(
            type=kind,
            sender=self.id,
            to=to,
            term=self.current_term if term is None else term,
            log_term=log_term,
            index=index,
            commit=commit,
            reject=reject,
            reject_hint=reject_hint,
            context=context,
            entries=entries,
            snapshot=snapshot,
            is_notice=is_notice,
        )
        if kind not in PROMISES:
            self.output.send.append(message)
        elif to == self.id:
            self.output.to_self.append(message)
        else:
            self.output.promises.append(message)

    def hard_state(self) -> HardState:
        """Return what must be on disk before any message that depends on it is sent."""
        return HardState(self.current_term, self.voted_for, self.log.commit_index)
