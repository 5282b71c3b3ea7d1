"""`make bench-smoke`: has a message become twice as dear? Ratios to a fixed loop, measured in the same run.

Each round measures the loop and some rows, and divides. The cheapest round counts, because a regression is in every
round, and a disturbance is not. Ratios of CPU time bear a busy machine. Bounds are a factor above the recorded ratios,
for which the dearest round of a run with `--record` counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean

from scripts.bench.figures import Figures
from scripts.bench.process import ClientProcess
from scripts.bench.reference import Cost, Identity
from scripts.bench.report import machine
from scripts.bench.rig import Rig
from scripts.bench.scale import QUICK
from scripts.bench.workloads import SdkThroughput, Throughput
from scripts.cluster_layout import split_address
from scripts.cluster_process import ROOT

RECORDED = ROOT / "docs" / "evidence" / "bench-smoke.json"
BOUND = 2.0
ROUNDS = 3
OPERATIONS = 1000
_SCALE = replace(QUICK, sends=5000)
_ROWS: dict[str, Throughput | SdkThroughput] = {
    "raw-1": Throughput(1, 1, 0.05),
    "raw-256": Throughput(1, 256),
    "crowd-16": Throughput(16, 1, 0.2),
    "sdk-64": SdkThroughput(64, 0.3),
}


def ratios(reference: Cost, rows: Mapping[str, Figures]) -> Figures:
    """Return how many operations of the loop a message costs, in CPU time and, for a lone message, in time.

    A lone message waits for disks and processes as the loop does. So their undisturbed times can be compared.
    """
    found = {
        f"{name} server CPU": row["server_cpu_s_per_1000"] / reference.cpu_s_per_1000 for name, row in rows.items()
    }
    found["sdk-64 client CPU"] = rows["sdk-64"]["client_cpu_s_per_1000"] / reference.cpu_s_per_1000
    found["raw-1 time"] = rows["raw-1"]["p10_ms"] / reference.p10_ms
    return found


def regressions(rounds: Sequence[Figures], recorded: Figures) -> list[str]:
    """Return the ratios that are above their bound in every round, or have no bound. Empty if none is."""
    found = []
    for name in rounds[0]:
        least = min(measured[name] for measured in rounds)
        if name not in recorded:
            found.append(f"{name}: no ratio is recorded")
        elif least > BOUND * recorded[name]:
            found.append(f"{name}: {least:.3g} operations, more than {BOUND:g} times the recorded {recorded[name]:.3g}")
    return found


async def measure() -> list[Figures]:
    """Return the ratios of each round. Raise if a message was lost or doubled."""
    async with Rig.started() as rig, AsyncExitStack() as stack:
        loops = [await ClientProcess.start() for _ in range(os.cpu_count() or 1)]
        for process in loops:
            stack.push_async_callback(process.end)
        await _ROWS["raw-256"].measure(rig, _SCALE)  # warms up
        rounds = []
        for _ in range(ROUNDS):
            reference = await _measure_loops(rig, loops)
            rounds.append(ratios(reference, {row: await work.measure(rig, _SCALE) for row, work in _ROWS.items()}))
        return rounds


async def _measure_loops(rig: Rig, loops: Sequence[ClientProcess]) -> Cost:
    """Return the mean cost of the loops, which run at the same time, with the certificate of a node."""
    layout, name = rig.cluster.layout, rig.cluster.names[0]
    identity = Identity(
        host=split_address(rig.cluster.address(name))[0],
        ca_file=str(layout.ca_file),
        cert_file=str(layout.folder(name) / "node.pem"),
        key_file=str(layout.folder(name) / "node.key"),
    )
    asked = {"folder": str(layout.root), "operations": OPERATIONS, **asdict(identity)}
    costs = [
        Cost(**reply.value)
        for reply in await asyncio.gather(*(process.call("measure_reference", **asked) for process in loops))
    ]
    return Cost(mean(cost.cpu_s_per_1000 for cost in costs), mean(cost.p10_ms for cost in costs))


def record(rounds: Sequence[Figures], target: Path) -> None:
    """Write the ratios of the dearest round of each."""
    dearest = {name: round(max(measured[name] for measured in rounds), 3) for name in rounds[0]}
    target.write_text(json.dumps({"machine": machine(), "operations_per_message": dearest}, indent=2) + "\n")


def main(arguments: Sequence[str]) -> int:
    """Measure and compare, or record. Return the exit code."""
    parser = argparse.ArgumentParser(prog="make bench-smoke", description="Compare messages with a fixed loop.")
    parser.add_argument("--record", action="store_true", help=f"write {RECORDED.relative_to(ROOT)}; on a quiet machine")
    options = parser.parse_args(arguments)
    rounds = asyncio.run(measure())
    if options.record:
        record(rounds, RECORDED)
    recorded: Figures = json.loads(RECORDED.read_text())["operations_per_message"]
    for name in rounds[0]:
        values = " ".join(f"{measured[name]:8.3g}" for measured in rounds)
        print(f"  {name:<20} {values}   recorded {recorded.get(name, 0):8.3g}")
    found = regressions(rounds, recorded)
    print("\n".join(["FAILED: a message costs too much", *found]) if found else "no message costs too much")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
