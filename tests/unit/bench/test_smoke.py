"""A regression fails the smoke bench, a disturbance of some rounds does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.bench.reference import Cost, Identity, measure_reference
from scripts.bench.smoke import BOUND, RECORDED, ratios, record, regressions
from scripts.cluster_layout import create_layout, plan_private_nodes, split_address

ROW = {"server_cpu_s_per_1000": 6.0, "client_cpu_s_per_1000": 1.0, "p10_ms": 4.0}
ROWS = {"raw-1": ROW, "raw-256": ROW, "crowd-16": ROW, "sdk-64": ROW}


def test_ratios_are_the_same_on_a_machine_of_half_the_speed() -> None:
    slow = {name: {figure: 2 * value for figure, value in row.items()} for name, row in ROWS.items()}
    assert ratios(Cost(cpu_s_per_1000=0.25, p10_ms=0.5), ROWS) == ratios(Cost(cpu_s_per_1000=0.5, p10_ms=1.0), slow)
    assert ratios(Cost(cpu_s_per_1000=0.25, p10_ms=0.5), ROWS)["raw-1 time"] == pytest.approx(8.0)


def test_a_ratio_above_its_bound_in_every_round_is_a_regression() -> None:
    assert regressions([{"raw-1 time": 17.0}, {"raw-1 time": 18.0}], {"raw-1 time": 8.0}) == [
        f"raw-1 time: 17 operations, more than {BOUND:g} times the recorded 8"
    ]


def test_a_disturbed_round_is_none() -> None:
    assert regressions([{"raw-1 time": 90.0}, {"raw-1 time": 9.0}], {"raw-1 time": 8.0}) == []


def test_a_ratio_without_a_bound_is_reported() -> None:
    assert regressions([{"new": 1.0}], {}) == ["new: no ratio is recorded"]


def test_the_recorded_ratios_are_those_that_are_measured(tmp_path: Path) -> None:
    record([ratios(Cost(1.0, 1.0), ROWS), ratios(Cost(2.0, 2.0), ROWS)], tmp_path / "recorded.json")
    written = json.loads((tmp_path / "recorded.json").read_text())["operations_per_message"]
    assert written["raw-1 time"] == 4.0
    assert set(written) == set(json.loads(RECORDED.read_text())["operations_per_message"])


async def test_the_loop_runs_and_costs_something(tmp_path: Path) -> None:
    layout = create_layout(tmp_path / "cluster", plan_private_nodes(1))
    folder = layout.folder("n1")
    host = split_address(layout.hosts[0])[0]
    identity = Identity(host, str(layout.ca_file), str(folder / "node.pem"), str(folder / "node.key"))
    cost = await measure_reference(identity, tmp_path, 20)
    assert cost.cpu_s_per_1000 > 0
    assert cost.p10_ms > 0
