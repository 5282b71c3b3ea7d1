"""`make bench-window`: how long the window takes and what memory it needs, with much in its files.

Each run of a row is a process of its own over its own copy of the files. The report has the median, the least and the
greatest value. The exit code is 1 if a median misses its bound.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scripts.bench.figures import Figures
from scripts.bench.report import machine
from tests.bench_window.store import STARTED, fill

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "bench_window.json"


@dataclass(frozen=True, slots=True)
class WindowRow:
    """A row: the files it needs, how often it runs, and the function of rows.py that measures."""

    people: int
    each: int
    runs: int
    measure: str


ROWS = {
    "start": WindowRow(50, 100, 3, "measure_start"),
    "thread-open": WindowRow(1, 100_000, 5, "measure_open"),
    "thread-scroll": WindowRow(1, 100_000, 3, "measure_scroll"),
    "list-2000": WindowRow(2000, 10, 3, "measure_list"),
    "day": WindowRow(50, 100, 1, "measure_day"),
}
BOUNDS = {"open_ms": 300.0, "frame_p99_ms": 33.0, "list_show_ms": 1000.0, "list_message_ms": 200.0}
"""Above these the exit code is 1. A single frame may be late because of other programs, so its bound is the 99th
percentile; `frames_over_33` says how many were late."""


def run_once(row: WindowRow, files: Path) -> Figures:
    """Measure in a new process over a copy of the files."""
    with tempfile.TemporaryDirectory(prefix="parley-window-") as folder:
        root = Path(folder) / "state"
        shutil.copytree(files, root)
        environment = os.environ | {STARTED: repr(time.time()), "QT_QPA_PLATFORM": "offscreen"}
        command = [sys.executable, "-m", "tests.bench_window", "--measure", row.measure, "--root", str(root)]
        done = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def summary(runs: Sequence[Figures]) -> dict[str, dict[str, float]]:
    """Return median, least and greatest value of each figure."""
    return {
        name: {
            "median": round(statistics.median(run[name] for run in runs), 3),
            "min": round(min(run[name] for run in runs), 3),
            "max": round(max(run[name] for run in runs), 3),
        }
        for name in runs[0]
    }


def missed(rows: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """Return each median above its bound, as a text."""
    return [
        f"{row}: {name} is {figures[name]['median']:g}, more than {bound:g}"
        for row, figures in rows.items()
        for name, bound in BOUNDS.items()
        if name in figures and figures[name]["median"] > bound
    ]


def main(arguments: Sequence[str]) -> int:
    """Measure all rows, or one. Return the exit code."""
    parser = argparse.ArgumentParser(prog="make bench-window", description="Measure the window, without a display.")
    parser.add_argument("--only", choices=ROWS, help="one row")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        from tests.bench_window import rows as window_rows

        measure: Callable[[Path], Figures] = getattr(window_rows, options.measure)
        print(json.dumps(measure(options.root)), flush=True)
        return 0
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for name, row in ROWS.items():
        if options.only in (None, name):
            rows[name] = _measure_row(name, row)
    report: dict[str, Any] = {"machine": machine(), "at": datetime.now(UTC).isoformat(timespec="seconds"), "rows": rows}
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(report, indent=2) + "\n")
    found = missed(rows)
    print("\n".join(["FAILED: a bound was missed", *found]) if found else f"all bounds hold; {OUT.relative_to(ROOT)}")
    return 1 if found else 0


def _measure_row(name: str, row: WindowRow) -> dict[str, dict[str, float]]:
    with tempfile.TemporaryDirectory(prefix="parley-window-") as folder:
        files = Path(folder)
        print(f"{name}: filling {row.people} conversations with {row.each} messages each", flush=True)
        asyncio.run(fill(files, row.people, row.each))
        figures = summary([run_once(row, files) for _ in range(row.runs)])
    for figure, values in figures.items():
        print(f"  {figure:<22} {values['median']:10.4g}   ({values['min']:.4g} to {values['max']:.4g})", flush=True)
    return figures


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
