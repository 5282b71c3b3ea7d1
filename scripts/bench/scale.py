"""How large the rows of a run are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes and repetitions."""

    runs: int = 5
    sends: int = 10_000
    paced_s: float = 5.0
    queued: int = 50_000
    kills: int = 5
    silences: int = 5
    idle_s: float = 10.0
    idle_clients: int = 256
    recipients: int = 10_000
    fan_out_s: float = 20.0


QUICK = Scale()
FULL = Scale(runs=10, kills=20, silences=10, idle_clients=1000)
TINY = Scale(
    runs=1,
    sends=200,
    paced_s=0.5,
    queued=500,
    kills=1,
    silences=1,
    idle_s=1.0,
    idle_clients=8,
    recipients=20,
    fan_out_s=1.0,
)
"""Shows that the bench works. Its figures say nothing."""
