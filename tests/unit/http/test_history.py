"""What the dashboard remembers: events are told once, rates are those of seconds, and all of it is bounded."""

from __future__ import annotations

from dataclasses import replace

from parleyd.http.history import EVENTS, LEADERS, SECONDS, EventKind, History, Sight
from parleyd.observability.figures import HistogramReading

NONE = frozenset[str]()
CALM = Sight("n1", 1, True, NONE, 0, HistogramReading((0.001, 0.01), (0, 0, 0), 0.0))


def texts(history: History) -> list[str]:
    return [event.text for event in history.events]


def answered(*counts: int) -> HistogramReading:
    return HistogramReading((0.001, 0.01), counts, 0.1 * sum(counts))


def test_a_change_is_told_once_however_often_it_is_seen() -> None:
    history = History()
    for at_ms in range(0, 5000, 250):
        history.observe(at_ms, CALM, NONE)
    assert texts(history) == ["n1 leads in term 1."]
    assert [(reign.leader, reign.term) for reign in history.reigns] == [("n1", 1)]


def test_an_election_is_told_from_the_loss_of_the_leader_to_the_next_one() -> None:
    history = History()
    sights = [CALM, replace(CALM, leader=""), replace(CALM, leader="", term=2), replace(CALM, leader="n2", term=2)]
    for number, sight in enumerate(sights):
        history.observe(number * 250, sight, NONE)
    assert texts(history) == [
        "n1 leads in term 1.",
        "No leader is known any more. n1 led in term 1.",
        "An election: term 2 began.",
        "n2 leads in term 2.",
    ]
    assert [(reign.at_ms, reign.leader) for reign in history.reigns] == [(0, "n1"), (250, ""), (500, ""), (750, "n2")]


def test_links_majority_and_readiness_are_told_when_they_go_and_when_they_come_back() -> None:
    history = History()
    history.observe(0, CALM, NONE)
    cut_off = replace(CALM, has_majority=False, unreached=frozenset({"n2", "n3"}))
    history.observe(1, cut_off, frozenset({"No leader."}))
    history.observe(2, CALM, NONE)
    assert texts(history)[1:] == [
        "n2 is not reached from here.",
        "n3 is not reached from here.",
        "No majority is reached: messages wait at their senders.",
        "Not ready: No leader.",
        "n2 is reached again.",
        "n3 is reached again.",
        "A majority is reached: messages are accepted.",
        "This node is ready.",
    ]
    assert [event.kind for event in history.events][-1] is EventKind.GOOD


def test_a_revocation_is_told_when_it_is_made_and_when_it_is_taken_back_and_an_old_one_is_not() -> None:
    history = History()
    old = replace(CALM, revoked=frozenset({(b"o" * 32, "n3")}))
    both = replace(CALM, revoked=frozenset({(b"o" * 32, "n3"), (b"k" * 32, "n2")}))
    for number, sight in enumerate((old, both, both, old)):
        history.observe(number * 250, sight, NONE)
    assert texts(history) == [
        "n1 leads in term 1.",
        "A certificate or key of n2 was revoked: this node refuses it.",
        "The revocation of a certificate or key of n2 was taken back.",
    ]


def test_a_rate_is_that_of_the_time_that_has_passed() -> None:
    history = History()
    for at_ms, stored in ((0, 0), (250, 40), (1000, 100), (3000, 500)):
        history.observe(at_ms, replace(CALM, stored=stored), NONE)
    assert [(second.at_ms, second.stored) for second in history.seconds] == [(0, 0.0), (1000, 100.0), (3000, 200.0)]


def test_answers_are_those_of_the_kept_seconds_and_not_of_all_time() -> None:
    history = History()
    assert history.answers() is None
    history.observe(0, replace(CALM, answers=answered(100, 5, 0)), NONE)
    history.observe(1000, replace(CALM, answers=answered(103, 6, 1)), NONE)
    reading = history.answers()
    assert reading is not None
    assert reading.counts == (3, 1, 1)


def test_a_clock_that_is_set_back_and_a_state_that_is_rebuilt_give_no_wrong_rate() -> None:
    history = History()
    history.observe(10_000, replace(CALM, stored=500), NONE)
    history.observe(5_000, replace(CALM, stored=510), NONE)
    history.observe(6_000, replace(CALM, stored=520), NONE)
    assert [second.stored for second in history.seconds] == [0.0, 10.0]
    history.observe(7_000, None, NONE)
    assert not history.seconds
    history.observe(8_000, replace(CALM, stored=3), NONE)
    history.observe(9_000, replace(CALM, stored=3), NONE)
    assert [second.stored for second in history.seconds] == [0.0, 0.0]
    assert "This node stopped serving." in texts(history)


def test_a_node_that_runs_for_long_among_elections_keeps_a_bounded_past() -> None:
    history = History()
    for number in range(2000):
        history.observe(number * 1000, replace(CALM, leader=f"n{number % 3}", term=number), NONE)
    assert (len(history.events), len(history.reigns), len(history.seconds)) == (EVENTS, LEADERS, SECONDS + 1)
    assert texts(history)[-1] == "n1 leads in term 1999."
