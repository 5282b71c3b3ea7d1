"""The rate for all callers together."""

from __future__ import annotations

from parleyd.http.pace import Pace


def test_a_burst_goes_at_once_and_the_rest_in_turns() -> None:
    pace = Pace(10.0, burst=3)
    assert [round(pace.delay_s(100.0), 3) for _ in range(6)] == [0.0, 0.0, 0.0, 0.1, 0.2, 0.3]


def test_what_was_not_used_does_not_add_up() -> None:
    pace = Pace(10.0, burst=2)
    pace.delay_s(0.0)
    assert [round(pace.delay_s(1000.0), 3) for _ in range(3)] == [0.0, 0.0, 0.1]
