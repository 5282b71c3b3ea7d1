"""What a seed draws before its run: the cluster, its settings, and which faults are on and how hard (swarm testing).

Faults that are always on at the same strength hide the bugs that need some of them off; so each seed flips a coin for
every kind.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

TICK_MS = 50
ELECTION_TICKS = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """One run; probabilities are per message or per event, intervals in milliseconds, 0 for a fault that is off."""

    seed: int
    voters: int
    spares: int
    fault_phase_ms: int
    # network
    drop: float
    duplicate: float
    late: float
    max_delay_ms: int
    in_order: bool
    partition_every_ms: int
    one_way: bool
    # processes and disks
    crash_every_ms: int
    torn_update: float
    max_sync_ms: int
    max_apply_ms: int
    stall_every_ms: int
    skewed_clocks: bool
    # what people do
    propose_every_ms: int
    read_every_ms: int
    change_every_ms: int
    transfer_every_ms: int
    forget_every_ms: int
    compact_every_ms: int
    # settings of the core
    pre_vote: bool
    check_quorum: bool
    max_entries_bytes: int
    max_inflight_messages: int
    max_uncommitted_bytes: int
    max_applying_bytes: int

    def faults_on(self) -> list[str]:
        """The kinds of faults of this run, for people."""
        kinds = {
            "drop": self.drop,
            "duplicate": self.duplicate,
            "late": self.late,
            "reorder": not self.in_order,
            "partition": self.partition_every_ms,
            "one-way": self.partition_every_ms and self.one_way,
            "crash": self.crash_every_ms,
            "torn-update": self.torn_update,
            "slow-sync": self.max_sync_ms > 20,
            "stall": self.stall_every_ms,
            "clock-skew": self.skewed_clocks,
            "membership": self.change_every_ms,
            "transfer": self.transfer_every_ms,
            "forget-leader": self.forget_every_ms,
            "compaction": self.compact_every_ms,
        }
        return [kind for kind, on in kinds.items() if on]


def draw_plan(seed: int, fault_phase_ms: int = 12_000) -> Plan:
    """The plan of a seed; the same on every machine."""
    rng = random.Random(f"plan/{seed}")

    def sometimes(low: int, high: int, chance: float = 0.5) -> int:
        value = rng.randint(low, high)
        return value if rng.random() < chance else 0

    def rate(high: float, chance: float = 0.5) -> float:
        value = rng.uniform(0, high)
        return value if rng.random() < chance else 0.0

    changes = sometimes(400, 2_500, 0.4)
    in_order = rng.random() < 0.5
    protected = changes > 0  # removed servers are left running: only pre-vote and stickiness keep them harmless
    return Plan(
        seed=seed,
        voters=rng.choice((1, 2, 3, 3, 3, 5, 5)),
        spares=rng.randint(1, 2) if changes else 0,
        fault_phase_ms=fault_phase_ms,
        drop=rate(0.3),
        duplicate=rate(0.3),
        late=rate(0.05),
        max_delay_ms=rng.choice((2, 10, 60, 250)),
        in_order=in_order,
        partition_every_ms=sometimes(400, 3_000),
        one_way=rng.random() < 0.5,
        crash_every_ms=sometimes(300, 3_000, 0.6),
        torn_update=rate(0.02),
        max_sync_ms=rng.choice((1, 10, 60, 300)),
        max_apply_ms=rng.choice((1, 10, 100)),
        stall_every_ms=sometimes(1_000, 4_000, 0.3),
        skewed_clocks=rng.random() < 0.3,
        propose_every_ms=rng.choice((10, 40, 150)),
        read_every_ms=rng.choice((25, 100, 400)),
        change_every_ms=changes,
        transfer_every_ms=sometimes(500, 4_000, 0.4),
        forget_every_ms=sometimes(200, 3_000, 0.4),
        compact_every_ms=sometimes(100, 1_500, 0.6),
        pre_vote=protected or rng.random() < 0.6,
        check_quorum=protected or rng.random() < 0.6,
        max_entries_bytes=rng.choice((1, 64, 1024, 512 * 1024)),
        # Without order a wide window of small messages is refused and sent again all the time: slow, and nothing new.
        max_inflight_messages=rng.choice((1, 2, 8, 256 if in_order else 4)),
        max_uncommitted_bytes=rng.choice((40, 400, 2**26)),
        max_applying_bytes=rng.choice((1, 100, 2**23)),
    )
