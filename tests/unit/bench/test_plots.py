"""The plots: well-formed SVG with all that a report has, and nothing that it lacks."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from scripts.bench import __main__ as bench
from scripts.bench.charts import Bar, bars, lines, number
from scripts.bench.plots import make_peer_plots, make_plots
from scripts.bench.rows import ROWS
from scripts.bench.runner import Measured

NAMESPACE = "{http://www.w3.org/2000/svg}"
ABOUT = {"date": "2026-11-27 03:00", "machine": {"cpus": 2, "system": "Linux x86_64", "python": "3.11.7"}}


def texts(plot: str) -> list[str]:
    """The texts of a plot, in order. Fails unless it is XML."""
    return [element.text or "" for element in ElementTree.fromstring(plot).iter(f"{NAMESPACE}text")]


def widths(plot: str) -> list[float]:
    """The widths of its bars."""
    found = ElementTree.fromstring(plot).iter(f"{NAMESPACE}rect")
    return [float(rect.get("width", "0")) for rect in found][1:]


def row(**figures: float) -> dict[str, Any]:
    return {"figures": {name: {"median": value, "min": value / 2, "max": value * 2} for name, value in figures.items()}}


def test_a_bar_is_as_long_as_its_value_and_is_named() -> None:
    plot = bars("Speed <per s>", "a machine", [Bar("one & two", 10.0, 5.0, 20.0), Bar("three", 20.0, 20.0, 20.0)])
    assert texts(plot) == ["Speed <per s>", "a machine", "one & two", "10", "three", "20"]
    first, second = widths(plot)
    assert math.isclose(second, 2 * first)


def test_a_line_has_a_point_for_each_size_and_one_size_alone_divides_by_nothing() -> None:
    plot = lines("Growth", "", {"accounts": [(10.0, 5.0), (1000.0, 10.0)], "messages": [(1000.0, 0.0)]})
    circles = list(ElementTree.fromstring(plot).iter(f"{NAMESPACE}circle"))
    assert [(circle.get("cx"), circle.get("cy")) for circle in circles] == [
        *(("190.0", "194.0"), ("670.0", "64.0"), ("670.0", "324.0"))
    ]
    assert {"accounts", "messages", "10", "1,000"} <= set(texts(plot))
    assert lines("Growth", "", {"accounts": [(10.0, 0.0)]})


def test_figures_are_written_with_three_digits_that_count() -> None:
    assert list(map(number, (12345.6, 99.94, 0.01234))) == ["12,346", "99.9", "0.0123"]


def test_plots_show_the_rows_that_were_measured() -> None:
    rows = {
        "raw-64": row(per_s=5000.0, p50_ms=10.0, other_cores=0.5),
        "raw-1": row(per_s=200.0, p50_ms=4.0, p99_ms=9.0),
        "stored-0": row(per_s=7.0, rss_mib=70.0),
        "stored-10000": row(per_s=6.0, rss_mib=80.0),
        "stored-100000": row(per_s=5.0, rss_mib=90.0),
        "accounts-10": row(per_s=5.0, rss_mib=90.0),
        "leader-killed": {"figures": {}},
    }
    plots = make_plots({**ABOUT, "rows": rows})
    assert set(plots) == {
        *("bench-speed.svg", "bench-latency.svg", "bench-growth-speed.svg", "bench-growth-memory.svg")
    }
    speed = texts(plots["bench-speed.svg"])
    about = "2026-11-27 03:00 UTC, 2 CPUs, Linux x86_64, Python 3.11.7; other programs used 0.5 cores"
    assert speed[1:] == [about, "raw-64", "5,000"]
    assert texts(plots["bench-latency.svg"])[2:] == ["raw-1 p50", "4", "raw-1 p99", "9"]
    assert "stored messages" in texts(plots["bench-growth-speed.svg"])
    assert "accounts" not in texts(plots["bench-growth-speed.svg"])
    assert make_plots({**ABOUT, "rows": {}}) == {}


def test_the_rows_of_plots_exist() -> None:
    rows = {measured.name: row(per_s=1.0, p50_ms=1.0, p99_ms=1.0, pause_ms=1.0, rss_mib=1.0) for measured in ROWS}
    plots = make_plots({**ABOUT, "rows": rows})
    assert [len(widths(plots[f"bench-{name}.svg"])) for name in ("speed", "latency", "pauses")] == [10, 8, 3]


def test_peers_stand_side_by_side_and_one_that_is_missing_is_left_out() -> None:
    systems: dict[str, Any] = {name: {"rows": {"raw-64": row(per_s=1.0)}} for name in ("parley", "etcd")}
    systems["nats"] = {"rows": {}}
    [plot] = make_peer_plots({**ABOUT, "systems": systems}).values()
    assert texts(plot)[2:] == ["parley", "etcd", "raw-64 parley", "1", "raw-64 etcd", "1"]
    assert make_peer_plots({**ABOUT, "systems": {"nats": {"rows": {}}}}) == {}


@pytest.mark.parametrize(("flags", "folder"), [((), "out"), (("--record",), "evidence")])
def test_a_bench_writes_its_plots_beside_its_report_or_to_the_evidence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: tuple[str, ...], folder: str
) -> None:
    (tmp_path / "evidence").mkdir()
    found = [Measured(next(one for one in ROWS if one.name == "raw-64"), [{"per_s": 5.0}])]
    monkeypatch.setattr(bench, "EVIDENCE", tmp_path / "evidence")
    monkeypatch.setattr(bench, "run", lambda rows, scale, say: found)
    out = tmp_path / "out" / "bench.json"
    assert bench.main(["--only", "raw-64", "--out", str(out), *flags]) == 0
    assert json.loads(out.read_text())["rows"]["raw-64"]["runs"] == [{"per_s": 5.0}]
    assert [file.name for file in tmp_path.rglob("*.svg")] == ["bench-speed.svg"]
    assert (tmp_path / folder / "bench-speed.svg").exists()
