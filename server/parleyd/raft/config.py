"""Settings of a Raft server, and the durable state it starts with."""

from __future__ import annotations

from dataclasses import dataclass, field

from parleyd.raft.types import NO_INDEX, NO_NODE, NO_TERM, ConfState, Entry, HardState, Index, NodeId, Term


@dataclass(frozen=True, slots=True)
class RaftConfig:
    """Settings of one server. Every quantity is bounded.

    A server draws its election timeout from `election_timeout_ticks` on, over `election_timeout_spread_ticks` values. A
    spread of 0 means as many values as the timeout has ticks, so the result is between one and two timeouts (§9.3).
    `seed` feeds the generator of election timeouts. The node id is mixed in, so servers with one seed still differ.
    `apply_unstable` also gives out committed entries that a majority has but this server's own disk does not. A crash
    may then leave a state machine ahead of its log, and the storage must repair that. Without it, an entry is given out
    only when it is durable here as well. `lease_reads` answers reads from the leader's clock without a round of
    heartbeats. It is faster, and wrong if clocks run at different speeds. It needs `check_quorum`. With
    `commit_notices`, followers do not answer a message that brings only a commit index (replication.py).
    """

    node_id: NodeId
    election_timeout_ticks: int = 10
    election_timeout_spread_ticks: int = 0
    heartbeat_ticks: int = 1
    pre_vote: bool = True
    check_quorum: bool = True
    max_entries_bytes: int = 512 * 1024
    max_inflight_messages: int = 256
    max_inflight_bytes: int = 16 * 1024 * 1024
    max_uncommitted_bytes: int = 64 * 1024 * 1024
    max_applying_bytes: int = 8 * 1024 * 1024
    max_pending_reads: int = 4096
    step_down_on_removal: bool = True
    disable_conf_change_validation: bool = False
    apply_unstable: bool = False
    lease_reads: bool = False
    commit_notices: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot work."""
        if self.node_id == NO_NODE:
            raise ValueError("node_id must not be 0, which stands for no node")
        if self.heartbeat_ticks < 1:
            raise ValueError("heartbeat_ticks must be at least 1")
        if self.election_timeout_ticks <= self.heartbeat_ticks:
            raise ValueError("election_timeout_ticks must be greater than heartbeat_ticks, or leaders do not last")
        if self.lease_reads and not self.check_quorum:
            raise ValueError("lease_reads needs check_quorum: without it an isolated leader keeps its lease")
        if self.election_timeout_spread_ticks < 0:
            raise ValueError("election_timeout_spread_ticks must not be negative")
        for name in (
            "max_entries_bytes",
            "max_inflight_messages",
            "max_inflight_bytes",
            "max_uncommitted_bytes",
            "max_applying_bytes",
            "max_pending_reads",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")


@dataclass(frozen=True, slots=True)
class InitialState:
    """What the disk has at start.

    `snapshot_index` and `snapshot_term` identify the entry just before `entries`: the last one compacted, 0 if the log
    is complete. `conf_state` is the membership as of `applied_index`, which the state machine has. Membership entries
    above it are given out again as committed. `applied_index` may be lower than what was applied before a crash. It may
    be above `hard_state.commit_index`, which is not synced when it alone changes.
    """

    hard_state: HardState = field(default_factory=HardState)
    conf_state: ConfState = field(default_factory=ConfState)
    snapshot_index: Index = NO_INDEX
    snapshot_term: Term = NO_TERM
    entries: tuple[Entry, ...] = ()
    applied_index: Index = NO_INDEX
