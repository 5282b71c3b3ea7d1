"""The plots of a report: which rows each shows. Rows that were not measured are left out, and so is an empty plot."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from scripts.bench.charts import Bar, bars, lines
from scripts.bench.figures import OTHER_CORES

Report = dict[str, Any]

SPEED = (
    *("raw-64", "raw-256", "raw-1024", "raw-2-processes", "raw-crowd", "raw-recipients"),
    *("sdk-64", "sdk-256", "sdk-1024", "end-to-end-flat"),
)
LATENCY = ("raw-1", "sdk-1", "end-to-end", "end-to-end-sdk")
PAUSES = ("leader-killed", "leader-silent", "leader-transfer")
GROWTH = {"stored": "stored messages", "accounts": "accounts", "connections": "connections"}
MEMORY = "rss_mib"


def make_plots(report: Report) -> dict[str, str]:
    """Return the plots of `make bench`, by file name."""
    rows = report["rows"]
    about = about_of(report, rows.values())
    plots = {
        "bench-speed.svg": _bars("Accepted messages per second", about, [(row, "per_s", row) for row in SPEED], rows),
        "bench-latency.svg": _bars(
            "Milliseconds until a message is accepted, or arrives",
            about,
            [(row, f"{percent}_ms", f"{row} {percent}") for row in LATENCY for percent in ("p50", "p99")],
            rows,
        ),
        "bench-pauses.svg": _bars(
            "Milliseconds without an accepted message", about, [(row, "pause_ms", row) for row in PAUSES], rows
        ),
        "bench-growth-speed.svg": _growth("Accepted messages per second, by size", about, "per_s", rows),
        "bench-growth-memory.svg": _growth("MiB of a node, by size", about, MEMORY, rows),
    }
    return {name: plot for name, plot in plots.items() if plot}


def make_peer_plots(report: Report) -> dict[str, str]:
    """Return the plot of `make bench-peers`."""
    systems = {name: system for name, system in report["systems"].items() if system["rows"]}
    wanted = dict.fromkeys(row for system in systems.values() for row in system["rows"] if row in SPEED)
    shown = [
        _bar(f"{row} {name}", system["rows"][row]["figures"]["per_s"], group)
        for row in wanted
        for group, (name, system) in enumerate(systems.items())
        if row in system["rows"]
    ]
    rows = [row for system in systems.values() for row in system["rows"].values()]
    about = f"{about_of(report, rows)}. Durability differs: see bench_peers.json"
    return {"bench-peers.svg": bars("Accepted messages per second", about, shown, tuple(systems))} if shown else {}


def about_of(report: Report, rows: Iterable[Report]) -> str:
    """Return the date and the machine of a report, and how busy others kept the machine, if that was measured."""
    machine = report["machine"]
    about = f"{report['date']} UTC, {machine['cpus']} CPUs, {machine['system']}, Python {machine['python']}"
    others = [row["figures"][OTHER_CORES]["median"] for row in rows if OTHER_CORES in row["figures"]]
    return f"{about}; other programs used {statistics.median(others):.2g} cores" if others else about


def write_plots(plots: dict[str, str], folder: Path) -> None:
    """Write plots into a folder."""
    for name, plot in plots.items():
        (folder / name).write_text(plot, encoding="utf-8")


def _bars(title: str, about: str, wanted: Sequence[tuple[str, str, str]], rows: Report) -> str:
    shown = [
        _bar(label, rows[row]["figures"][figure])
        for row, figure, label in wanted
        if figure in rows.get(row, {"figures": {}})["figures"]
    ]
    return bars(title, about, shown) if shown else ""


def _bar(label: str, values: dict[str, float], group: int = 0) -> Bar:
    return Bar(label, values["median"], values["min"], values["max"], group)


def _growth(title: str, about: str, figure: str, rows: Report) -> str:
    """Return lines of the rows that are named by a size. Lines need two sizes, and an axis of powers has no 0."""
    series = {}
    for prefix, name in GROWTH.items():
        sizes = {row: int(row.removeprefix(f"{prefix}-")) for row in rows if row.startswith(f"{prefix}-")}
        points = [
            (float(size), rows[row]["figures"][figure]["median"])
            for row, size in sorted(sizes.items(), key=lambda item: item[1])
            if size > 0 and figure in rows[row]["figures"]
        ]
        if len(points) > 1:
            series[name] = points
    return lines(title, about, series) if series else ""
