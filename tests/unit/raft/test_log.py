"""The log against a model: a plain list that is copied, scanned and cut without any cleverness."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from parleyd.raft.log import RaftLog, size_of
from parleyd.raft.types import Entry, EntryType, Index, SnapshotMeta, Term
from tests.unit.raft.lab import entries, entry, voters

NO_LIMIT = 2**60


def make_log(
    *terms: int, start: int = 0, start_term: int = 0, commit: int = 0, applied: int = 0, room: int = NO_LIMIT
) -> RaftLog:
    return RaftLog(
        start=Index(start),
        start_term=Term(start_term),
        entries=entries(*terms, start=start + 1),
        commit_index=Index(commit),
        applied_index=Index(applied),
        max_applying_bytes=room,
        apply_unstable=False,
    )


def naive_hint(terms: dict[int, int], index: int, term: int) -> tuple[int, int]:
    """Walk down one entry at a time."""
    while index > 0 and index in terms and terms[index] > term:
        index -= 1
    return index, terms.get(index, 0)


@given(
    st.lists(st.integers(1, 6), max_size=12).map(sorted),
    st.integers(0, 3),
    st.integers(0, 20),
    st.integers(0, 7),
)
def test_the_hint_is_where_walking_down_would_end(terms: list[int], start: int, index: int, term: int) -> None:
    first = min(terms, default=1)
    log = make_log(*terms, start=start, start_term=first if start else 0)
    known = {start: first if start else 0} | dict(enumerate(terms, start + 1))
    assert log.last_index_at_or_below_term(Index(index), Term(term)) == naive_hint(known, index, term)


def test_a_slice_is_cut_by_size_but_never_empty() -> None:
    log = make_log()
    log.append(tuple(entry(1, index, b"x" * 10) for index in range(1, 6)))
    for room, count in ((0, 1), (9, 1), (10, 1), (19, 1), (20, 2), (49, 4), (50, 5), (99, 5)):
        assert len(log.slice(Index(1), Index(5), room)) == count


def test_the_term_is_unknown_before_the_start_and_after_the_end() -> None:
    log = make_log(3, 4, start=5, start_term=2)
    assert [log.term(Index(index)) for index in (4, 5, 6, 7, 8)] == [None, 2, 3, 4, None]


def test_membership_entries_are_found_in_a_range_only() -> None:
    log = make_log(1)
    log.append((Entry(Term(1), Index(2), EntryType.CONF_CHANGE_V2, b"c"), entry(1, 3)))
    found = [
        (low, high) for low in range(4) for high in range(4) if log.has_conf_change_between(Index(low), Index(high))
    ]
    assert found == [(0, 2), (0, 3), (1, 2), (1, 3)]


def test_an_acknowledgement_of_a_replaced_entry_is_ignored() -> None:
    log = make_log(1)
    log.append(entries(1, 1, start=2))
    log.take_unpersisted()
    log.accept(Index(1), Term(1), entries(2, start=2))
    log.stable_to(Index(3), Term(1))
    log.stable_to(Index(2), Term(1))
    assert log.stable_index == 1
    log.stable_to(Index(2), Term(2))
    assert log.stable_index == 2


def test_an_overwritten_entry_is_asked_to_be_durable_again() -> None:
    log = make_log(1)
    log.append(entries(1, 1, start=2))
    assert log.take_unpersisted() == entries(1, 1, start=2)
    log.accept(Index(1), Term(1), entries(2, start=2))
    assert log.take_unpersisted() == entries(2, start=2)
    assert log.take_unpersisted() == ()


def test_a_snapshot_overtaking_entries_being_applied_frees_the_room_they_took() -> None:
    log = make_log(room=10)
    log.append((entry(1, 1, b"x" * 10), entry(1, 2, b"x" * 10)))
    log.stable_to(Index(2), Term(1))
    log.commit_to(Index(2))
    assert len(log.take_committed()) == 1
    log.restore(SnapshotMeta(Index(9), Term(2), voters(1)))
    log.snapshot_stable(Index(9))
    log.applied_to(Index(9))
    log.append((entry(2, 10, b"x" * 10),))
    log.stable_to(Index(10), Term(2))
    log.commit_to(Index(10))
    assert len(log.take_committed()) == 1


@dataclass
class Model:
    """What the log should be."""

    entries: list[Entry] = field(default_factory=list)
    commit: int = 0
    applied: int = 0
    handed: int = 0
    stable: int = 0
    persisted: list[Entry] = field(default_factory=list)


class LogMachine(RuleBasedStateMachine):
    """Append, overwrite, commit, persist, apply, compact in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.log = make_log(room=25)
        self.model = Model()
        self.term = 1

    def last(self) -> int:
        return len(self.model.entries)

    @rule(count=st.integers(1, 4), size=st.integers(0, 12))
    def append(self, count: int, size: int) -> None:
        added = tuple(entry(self.term, self.last() + 1 + position, b"x" * size) for position in range(count))
        self.log.append(added)
        self.model.entries.extend(added)

    @rule(back=st.integers(0, 5), count=st.integers(0, 4))
    def accept_from_a_new_leader(self, back: int, count: int) -> None:
        self.term += 1
        prev = max(self.last() - back, self.model.commit, self.log.first_index - 1)
        prev_term = self.log.term(Index(prev))
        assert prev_term is not None
        added = tuple(entry(self.term, prev + 1 + position) for position in range(count))
        assert self.log.accept(Index(prev), prev_term, added) == prev + count
        if added:
            self.model.entries[prev:] = added
            self.model.stable = min(self.model.stable, prev)

    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, self.last()))
        assert self.log.commit_to(Index(index)) is (index > self.model.commit)
        self.model.commit = max(self.model.commit, index)

    @rule()
    def persist(self) -> None:
        taken = self.log.take_unpersisted()
        if taken:
            del self.model.persisted[taken[0].index - 1 :]
            self.model.persisted.extend(taken)
        assert self.model.persisted == self.model.entries

    @precondition(lambda self: self.model.persisted)
    @rule()
    def become_stable(self) -> None:
        last = self.model.persisted[-1]
        self.log.stable_to(last.index, last.term)
        if last.index <= self.last() and self.model.entries[last.index - 1].term == last.term:
            self.model.stable = max(self.model.stable, last.index)

    @rule()
    def hand_out(self) -> None:
        taken = self.log.take_committed()
        assert [item.index for item in taken] == list(range(self.model.handed + 1, self.model.handed + 1 + len(taken)))
        assert len(taken) <= 1 or size_of(taken) <= 25
        self.model.handed += len(taken)
        assert self.model.handed <= min(self.model.commit, self.model.stable) or not taken

    @precondition(lambda self: self.model.handed > self.model.applied)
    @rule(data=st.data())
    def apply(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(self.model.applied + 1, self.model.handed))
        size = self.log.applied_to(Index(index))
        assert size == size_of(self.model.entries[self.model.applied : index])
        self.model.applied = index

    @precondition(lambda self: self.model.applied > 0)
    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        self.log.compact(Index(data.draw(st.integers(1, self.model.applied))))

    @invariant()
    def agrees_with_the_model(self) -> None:
        assert self.log.last_index == self.last()
        assert (self.log.commit_index, self.log.applied_index) == (self.model.commit, self.model.applied)
        assert self.log.stable_index >= min(self.model.stable, self.last())
        kept = self.log.slice(self.log.first_index, self.log.last_index, NO_LIMIT)
        assert list(kept) == self.model.entries[self.log.first_index - 1 :]

    @invariant()
    def nothing_is_stuck(self) -> None:
        if self.model.handed == self.model.applied and self.log.pending_snapshot is None:
            assert not self.log._paused


TestLogAgainstAModel = LogMachine.TestCase
TestLogAgainstAModel.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
