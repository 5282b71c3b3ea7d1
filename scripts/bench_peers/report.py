"""The report: the figures of every system, and the ratios of Parley to each peer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from scripts.bench.audit import BODY_BYTES
from scripts.bench.figures import Figures, summary
from scripts.bench.report import Report, machine
from scripts.bench.scale import Scale
from scripts.bench_peers.run import PARLEY, System

SHOWN = {
    "per_s": "per s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "server_cpu_s_per_1000": "server CPU s per 1,000",
    "client_cpu_s_per_1000": "client CPU s per 1,000",
    "filled_per_s": "filled per s",
    "drained_per_s": "drained per s",
    "pause_ms": "pause ms",
    "arrived_twice": "arrived twice",
}
NOTHING = "n/a"


def make_report(systems: Sequence[System], scale: Scale) -> Report:
    """Return all figures, and the ratios of the medians."""
    found: dict[str, Any] = {system.name: _of_system(system) for system in systems}
    return {
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "machine": machine(),
        "body_bytes": BODY_BYTES,
        "scale": asdict(scale),
        "systems": found,
        "parley_to": {name: _ratios(found[PARLEY], found[name]) for name in found if name != PARLEY},
        "failed": [f"{system.name} {row}" for system in systems for row in system.failed],
    }


def _of_system(system: System) -> Report:
    rows = {name: {"figures": summary(runs), "runs": runs} for name, runs in system.runs.items()}
    return {
        "version": system.version,
        "durability": system.durability,
        "remarks": list(system.remarks),
        "missing": system.missing,
        "rows": rows,
        "failed": system.failed,
    }


def _ratios(parley: Report, peer: Report) -> dict[str, Figures]:
    """Return Parley's median divided by the peer's, for each figure that both have."""
    ratios: dict[str, Figures] = {}
    for row, measured in parley["rows"].items():
        theirs = peer["rows"].get(row, {"figures": {}})["figures"]
        ours = measured["figures"]
        ratios[row] = {
            name: ours[name]["median"] / theirs[name]["median"]
            for name in ours
            if name in SHOWN and theirs.get(name, {}).get("median", 0) > 0
        }
    return ratios


def readable(report: Report) -> str:
    """Return the table: a line for each figure, the median of each system, and Parley's ratio to it."""
    systems = report["systems"]
    lines = [f"{name} {system['version']}: {_about(system)}" for name, system in systems.items()]
    lines += ["", "medians; in brackets: Parley divided by this", ""]
    lines.append(f"{'':<44}" + "".join(f"{name:>20}" for name in systems))
    rows = dict.fromkeys(row for system in systems.values() for row in (*system["rows"], *system["failed"]))
    for row in rows:
        lines += [_line(report, row, figure) for figure in SHOWN if _has(report, row, figure)]
    for name, system in systems.items():
        lines += [f"FAILED: {name} {row}: {text}" for row, text in system["failed"].items()]
    return "\n".join(lines)


def _about(system: Report) -> str:
    if system["missing"]:
        return f"not measured. {system['missing']}"
    return "; ".join([system["durability"], *system["remarks"]])


def _has(report: Report, row: str, figure: str) -> bool:
    return any(_median(system, row, figure) is not None for system in report["systems"].values())


def _median(system: Report, row: str, figure: str) -> float | None:
    value: float | None = system["rows"].get(row, {"figures": {}})["figures"].get(figure, {}).get("median")
    return value


def _line(report: Report, row: str, figure: str) -> str:
    cells = []
    for name, system in report["systems"].items():
        median = _median(system, row, figure)
        ratio = report["parley_to"].get(name, {}).get(row, {}).get(figure)
        text = NOTHING if median is None else f"{median:,.4g}" if median < 1000 else f"{median:,.0f}"
        cells.append(f"{text} ({ratio:.2f})" if ratio is not None else text)
    return f"{row + ', ' + SHOWN[figure]:<44}" + "".join(f"{cell:>20}" for cell in cells)
