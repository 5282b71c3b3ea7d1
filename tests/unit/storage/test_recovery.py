"""Bringing log and state together after a crash between their writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from parleyd.raft.types import ConfState, Entry, Index, NodeId, Term
from parleyd.storage.errors import StorageDamagedError
from parleyd.storage.raft_storage import LogContents, RaftStorage
from parleyd.storage.recovery import Recovered, reconcile
from tests.unit.storage.log_helpers import BOOTSTRAP_MEMBERS, entries, hard_state, meta

GROWN = ConfState(voters=(NodeId(1), NodeId(2), NodeId(3)), learners=(NodeId(4),))
# Entries 11 to 20, of terms 2 and 3, behind a snapshot at 10.
LOG = LogContents(hard_state(4, vote=2, commit=15), (*entries(2, 11, 15), *entries(3, 16, 20)), meta(10, 2))


def recover(index: int, term: int, log: LogContents = LOG) -> Recovered:
    return reconcile(log, Index(index), Term(term), GROWN)


@pytest.mark.parametrize(("index", "term"), [(10, 2), (11, 2), (15, 2)])
def test_state_that_lags_is_replayed_from_the_log(index: int, term: int) -> None:
    assert recover(index, term) == Recovered(LOG.hard_state, LOG.entries, LOG.snapshot, Index(index), GROWN)


@pytest.mark.parametrize(("index", "term"), [(16, 3), (20, 3)])
def test_applied_entries_count_as_committed(index: int, term: int) -> None:
    """The commit index is written lazily, so the state may know better."""
    recovered = recover(index, term)
    assert recovered.hard_state == hard_state(4, vote=2, commit=index)
    assert recovered.entries == LOG.entries
    assert recovered.repair is None


def test_unapplied_entries_are_kept_since_they_may_be_acknowledged() -> None:
    assert recover(12, 2).entries[-1].index == 20


def test_state_past_the_log_starts_the_log_over_and_keeps_the_vote() -> None:
    recovered = recover(30, 4)
    assert recovered.snapshot == meta(30, 4, GROWN)
    assert recovered.entries == ()
    assert recovered.hard_state == hard_state(4, vote=2, commit=30)
    assert recovered.repair is not None
    assert recovered.repair.snapshot == recovered.snapshot
    assert recovered.repair.hard_state == recovered.hard_state


def test_state_of_a_newer_term_brings_the_term_and_no_vote() -> None:
    assert recover(30, 7).hard_state == hard_state(7, vote=0, commit=30)


def test_snapshot_over_a_stale_tail_drops_the_tail() -> None:
    recovered = recover(18, 4)
    assert recovered.entries == ()
    assert recovered.snapshot == meta(18, 4, GROWN)
    assert recovered.repair is not None


def test_state_at_the_start_of_an_empty_log_is_normal() -> None:
    log = LogContents(hard_state(4, commit=10), (), meta(10, 2))
    assert recover(10, 2, log).repair is None


@pytest.mark.parametrize(("index", "term"), [(0, 0), (9, 2)])
def test_state_older_than_the_log_refuses_to_start(index: int, term: int) -> None:
    with pytest.raises(StorageDamagedError, match="are missing on this node"):
        recover(index, term)


@pytest.mark.parametrize(("index", "term"), [(16, 2), (10, 1)])
def test_log_of_a_newer_term_than_the_state_there_is_another_history(index: int, term: int) -> None:
    with pytest.raises(StorageDamagedError, match="different histories"):
        recover(index, term)


def test_disagreement_below_the_commit_index_refuses_to_start() -> None:
    with pytest.raises(StorageDamagedError, match="committed"):
        recover(12, 4)


def test_repair_once_written_needs_no_second_repair(tmp_path: Path) -> None:
    log = RaftStorage.open(tmp_path / "raft.sqlite")
    log.initialize(BOOTSTRAP_MEMBERS)
    from parleyd.raft.update import Persist

    log.append([Persist(hard_state=hard_state(4, vote=2, commit=2), entries=entries(2, 1, 5))])
    first = recover(30, 7, log.load())
    assert first.repair is not None
    log.append([first.repair])
    log.close()
    log = RaftStorage.open(tmp_path / "raft.sqlite")
    second = recover(30, 7, log.load())
    log.append([Persist(entries=(Entry(Term(7), Index(31)),))])
    log.close()
    assert second.repair is None
    assert (second.hard_state, second.entries, second.snapshot) == (first.hard_state, (), first.snapshot)
