"""Fuzz every target for some seconds; write build/fuzz.json."""

from __future__ import annotations

import argparse
import json
import logging
import secrets
import sys
import traceback
from pathlib import Path

import structlog

from tests.fuzz.engine import run_for
from tests.fuzz.registry import TARGETS

REPORT = Path("build/fuzz.json")


def main() -> int:
    """Run the targets; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="Time for each target. Default: 10.")
    parser.add_argument("--only", default="", help="Take the targets with this word in their name.")
    parser.add_argument("--seed", type=int, default=None, help="Repeat a run. Default: a new seed.")
    parser.add_argument("--report", type=Path, default=REPORT, help=f"The report. Default: {REPORT}.")
    chosen = parser.parse_args()
    # What is refused is logged each time; what no one has foreseen is worth reading.
    logging.disable()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    start = secrets.randbits(32) if chosen.seed is None else chosen.seed
    report: dict[str, object] = {"seed": start, "seconds": chosen.seconds}
    for target in (target for target in TARGETS if chosen.only in target.name):
        try:
            report[target.name] = run_for(target, chosen.seconds, start)
        except Exception as error:
            traceback.print_exception(error)
            report[target.name] = f"failed: {error}"
        print(f"{target.name}: {report[target.name]}", flush=True)
    chosen.report.parent.mkdir(parents=True, exist_ok=True)
    chosen.report.write_text(json.dumps(report, indent=2) + "\n")
    return int(any(isinstance(result, str) for result in report.values()))


if __name__ == "__main__":
    sys.exit(main())
