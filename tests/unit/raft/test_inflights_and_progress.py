"""The in-flight window and a leader's view of one follower."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parleyd.raft.errors import InvariantError
from parleyd.raft.inflights import Inflights
from parleyd.raft.progress import Progress, ProgressState
from parleyd.raft.types import Index


def progress(state: ProgressState, *, match: int = 0, next_index: int = 1, window: int = 10) -> Progress:
    made = Progress(
        match_index=Index(match),
        next_index=Index(next_index),
        inflights=Inflights(window, 2**40),
        is_learner=False,
        recent_active=True,
    )
    made.state = state
    return made


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 50)), max_size=60), st.integers(1, 5), st.integers(1, 100))
def test_a_window_holds_what_was_added_and_not_acknowledged(
    steps: list[tuple[bool, int]], max_messages: int, max_bytes: int
) -> None:
    window = Inflights(max_messages, max_bytes)
    model: list[tuple[int, int]] = []
    last = 0
    for is_add, number in steps:
        if is_add and not window.full():
            last += number
            window.add(Index(last), number)
            model.append((last, number))
        elif not is_add:
            window.free_up_to(Index(number))
            model = [(index, size) for index, size in model if index > number]
        assert len(window) == len(model) <= max_messages
        assert window.bytes == sum(size for _, size in model)
        assert window.full() == (len(model) >= max_messages or window.bytes >= max_bytes)
    window.clear()
    assert (len(window), window.bytes, window.full()) == (0, 0, False)


def test_a_full_window_takes_nothing_more() -> None:
    window = Inflights(1, 100)
    window.add(Index(1), 1)
    with pytest.raises(InvariantError, match="in-flight"):
        window.add(Index(2), 1)


@pytest.mark.parametrize(
    ("state", "flow", "paused"),
    [
        (ProgressState.PROBE, False, False),
        (ProgressState.PROBE, True, True),
        (ProgressState.REPLICATE, False, False),
        (ProgressState.REPLICATE, True, True),
        (ProgressState.SNAPSHOT, False, True),
        (ProgressState.SNAPSHOT, True, True),
    ],
)
def test_who_is_paused(state: ProgressState, flow: bool, paused: bool) -> None:
    known = progress(state)
    known.paused_by_flow = flow
    assert known.is_paused() is paused


@pytest.mark.parametrize(
    ("acknowledged", "match", "next_index", "news"),
    [(4, 5, 10, False), (5, 5, 10, False), (6, 6, 10, True), (12, 12, 13, True)],
)
def test_an_acknowledgement_moves_forward_only(acknowledged: int, match: int, next_index: int, news: bool) -> None:
    known = progress(ProgressState.REPLICATE, match=5, next_index=10)
    known.paused_by_flow = True
    assert known.acknowledge(Index(acknowledged)) is news
    assert (known.match_index, known.next_index, known.paused_by_flow) == (match, next_index, not news)


@pytest.mark.parametrize(
    ("state", "rejected", "hint", "expected"),
    [
        (ProgressState.REPLICATE, 5, 5, None),  # below the match: stale
        (ProgressState.REPLICATE, 9, 8, 6),  # back to just after the match
        (ProgressState.PROBE, 7, 7, None),  # not the message that was probing: stale
        (ProgressState.PROBE, 9, 7, 8),
        (ProgressState.PROBE, 9, 20, 9),
        (ProgressState.PROBE, 9, 2, 6),  # never below the match
    ],
)
def test_a_rejection_steps_back_unless_stale(
    state: ProgressState, rejected: int, hint: int, expected: int | None
) -> None:
    known = progress(state, match=5, next_index=10)
    known.commit_sent = Index(9)
    assert known.step_back(Index(rejected), Index(hint)) is (expected is not None)
    if expected is not None:
        assert known.next_index == expected
        assert known.commit_sent < known.next_index


def test_probing_after_a_snapshot_goes_on_from_it() -> None:
    known = progress(ProgressState.REPLICATE, match=1, next_index=5)
    known.become_snapshot(Index(10))
    assert (known.pending_snapshot, known.next_index, known.is_paused()) == (10, 11, True)
    known.become_probe()
    assert (known.next_index, known.pending_snapshot, known.match_index) == (11, 0, 1)


def test_replicating_clears_the_window_and_starts_after_the_match() -> None:
    known = progress(ProgressState.REPLICATE, match=1, next_index=2)
    known.note_sent(3, 10, Index(1))
    assert (known.next_index, len(known.inflights)) == (5, 1)
    known.become_replicate()
    assert (known.next_index, len(known.inflights)) == (2, 0)


def test_a_commit_index_is_news_until_all_the_follower_will_have_is_committed() -> None:
    known = progress(ProgressState.REPLICATE, match=3, next_index=6)
    known.commit_sent = Index(3)
    assert known.commit_is_news(Index(4))
    assert not known.commit_is_news(Index(3))
    known.commit_sent = Index(5)
    assert not known.commit_is_news(Index(9))
