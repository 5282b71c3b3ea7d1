"""Medians, spread and ratios of the bench."""

from __future__ import annotations

import pytest

from scripts.bench.figures import CLIENT_CORES, compare, generator_was_limit, percentiles, summary


def test_percentiles_of_few_and_many_values() -> None:
    assert percentiles([]) == {}
    assert percentiles([3.0]) == {"p10_ms": 3.0, "p50_ms": 3.0, "p99_ms": 3.0}
    assert percentiles([float(value) for value in range(100, 0, -1)]) == {
        "p10_ms": 11.0,
        "p50_ms": 51.0,
        "p99_ms": 100.0,
    }


def test_a_summary_has_median_and_spread_of_what_all_runs_have() -> None:
    runs = [{"per_s": 3.0, "extra": 1.0}, {"per_s": 1.0}, {"per_s": 2.0}]
    assert summary(runs) == {"per_s": {"median": 2.0, "min": 1.0, "max": 3.0}}
    assert summary([]) == {}


def test_a_ratio_is_the_geometric_mean_of_the_pairs_with_its_interval() -> None:
    compared = compare([({"per_s": 200.0}, {"per_s": 100.0}), ({"per_s": 50.0}, {"per_s": 100.0})])
    assert compared["per_s"]["ratio"] == pytest.approx(1.0)
    assert compared["per_s"]["low"] < 1.0 < compared["per_s"]["high"]


def test_a_single_pair_has_no_interval_and_a_zero_no_ratio() -> None:
    assert compare([({"per_s": 3.0, "idle": 0.0}, {"per_s": 2.0, "idle": 1.0})]) == {"per_s": {"ratio": 1.5}}


@pytest.mark.parametrize(("cores", "limit"), [(0.5, False), (0.97, True)])
def test_a_busy_client_may_have_been_the_limit(cores: float, limit: bool) -> None:
    assert generator_was_limit(summary([{CLIENT_CORES: cores}])) is limit
