"""Callers that wait for an applied index: found without looking at all of them, and bounded."""

from __future__ import annotations

from parleyd.group.waits import AppliedWaits
from parleyd.raft.types import Index


def test_callers_are_reached_in_the_order_of_their_index_and_those_that_left_are_not() -> None:
    waits = AppliedWaits()
    for token, index in ((1, 30), (2, 10), (3, 20), (4, 10)):
        assert waits.add(token, Index(index))
    waits.withdraw(4)
    assert waits.take_reached(Index(9)) == []
    assert waits.take_reached(Index(20)) == [2, 3]
    assert waits.take_reached(Index(20)) == []
    assert waits.take_reached(Index(99)) == [1]


def test_callers_are_bounded_and_those_that_left_make_room() -> None:
    waits = AppliedWaits(most=2)
    assert waits.add(1, Index(10))
    assert waits.add(2, Index(20))
    assert not waits.add(3, Index(30))
    waits.withdraw(1)
    assert waits.add(3, Index(30))
    assert waits.take_reached(Index(30)) == [2, 3]
