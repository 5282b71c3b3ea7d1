"""A leader's record of one follower's log, and its limits for sending (Raft §5.3, thesis §10.2.1).

Probe: the follower's last matching entry is unknown. The leader sends one message and waits for the answer. Replicate:
it is known, and messages are pipelined within a window. Snapshot: the follower needs entries that are not in the log
any more. The leader sends nothing until the snapshot is installed. Always match_index < next_index.
"""

from __future__ import annotations

import enum

from parleyd.raft.inflights import Inflights
from parleyd.raft.types import NO_INDEX, Index


class ProgressState(enum.Enum):
    """How a leader treats a follower."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Progress:
    """A leader's record of one follower.

    `commit_sent` is the highest commit index sent. It is lowered when messages are presumed lost. `paused_by_flow`
    stops messages until an append or heartbeat response arrives. `recent_active` is whether any message came since the
    last check of the quorum. `pending_snapshot` is the index of the snapshot that is being sent.
    """

    __slots__ = (
        "commit_sent",
        "inflights",
        "is_learner",
        "match_index",
        "next_index",
        "paused_by_flow",
        "pending_snapshot",
        "recent_active",
        "state",
    )

    def __init__(
        self, *, match_index: Index, next_index: Index, inflights: Inflights, is_learner: bool, recent_active: bool
    ) -> None:
        self.match_index = match_index
        self.next_index = next_index
        self.inflights = inflights
        self.is_learner = is_learner
        self.recent_active = recent_active
        self.commit_sent = NO_INDEX
        self.paused_by_flow = False
        self.pending_snapshot = NO_INDEX
        self.state = ProgressState.PROBE

    def _enter(self, state: ProgressState) -> None:
        self.state = state
        self.paused_by_flow = False
        self.pending_snapshot = NO_INDEX
        self.inflights.clear()

    def become_probe(self) -> None:
        """Probe again, from after the last known match or the snapshot."""
        next_index = self.match_index + 1
        if self.state is ProgressState.SNAPSHOT:
            next_index = max(next_index, self.pending_snapshot + 1)
        self._enter(ProgressState.PROBE)
        self.next_index = Index(next_index)
        self.commit_sent = min(self.commit_sent, Index(next_index - 1))

    def become_replicate(self) -> None:
        """Pipeline messages from after the known match."""
        self._enter(ProgressState.REPLICATE)
        self.next_index = Index(self.match_index + 1)

    def become_snapshot(self, snapshot_index: Index) -> None:
        """Wait for a snapshot to arrive; its content is committed."""
        self._enter(ProgressState.SNAPSHOT)
        self.pending_snapshot = snapshot_index
        self.next_index = Index(snapshot_index + 1)
        self.commit_sent = snapshot_index

    def is_paused(self) -> bool:
        """Return whether no append message may be sent now."""
        return self.state is ProgressState.SNAPSHOT or self.paused_by_flow

    def note_sent(self, count: int, size_bytes: int, commit_index: Index) -> None:
        """Record that an append message with `count` entries and this commit index was sent."""
        if self.state is ProgressState.REPLICATE:
            if count:
                self.next_index = Index(self.next_index + count)
                self.inflights.add(Index(self.next_index - 1), size_bytes)
            # A full window, or an empty message past a full one, works as a probe: wait for the answer.
            self.paused_by_flow = self.inflights.full()
        elif count:
            self.paused_by_flow = True
        self.commit_sent = commit_index

    def commit_is_news(self, commit_index: Index) -> bool:
        """Return whether sending `commit_index` can raise the follower's commit index."""
        return commit_index > self.commit_sent and self.commit_sent < self.next_index - 1

    def acknowledge(self, index: Index) -> bool:
        """Record that the follower has everything up to `index`; return False if that is not new."""
        if index <= self.match_index:
            return False
        self.match_index = index
        self.next_index = max(self.next_index, Index(index + 1))
        self.paused_by_flow = False
        return True

    def step_back(self, rejected: Index, match_hint: Index) -> bool:
        """Record that the follower refused entries after `rejected` and may match at `match_hint`;

        False if it is stale.
        """
        if self.state is ProgressState.REPLICATE:
            if rejected <= self.match_index:
                return False
            self.next_index = Index(self.match_index + 1)
        else:
            # A probe waits for one answer, to the message before next_index. Any other is stale.
            if self.next_index - 1 != rejected:
                return False
            self.next_index = Index(max(min(rejected, match_hint + 1), self.match_index + 1))
            self.paused_by_flow = False
        self.commit_sent = min(self.commit_sent, Index(self.next_index - 1))
        return True
