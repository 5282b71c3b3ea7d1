"""The report of a bench: a dictionary for build/bench.json, and a table for people."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scripts.bench.audit import BODY_BYTES
from scripts.bench.figures import compare, generator_was_limit, summary
from scripts.bench.runner import Measured
from scripts.bench.scale import Scale
from scripts.cluster_process import ROOT

Report = dict[str, Any]
EVIDENCE = ROOT / "docs" / "evidence"


def make_report(found: Sequence[Measured], scale: Scale) -> Report:
    """Return all figures: for each row every run and its summary."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "machine": machine(),
        "body_bytes": BODY_BYTES,
        "scale": asdict(scale),
        "rows": {measured.row.name: _report_row(measured) for measured in found},
        "failed": [measured.row.name for measured in found if measured.failed],
    }


def machine() -> dict[str, Any]:
    """Return what figures depend on and may be published."""
    return {
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _report_row(measured: Measured) -> Report:
    figures = summary(measured.runs)
    row: Report = {
        "text": measured.row.text,
        "figures": figures,
        "generator_was_limit": generator_was_limit(figures),
        "load_before": measured.load_before,
        "took_s": round(measured.took_s, 1),
        "runs": measured.runs,
    }
    if measured.failed:
        row["failed"] = measured.failed
    if measured.base:
        row |= {
            "base": summary(measured.base),
            "base_runs": measured.base,
            "this_to_base": compare(list(zip(measured.runs, measured.base, strict=True))),
        }
    return row


def readable(report: Report) -> str:
    """Return the table: for each figure of a row the median, and the least and the greatest of its runs."""
    lines = []
    for name, row in report["rows"].items():
        lines.append(f"{name}: {row['text']}; {len(row['runs'])} runs, load {row['load_before']:.1f}")
        lines += [_line(figure, values, row) for figure, values in row["figures"].items()]
        if row["generator_was_limit"]:
            lines.append("    the client kept a core busy, so the cluster may be faster than this")
        if "failed" in row:
            lines.append(f"    FAILED: {row['failed']}")
    return "\n".join(lines)


def _line(figure: str, values: dict[str, float], row: Report) -> str:
    line = f"    {figure:<22} {values['median']:>10.4g}   {values['min']:>10.4g} to {values['max']:<10.4g}"
    if figure in row.get("this_to_base", {}):
        ratio = row["this_to_base"][figure]
        line += f" base {row['base'][figure]['median']:>10.4g}   ratio {ratio['ratio']:.3f}"
        if "low" in ratio:
            line += f" (95%: {ratio['low']:.3f} to {ratio['high']:.3f})"
    return line.rstrip()


def write_report(report: Report, target: Path) -> None:
    """Write the report as JSON."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
