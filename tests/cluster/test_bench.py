"""The bench measures a real cluster, from its flags to its report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.bench.__main__ import main

pytestmark = pytest.mark.cluster


def test_a_bench_of_raw_and_sdk_clients_counts_every_message(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    assert main(["--tiny", "--only", "raw-64", "--only", "end-to-end-sdk", "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert set(rows) == {"raw-64", "end-to-end-sdk"}
    for row in rows.values():
        assert row["figures"]["per_s"]["median"] > 0
        assert row["figures"]["p99_ms"]["max"] >= row["figures"]["p50_ms"]["min"] > 0
        assert row["figures"]["server_cpu_s_per_1000"]["min"] > 0
