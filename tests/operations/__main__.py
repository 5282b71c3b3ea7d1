"""`make operations`: all procedures in a row under load; the longest pause of each, in build/operations.json.

The exit code is 1 if a message was lost or doubled, or if a procedure exceeded its bound.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from tests.cluster.operations import FILE, record
from tests.operations.judgement import table
from tests.operations.procedures import Found, carry_out

TEXT = FILE.with_suffix(".txt")


def write(found: Found) -> None:
    """Write the figures, for programs and to read."""
    faults = found.all_faults()
    lost, doubled = found.books.lost_and_doubled()
    sent = sum(found.books.sent.values())
    record(
        "all procedures in a row",
        at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        load_average=os.getloadavg()[0],
        cpus=float(os.cpu_count() or 0),
        sent=float(sent),
        lost=float(lost),
        doubled=float(doubled),
        faults=faults,
    )
    for step in found.steps:
        record(
            f"in a row: {step.name}",
            seconds=step.seconds,
            sends=float(len(step.sends_ms)),
            longest_send_ms=step.longest_send_ms,
            longest_usual_send_ms=step.usual_longest_ms,
            bound_more_ms=step.bound_ms,
            longest_delivery_ms=max(step.deliveries_ms, default=0.0),
        )
    verdict = faults or ["Every message was accepted, arrived once at every device, and is on every node once."]
    text = [*table(found.steps), "", f"{sent} messages sent, {lost} lost, {doubled} doubled.", *verdict]
    TEXT.write_text("\n".join(text) + "\n")
    print("\n" + TEXT.read_text() + f"written to {FILE} and {TEXT}")


def main() -> int:
    """Run, print and write."""
    parser = argparse.ArgumentParser(prog="make operations", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="parley-operations-") as folder:
        found = asyncio.run(carry_out(Path(folder)))
    write(found)
    return 1 if found.all_faults() else 0


if __name__ == "__main__":
    sys.exit(main())
