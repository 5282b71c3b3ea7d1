"""The flags of `make bench-peers`. The exit code is 1 if a row failed. A peer that is not installed is no failure."""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from scripts.bench.plots import make_peer_plots, write_plots
from scripts.bench.report import EVIDENCE, write_report
from scripts.bench.scale import QUICK, TINY, Scale
from scripts.bench_peers.peers import PEERS
from scripts.bench_peers.report import make_report, readable
from scripts.bench_peers.run import System, measure_parley, measure_peer
from scripts.bench_peers.workloads import ROWS
from scripts.cluster_process import ROOT

PEER_SCALE = replace(QUICK, runs=3, kills=3)


def main(arguments: Sequence[str]) -> int:
    """Measure, write the report, and return the exit code."""
    names = [peer.name for peer in PEERS]
    parser = argparse.ArgumentParser(prog="make bench-peers", description="Measure other systems beside a cluster.")
    parser.add_argument("--peer", action="append", choices=names, help="measure this peer. Default: all")
    parser.add_argument("--only", action="append", choices=[*ROWS], help="measure this row. Default: all")
    parser.add_argument("--runs", type=int, help=f"runs of a row. Default: {PEER_SCALE.runs}")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes, to see that all rows work")
    parser.add_argument("--record", action="store_true", help="write the plot to docs/evidence, not beside the report")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench_peers.json")
    options = parser.parse_args(arguments)
    scale = TINY if options.tiny else PEER_SCALE
    if options.runs:
        scale = replace(scale, runs=options.runs, kills=options.runs)
    options.out.unlink(missing_ok=True)  # figures of an earlier run must not stand for this one
    found = asyncio.run(_measure(options.peer or names, options.only or [*ROWS], scale))
    report = make_report(found, scale)
    write_report(report, options.out)
    plots = EVIDENCE if options.record else options.out.parent
    write_plots(make_peer_plots(report), plots)
    print(readable(report))
    print(f"details in {options.out}, plots in {plots}")
    return 1 if report["failed"] else 0


async def _measure(peers: Sequence[str], rows: Sequence[str], scale: Scale) -> list[System]:
    parley = await measure_parley(rows, scale, _say, _revision())
    return [parley, *[await measure_peer(kind, rows, scale, _say) for kind in PEERS if kind.name in peers]]


def _revision() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
