"""The bench measures a real cluster, from its flags to its report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.bench.__main__ import main


@pytest.mark.campaign
def test_a_bench_of_a_channel_waits_for_the_last_of_its_connected_members(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    assert main(["--tiny", "--only", "fan-out-201", "--out", str(out)]) == 0
    figures = json.loads(out.read_text())["rows"]["fan-out-201"]["figures"]
    assert figures["last_p99_ms"]["min"] >= figures["last_p50_ms"]["min"] > 0
    assert figures["server_cpu_ms_per_message"]["min"] > 0


@pytest.mark.campaign
def test_a_bench_of_presence_waits_until_all_nodes_show_what_is_right(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    assert main(["--tiny", "--only", "presence", "--out", str(out)]) == 0
    figures = json.loads(out.read_text())["rows"]["presence"]["figures"]
    assert set(figures) == {
        "client_came_ms", "client_killed_ms", "node_silent_ms", "others_silent_ms", "node_killed_ms",
    }  # fmt: skip
    assert all(figure["min"] > 0 for figure in figures.values())


@pytest.mark.campaign
def test_a_bench_of_raw_and_sdk_clients_counts_every_message(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    assert main(["--tiny", "--only", "raw-64", "--only", "end-to-end-sdk", "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert set(rows) == {"raw-64", "end-to-end-sdk"}
    for row in rows.values():
        assert row["figures"]["per_s"]["median"] > 0
        assert row["figures"]["p99_ms"]["max"] >= row["figures"]["p50_ms"]["min"] > 0
        assert row["figures"]["server_cpu_s_per_1000"]["min"] > 0
