"""`make abuse`: every attack against a real cluster, with what it cost, in build/abuse.json."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.abuse.attacks import ATTACKS
from tests.abuse.run import Outcome, run_attack

REPORT = Path("build/abuse.json")


def line(outcome: Outcome) -> str:
    """One line of the table."""
    grown = max(outcome.rss_most_mib[name] - start for name, start in outcome.rss_start_mib.items())
    innocent = outcome.innocent
    verdict = "; ".join(outcome.exceeded) or "within its bounds"
    return (
        f"{outcome.attack:26} +{grown:4} MiB  p50 {innocent['p50_ms']:7.1f}  p99 {innocent['p99_ms']:7.1f} ms  "
        f"{outcome.elections} elections  {len(innocent['errors'])} errors  {verdict}"
    )


def main() -> int:
    """Run the chosen attacks, one after the other."""
    parser = argparse.ArgumentParser(description="Attack a real cluster of three nodes, and measure what it costs.")
    parser.add_argument("--seconds", type=float, default=12.0, help="Length of each attack. Default: 12.")
    parser.add_argument("--only", nargs="*", choices=sorted(ATTACKS), default=[], help="Run these only.")
    parser.add_argument("--report", type=Path, default=REPORT, help=f"The report. Default: {REPORT}.")
    chosen = parser.parse_args()
    outcomes = []
    for name in chosen.only or ATTACKS:
        with tempfile.TemporaryDirectory(prefix="parley-abuse-") as folder:
            outcome = asyncio.run(run_attack(ATTACKS[name], Path(folder) / "cluster", chosen.seconds))
        outcomes.append(outcome)
        print(line(outcome), flush=True)
    chosen.report.parent.mkdir(parents=True, exist_ok=True)
    chosen.report.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=2) + "\n")
    return 1 if any(outcome.exceeded for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
