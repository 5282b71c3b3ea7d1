"""The state of a Raft, for operators, metrics and tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from parleyd.raft.progress import ProgressState
from parleyd.raft.types import ConfState, Index, NodeId, Role, Term


@dataclass(frozen=True, slots=True)
class ProgressStatus:
    """A leader's view of one node; `inflight` counts messages, `pending_snapshot` is 0 without one."""

    match_index: Index
    next_index: Index
    state: ProgressState
    inflight: int
    recent_active: bool
    paused: bool
    pending_snapshot: Index
    is_learner: bool


@dataclass(frozen=True, slots=True)
class RaftStatus:
    """The state of one server at one moment; `progress` is empty except on a leader, and sorted by node."""

    id: NodeId
    role: Role
    term: Term
    voted_for: NodeId
    leader: NodeId
    commit_index: Index
    applied_index: Index
    first_index: Index
    last_index: Index
    conf_state: ConfState
    transferee: NodeId
    uncommitted_bytes: int
    progress: Mapping[NodeId, ProgressStatus]
