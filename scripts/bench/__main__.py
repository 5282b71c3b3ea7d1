"""The flags of `make bench`. The exit code is 1 if a row failed, for example because messages were lost or doubled."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from scripts.bench.plots import make_plots, write_plots
from scripts.bench.report import EVIDENCE, make_report, readable, write_report
from scripts.bench.rows import UnknownRowError, choose, comparable
from scripts.bench.runner import measure_pairs, run
from scripts.bench.scale import FULL, QUICK, TINY, Scale
from scripts.bench.serving import serve
from scripts.cluster_process import ROOT

DEFAULT_PAIRS = 10


def main(arguments: Sequence[str]) -> int:
    """Measure, write the report, and return the exit code."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure a real cluster on this machine.")
    parser.add_argument("--only", action="append", default=[], metavar="ROW", help="a row, or all that begin so")
    parser.add_argument("--full", action="store_true", help="the largest sizes and more runs; more than half an hour")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes, to see that all rows work")
    parser.add_argument("--base", type=Path, help="another checkout, measured in turn with this one")
    parser.add_argument("--runs", "--pairs", type=int, help="runs of a row. Default: 5, and 10 pairs with --base")
    parser.add_argument("--sends", type=int, help="messages of one run of a throughput row. Default: 10000")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench.json")
    parser.add_argument("--record", action="store_true", help="write the plots to docs/evidence, not beside the report")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        asyncio.run(serve())
        return 0
    scale = _scale(options)
    options.out.unlink(missing_ok=True)  # figures of an earlier run must not stand for this one
    try:
        if options.base is None:
            found = run(choose(options.only, full=options.full), scale, _say)
        else:
            rows = choose(options.only, full=options.full) if options.only else comparable()
            found = measure_pairs(options.base.absolute(), rows, scale, _say)
    except UnknownRowError as error:
        parser.error(str(error))
    report = make_report(found, scale)
    write_report(report, options.out)
    plots = EVIDENCE if options.record else options.out.parent
    write_plots(make_plots(report), plots)
    print(readable(report))
    print(f"details in {options.out}, plots in {plots}")
    if report["failed"]:
        print(f"FAILED: {', '.join(report['failed'])}")
    return 1 if report["failed"] else 0


def _scale(options: argparse.Namespace) -> Scale:
    scale = FULL if options.full else TINY if options.tiny else QUICK
    runs = options.runs or (DEFAULT_PAIRS if options.base is not None else scale.runs)
    return replace(scale, runs=runs, sends=options.sends or scale.sends)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
