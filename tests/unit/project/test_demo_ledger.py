"""The demo must not be easy to please: every kind of damage shows in its figures."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from scripts.demo_ledger import Kill, Ledger, longest_pauses_ms, percentile, results


def good_ledger() -> Ledger:
    """Five messages that were sent, acknowledged, shown and stored as promised, and one kill."""
    ledger = Ledger(run="abcd", sent=5, kills=[Kill("n1", 1.0, "n2")])
    for number in range(1, 6):
        ledger.acknowledge(number, 0.5 * number, 2.0)
    ledger.shown = [ledger.body(number) for number in range(1, 6)]
    ledger.stored = {"n1": list(ledger.shown), "n2": list(ledger.shown)}
    return ledger


def test_a_run_without_damage_is_ok() -> None:
    found = results(good_ledger(), 3.0, planned_kills=1)
    assert found["ok"] is True
    assert (found["sent"], found["acknowledged"], found["received"]) == (5, 5, 5)
    assert (found["lost"], found["duplicated"], found["out_of_order"], found["strange"]) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("damage", "figure"),
    [
        (lambda ledger: ledger.shown.pop(2), "lost"),
        (lambda ledger: ledger.stored["n2"].pop(), "lost"),
        (lambda ledger: ledger.shown.append(ledger.shown[0]), "duplicated"),
        (lambda ledger: ledger.stored["n1"].insert(0, ledger.shown[4]), "duplicated"),
        (lambda ledger: ledger.shown.reverse(), "out_of_order"),
        (lambda ledger: ledger.stored["n1"].reverse(), "out_of_order"),
        (lambda ledger: ledger.shown.append("something nobody sent"), "strange"),
        (lambda ledger: ledger.stored["n2"].append("wxyz 3 ..."), "strange"),
    ],
)
def test_damage_shows_in_its_figure_and_fails_the_run(damage: Callable[[Ledger], object], figure: str) -> None:
    ledger = good_ledger()
    damage(ledger)
    found = results(ledger, 3.0, planned_kills=1)
    assert found[figure] != 0
    assert found["ok"] is False


@pytest.mark.parametrize(
    "damage",
    [
        lambda ledger: ledger.acknowledged_at_s.pop(3),
        lambda ledger: ledger.kills.clear(),
        lambda ledger: ledger.stored.clear(),
        lambda ledger: ledger.kills.append(Kill("n2", 3.5, "n1")),
    ],
    ids=["never acknowledged", "nobody was killed", "no node was asked", "killed when nobody was sending any more"],
)
def test_a_run_that_did_not_do_all_of_it_is_not_ok(damage: Callable[[Ledger], object]) -> None:
    ledger = good_ledger()
    damage(ledger)
    assert results(ledger, 3.0, planned_kills=max(1, len(ledger.kills)))["ok"] is False


def test_nothing_at_all_is_not_ok() -> None:
    assert results(Ledger(run="abcd"), 0.0, planned_kills=0)["ok"] is False


def test_a_pause_counts_from_the_last_acknowledgement_before_it() -> None:
    assert longest_pauses_ms([1.0], [0.8, 0.9, 1.5, 1.6], 1.7) == [600.0]


def test_each_kill_has_its_own_longest_pause() -> None:
    assert longest_pauses_ms([1.0, 2.0], [0.9, 1.3, 1.8, 1.9, 2.7, 2.8], 3.0) == [500.0, 800.0]


def test_a_pause_that_never_ended_lasts_to_the_end() -> None:
    assert longest_pauses_ms([1.0], [0.9], 9.9) == [9000.0]
    assert longest_pauses_ms([1.0], [], 9.0) == [8000.0]


def test_a_kill_after_the_sending_kept_nobody_waiting() -> None:
    assert longest_pauses_ms([1.0, 5.0], [0.9, 1.2, 1.3], 1.4) == [300.0, 0.0]


def test_percentiles_of_few_and_many_values() -> None:
    assert percentile([], 50) == 0.0
    assert percentile([7.0], 99) == 7.0
    assert percentile([float(value) for value in range(101)], 99) == 99.0
