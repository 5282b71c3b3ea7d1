"""What a node had promised by a given call: the only answers it may give after a crash there.

Between two operations there is one right answer; while one is under way, the answer before it and the one after it.
The state machine may have lost what no checkpoint covered, since the log replays it; the commit index may lag.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from parleyd.raft.types import NO_INDEX, NO_NODE, NO_TERM, Entry, Index, NodeId, SnapshotMeta, Term
from parleyd.raft.update import Persist
from parleyd.storage.identity import NodeIdentity
from parleyd.storage.raft_storage import LogContents
from tests.simulation.storage.history import FIRST_MEMBERS


@dataclass(frozen=True, slots=True)
class LogVersion:
    """What the log holds after some operation; its commit index on disk may be as old as `written_commit`."""

    term: Term = NO_TERM
    vote: NodeId = NO_NODE
    commit: Index = NO_INDEX
    written_commit: Index = NO_INDEX
    entries: tuple[Entry, ...] = ()
    snapshot: SnapshotMeta = SnapshotMeta(NO_INDEX, NO_TERM, FIRST_MEMBERS)  # noqa: RUF009 - frozen

    @classmethod
    def of(cls, found: LogContents) -> LogVersion:
        """A log that was found."""
        hard = found.hard_state
        return cls(
            hard.current_term, hard.voted_for, hard.commit_index, hard.commit_index, found.entries, found.snapshot
        )

    def after(self, writes: Iterable[Persist]) -> LogVersion:
        """The log once `writes` are carried out."""
        version, synced = self, False
        for write in writes:
            version, wrote = version._carry_out(write)
            synced = synced or wrote
        return replace(version, written_commit=version.commit) if synced else version

    def _carry_out(self, write: Persist) -> tuple[LogVersion, bool]:
        version = self
        if write.snapshot is not None:
            version = replace(version, entries=(), snapshot=write.snapshot)
        if write.entries:
            kept = tuple(entry for entry in version.entries if entry.index < write.entries[0].index)
            version = replace(version, entries=kept + write.entries)
        hard = write.hard_state
        if hard is not None:
            version = replace(version, term=hard.current_term, vote=hard.voted_for, commit=hard.commit_index)
        moved = (version.term, version.vote) != (self.term, self.vote)
        return version, moved or bool(write.entries) or write.snapshot is not None

    def cut(self, meta: SnapshotMeta) -> LogVersion:
        """The log once it begins after `meta`."""
        kept = tuple(entry for entry in self.entries if entry.index > meta.index)
        return replace(self, entries=kept, snapshot=meta, written_commit=self.commit)

    def difference(self, found: LogContents) -> str:
        """In words, what of `found` is not as here; '' for nothing."""
        hard, wrong = found.hard_state, []
        if (hard.current_term, hard.voted_for) != (self.term, self.vote):
            wrong.append(
                f"term {hard.current_term} with a vote for {hard.voted_for}, not {self.term} with one for {self.vote}"
            )
        if not self.written_commit <= hard.commit_index <= max(self.commit, self.snapshot.index):
            wrong.append(f"commit index {hard.commit_index}, not {self.written_commit} to {self.commit}")
        if found.entries != self.entries:
            wrong.append(f"entries {outline(found.entries)}, not {outline(self.entries)}")
        if found.snapshot != self.snapshot:
            wrong.append(f"it begins after {found.snapshot}, not after {self.snapshot}")
        return "; ".join(wrong)


@dataclass(frozen=True, slots=True)
class Promises:
    """The answers allowed after a crash at one call; the last log is the one of the operation under way, if any."""

    doing: str = "nothing yet"
    identities: tuple[NodeIdentity | None, ...] = (None,)
    logs: tuple[LogVersion, ...] = ()
    states: frozenset[int] = field(default_factory=frozenset)
    states_if_killed: frozenset[int] = field(default_factory=frozenset)


def outline(entries: tuple[Entry, ...]) -> str:
    """Which entries these are, by runs of one term."""
    if not entries:
        return "none"
    runs: list[list[int]] = []
    for entry in entries:
        if runs and runs[-1][2] == entry.term:
            runs[-1][1] = entry.index
        else:
            runs.append([entry.index, entry.index, entry.term])
    return ", ".join(f"{first}-{last} of term {term}" for first, last, term in runs)
