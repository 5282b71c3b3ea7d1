"""Repairs the log at a start: log and state are two files, and a crash can happen between their writes.

- The state's position is in the log, with the same term: normal. The entries after it are replayed.
- The state is past the end of the log. A snapshot was installed and the log not yet reset, or entries were applied that
  a majority had before this disk did. The log starts again at the state's position.
- The log has a lower term at the state's position: a snapshot was installed over a stale tail. The log starts again
  there.
- The state is before the start of the log. It was lost or replaced by an old copy, and the entries that follow it are
  missing. The start is refused.
- The log has a higher term at the state's position: they have different histories. The start is refused.

Starting again there is safe: what the state covers is committed, so every vote and acknowledgement for it stays true.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from parleyd.raft.config import InitialState
from parleyd.raft.types import NO_NODE, ConfState, Entry, HardState, Index, SnapshotMeta, Term
from parleyd.raft.update import Persist
from parleyd.storage.errors import damaged
from parleyd.storage.raft_storage import LogContents


@dataclass(frozen=True, slots=True)
class Recovered:
    """What Raft starts from. If `repair` is set, it must be appended to the log before anything else."""

    hard_state: HardState
    entries: tuple[Entry, ...]
    snapshot: SnapshotMeta
    applied_index: Index
    conf_state: ConfState  # as of applied_index
    repair: Persist | None = None

    def initial_state(self) -> InitialState:
        """Return the same for the core."""
        return InitialState(
            hard_state=self.hard_state,
            conf_state=self.conf_state,
            snapshot_index=self.snapshot.index,
            snapshot_term=self.snapshot.term,
            entries=self.entries,
            applied_index=self.applied_index,
        )

    def applied_entries(self) -> list[Entry]:
        """Return the entries that the state covers and that are still in the log."""
        return [entry for entry in self.entries if entry.index <= self.applied_index]


def reconcile(log: LogContents, applied_index: Index, applied_term: Term, conf_state: ConfState) -> Recovered:
    """Compare log and state machine and decide the repair; pure. Raises StorageDamagedError if that would lose data."""
    if applied_index < log.snapshot.index:
        raise damaged(
            "state.sqlite",
            f"the state covers the log up to entry {applied_index}, but the log begins after "
            f"{log.snapshot.index}: the entries between are missing on this node",
        )
    log_term = log.term_at(applied_index)
    if log_term is not None and log_term > applied_term:
        raise damaged(
            "state.sqlite",
            f"entry {applied_index} was applied in term {applied_term}, but the log has it in term {log_term}: "
            "state and log have different histories",
        )
    if log_term == applied_term:
        commit_index = Index(max(log.hard_state.commit_index, applied_index))
        hard_state = replace(log.hard_state, commit_index=commit_index)
        return Recovered(hard_state, log.entries, log.snapshot, applied_index, conf_state)
    return _start_over(log, SnapshotMeta(applied_index, applied_term, conf_state))


def _start_over(log: LogContents, position: SnapshotMeta) -> Recovered:
    hard_state = replace(log.hard_state, commit_index=Index(max(log.hard_state.commit_index, position.index)))
    if position.term > hard_state.current_term:
        # The snapshot came from a newer term than any on this disk, so this node cast no vote there.
        hard_state = replace(hard_state, current_term=position.term, voted_for=NO_NODE)
    if hard_state.commit_index > position.index:
        raise damaged(
            "raft.sqlite",
            f"entries up to {hard_state.commit_index} were committed here, but the log disagrees with the state from "
            f"entry {position.index} on",
        )
    repair = Persist(hard_state=hard_state, snapshot=position)
    return Recovered(hard_state, (), position, position.index, position.conf_state, repair)
