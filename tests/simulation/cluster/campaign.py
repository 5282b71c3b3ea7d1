"""Many seeds: totals, what happened how often, and the seeds that failed."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.cluster.plan import FAULT_KINDS, draw_plan
from tests.simulation.cluster.simulation import RunResult, run_plan

EXPECTED_FAULTS = (
    *(kind for kind in FAULT_KINDS if kind != "crash-in-install"),
    "blocked",
    "drop",
    "duplicate",
    "late",
    "reorder",
    "snapshot-transfer-broken",
)
EXPECTED_COUNTERS = (
    "acknowledged",
    "acknowledged-again",
    "answer-lost",
    "answer-skipped",
    "apply-kept-untold",
    "bare-majority-healed",
    "change-proposed-in-partition",
    "channel-made",
    "change-refused",
    "change-refused-by-rules",
    "client-moved",
    "died-between-state-and-log",
    "elected-in-joint-membership",
    "elected-in-partition",
    "forwarded",
    "joint+crash+snapshot",
    "joint-entered",
    "joint-left",
    "leader-paused",
    "leader-removed",
    "leader-silent",
    "learner-promoted",
    "log-compacted",
    "log-tail-replaced",
    "lost-server-replaced",
    "marked-read",
    "member-removed",
    "membership-entry-truncated",
    "partition-bridge",
    "partition-halves",
    "partition-isolate",
    "partition-one-way-bridge",
    "partition-one-way-halves",
    "partition-one-way-isolate",
    "partition-one-way-ring",
    "partition-ring",
    "power-loss-took-state-back",
    "read-answered",
    "read-dropped",
    "received",
    "refused-overloaded",
    "refused-transferring",
    "removed-server-destroyed",
    "send-gap",
    "send-repeated",
    "snapshot-installed",
    "snapshot-of-joint-membership-installed",
    "snapshot-transfer-failed",
    "snapshots-back-to-back",
    "start-refused-damaged-disk",
    "start-repairs-log",
    "stopped-by-its-disk",
    "stored-for-all",
    "stored-in-channel",
    "transfer-in-joint-membership",
    "transfer-in-partition",
    "voter-demoted",
    "write-kept-untold",
    "write-lost",
)
"""What a campaign of a thousand seeds must have seen: where it never happened, it was never tested."""


@dataclass
class Campaign:
    """The sum of many runs. `wall_s` is summed over `processes`, so that it is the time of one core."""

    processes: int = 1
    seeds: int = 0
    simulated_ms: int = 0
    wall_s: float = 0.0
    events: int = 0
    slowest_recovery_ms: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    counters: Counter[str] = field(default_factory=Counter)
    violations: list[RunResult] = field(default_factory=list)

    def add(self, result: RunResult) -> None:
        """Count one run in."""
        self.seeds += 1
        self.simulated_ms += result.simulated_ms
        self.events += result.events
        self.slowest_recovery_ms = max(self.slowest_recovery_ms, result.recovery_ms)
        self.faults += result.faults
        self.counters += result.counters
        if result.violation:
            self.violations.append(result)

    def never_seen(self) -> list[str]:
        """What should have happened at least once and did not."""
        faults = [name for name in EXPECTED_FAULTS if not self.faults[name]]
        return faults + [name for name in EXPECTED_COUNTERS if not self.counters[name]]

    def report(self) -> dict[str, Any]:
        """For build/simulate.json."""
        simulated_s, core_s = self.simulated_ms / 1000, self.wall_s * self.processes
        return {
            "seeds": self.seeds,
            "violations": [{"seed": result.seed, "violation": result.violation} for result in self.violations],
            "faults": dict(sorted(self.faults.items())),
            "faults_total": self.faults.total(),
            "counters": dict(sorted(self.counters.items())),
            "never_seen": self.never_seen(),
            "events": self.events,
            "simulated_s": round(simulated_s, 1),
            "slowest_recovery_s": self.slowest_recovery_ms / 1000,
            "wall_s": round(self.wall_s, 2),
            "processes": self.processes,
            "simulated_s_per_wall_s_and_core": round(simulated_s / core_s, 1) if core_s else 0.0,
        }


def run_campaign(
    seeds: Sequence[int],
    *,
    processes: int = 1,
    on_result: Callable[[RunResult], None] | None = None,
) -> Campaign:
    """Run all seeds."""
    campaign = Campaign(processes)
    started = time.monotonic()
    with _runner(processes) as run_all:
        for result in run_all(seeds):
            campaign.add(result)
            if on_result is not None:
                on_result(result)
    campaign.wall_s = time.monotonic() - started
    return campaign


@contextmanager
def _runner(processes: int) -> Iterator[Callable[[Sequence[int]], Iterable[RunResult]]]:
    if processes == 1:
        yield lambda seeds: map(run_seed, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield lambda seeds: pool.imap_unordered(run_seed, seeds, chunksize=8)


def run_seed(seed: int) -> RunResult:
    """Run one seed as it is drawn."""
    return run_plan(draw_plan(seed))
