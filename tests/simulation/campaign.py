"""Many seeds: totals, what happened how often, and the seeds that failed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.plan import draw_plan
from tests.simulation.simulation import RunResult, run_plan

EXPECTED_COUNTERS = (
    "elected",
    "acknowledged",
    "reads-answered",
    "dropped-read",
    "truncated",
    "compacted",
    "snapshot-installed",
    "conf-change-applied",
    "joint-entered",
    "transfer-asked-in-partition",
    "refused-overloaded",
)
"""What a campaign of some hundred seeds must have seen: a simulation in which it never happens tests it never."""


@dataclass
class Campaign:
    """The sum of many runs."""

    seeds: int = 0
    simulated_ms: int = 0
    wall_s: float = 0.0
    events: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    counters: Counter[str] = field(default_factory=Counter)
    violations: list[RunResult] = field(default_factory=list)

    def add(self, result: RunResult) -> None:
        """Count one run in."""
        self.seeds += 1
        self.simulated_ms += result.simulated_ms
        self.events += result.events
        self.faults += result.faults
        self.counters += result.counters
        if result.violation:
            self.violations.append(result)

    def never_seen(self) -> list[str]:
        """What should have happened at least once and did not."""
        return [name for name in EXPECTED_COUNTERS if not self.counters[name]]

    def report(self) -> dict[str, Any]:
        """For build/simulate.json."""
        simulated_s = self.simulated_ms / 1000
        return {
            "seeds": self.seeds,
            "violations": [{"seed": result.seed, "violation": result.violation} for result in self.violations],
            "faults": dict(sorted(self.faults.items())),
            "faults_total": self.faults.total(),
            "counters": dict(sorted(self.counters.items())),
            "never_seen": self.never_seen(),
            "events": self.events,
            "simulated_s": round(simulated_s, 1),
            "wall_s": round(self.wall_s, 2),
            "simulated_s_per_wall_s": round(simulated_s / self.wall_s, 1) if self.wall_s else 0.0,
        }


def run_campaign(
    seeds: Iterable[int], *, wall_limit_s: float = float("inf"), on_result: Callable[[RunResult], None] | None = None
) -> Campaign:
    """Run `seeds` in order until they, or the time, are used up."""
    campaign = Campaign()
    started = time.monotonic()
    for seed in seeds:
        result = run_plan(draw_plan(seed))
        campaign.add(result)
        if on_result is not None:
            on_result(result)
        campaign.wall_s = time.monotonic() - started
        if campaign.wall_s > wall_limit_s:
            break
    return campaign
