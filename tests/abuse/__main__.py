"""`make abuse`: every attack against a real cluster, then fuzzing, with what each cost, in build/abuse.json."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.abuse.attacks import ATTACKS
from tests.abuse.run import Outcome, run_attack
from tests.cluster import small_disks
from tests.fuzz.campaign import Fuzzed, fuzz_all

REPORT = Path("build/abuse.json")
MAY_MOUNT = "PARLEY_ABUSE_MAY_MOUNT"
NO_MOUNTS = "not run: this system lets this user make no small disks (unshare -m, unshare -Urm)"


def line(outcome: Outcome) -> str:
    """One line of the table."""
    grown = max(outcome.rss_most_mib[name] - start for name, start in outcome.rss_start_mib.items())
    innocent = outcome.innocent
    verdict = "; ".join(outcome.exceeded) or "within its bounds"
    figures = "".join(f"{name} {value}, " for name, value in outcome.figures.items())
    return (
        f"{outcome.attack:26} +{grown:4} MiB  CPU {max(outcome.cpu_percent.values()):3} %  "
        f"p50 {innocent['p50_ms']:7.1f}  p99 {innocent['p99_ms']:7.1f} ms  "
        f"disk {innocent['disk_sync_longest_ms']:6.1f} ms, {innocent['disk_stalls']} stalls  "
        f"{outcome.elections} elections  {len(innocent['errors'])} errors  {figures}{verdict}"
    )


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description="Attack a real cluster of three nodes, and measure what it costs.")
    parser.add_argument("--seconds", type=float, default=8.0, help="Length of each attack. Default: 8.")
    parser.add_argument("--only", nargs="*", choices=sorted(ATTACKS), default=[], help="Run these attacks, no fuzzing.")
    parser.add_argument(
        "--fuzz-seconds", type=float, default=10.0, help="Time of each fuzz target, 0 for none. Default: 10."
    )
    parser.add_argument("--report", type=Path, default=REPORT, help=f"The report. Default: {REPORT}.")
    return parser.parse_args()


def enter_namespace(names: Sequence[str]) -> None:
    """Start this program again where it may mount, if an attack needs that and the system allows it."""
    wanted = any(ATTACKS[name].scene.needs_mounts for name in names)
    if wanted and MAY_MOUNT not in os.environ and (command := small_disks.namespace()) is not None:
        again = [*command, sys.executable, "-m", "tests.abuse", *sys.argv[1:]]
        os.execvpe(again[0], again, {**os.environ, MAY_MOUNT: "1"})


def main() -> int:
    """Run the chosen attacks, one after the other, then the fuzz targets."""
    chosen = arguments()
    names = chosen.only or list(ATTACKS)
    enter_namespace(names)
    outcomes, left_out = [], {}
    for name in names:
        if ATTACKS[name].scene.needs_mounts and MAY_MOUNT not in os.environ:
            left_out[name] = NO_MOUNTS
            print(f"{name:26} {NO_MOUNTS}", flush=True)
            continue
        with tempfile.TemporaryDirectory(prefix="parley-abuse-") as folder:
            outcome = asyncio.run(run_attack(ATTACKS[name], Path(folder) / "cluster", chosen.seconds))
        outcomes.append(outcome)
        print(line(outcome), flush=True)
    fuzzed: list[Fuzzed] = []
    if not chosen.only and chosen.fuzz_seconds > 0:
        fuzzed = fuzz_all(chosen.fuzz_seconds)
    report = {
        "attacks": [asdict(outcome) for outcome in outcomes],
        "left_out": left_out,
        "fuzzing": [asdict(target) for target in fuzzed],
    }
    chosen.report.parent.mkdir(parents=True, exist_ok=True)
    chosen.report.write_text(json.dumps(report, indent=2) + "\n")
    return 1 if any(outcome.exceeded for outcome in outcomes) or any(target.failure for target in fuzzed) else 0


if __name__ == "__main__":
    sys.exit(main())
