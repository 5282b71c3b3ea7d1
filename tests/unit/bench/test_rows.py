"""The choice of rows, and what an older checkout is asked."""

from __future__ import annotations

import pytest

from scripts.bench.rows import ROWS, UnknownRowError, choose, comparable
from scripts.bench.scale import FULL, QUICK
from scripts.bench.serving import legacy_request


def names(*only: str, full: bool = False) -> list[str]:
    """The names of the chosen rows."""
    return [row.name for row in choose(only, full=full)]


def test_names_of_rows_are_unique_and_written_without_spaces() -> None:
    found = [row.name for row in ROWS]
    assert len(set(found)) == len(found)
    assert not [name for name in found if " " in name]


def test_the_largest_sizes_are_measured_only_when_asked_for() -> None:
    assert "stored-1000000" not in names()
    assert "stored-1000000" in names(full=True)
    assert names("stored-1000000") == ["stored-1000000"]
    assert {"accounts-100000", "connections-1000", "connections-5000", "raw-recipients"} <= set(names(full=True))
    assert "connections-100" in names()


def test_faults_are_repeated_as_often_as_the_scale_says() -> None:
    repeats = {row.name: (row.runs(QUICK), row.runs(FULL)) for row in choose(["leader"], full=True)}
    assert repeats == {"leader-killed": (5, 20), "leader-silent": (5, 10), "leader-transfer": (5, 10)}


def test_a_name_takes_its_row_and_otherwise_those_that_begin_so() -> None:
    assert names("idle") == ["idle"]
    assert names("leader") == ["leader-killed", "leader-silent", "leader-transfer"]
    assert names("raw-64", "raw-6") == ["raw-64"]


def test_an_unknown_name_is_refused_with_those_that_exist() -> None:
    with pytest.raises(UnknownRowError, match=r"no row 'fast'.*raw-1, "):
        choose(["fast"], full=False)


def test_a_base_from_before_the_rows_is_asked_what_it_knows() -> None:
    asked = {row.name: legacy_request(row.name, QUICK) for row in comparable()}
    assert {name: line for name, line in asked.items() if line} == {
        "raw-1": "1 1 1000",
        "raw-64": "1 64 10000",
        "raw-256": "1 256 10000",
        "raw-1024": "1 1024 10000",
        "raw-crowd": "256 1 5000",
    }
