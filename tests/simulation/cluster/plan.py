"""What a seed draws before its run: the cluster, its settings, and every fault with its time (swarm testing).

Faults that are always on at the same strength hide the bugs that need some of them off; so each seed flips a coin for
every kind. Faults are a list, so that a failing run can be made small by leaving out one after another.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

TICK_MS = 50
ELECTION_TICKS = 5

FAULT_KINDS = {
    # kind: the chance that a run has it, and how many there are then at most
    "crash": (0.55, 8),
    "crash-in-step": (0.45, 8),
    "power-loss": (0.4, 5),
    "pause": (0.35, 5),
    "partition": (0.55, 8),
    "silence": (0.3, 4),
    "stall": (0.3, 4),
    "write-error": (0.3, 4),
    "disk-full": (0.25, 3),
    "bit-rot": (0.25, 2),
    "misdirected-write": (0.2, 2),
    "wiped-directory": (0.25, 2),
    "clock-jump": (0.3, 4),
    "broken-connection": (0.4, 8),
    "transfer": (0.45, 6),
    "add": (0.3, 3),
    "remove": (0.3, 3),
    "change": (0.8, 8),
    "crash-in-install": (0.4, 3),
}
"""Kinds with a time of their own; what goes wrong with single messages is a rate (`Plan.drop` and the like)."""

MEMBERSHIP = frozenset({"add", "remove", "change"})
LOSES_A_DISK = frozenset({"bit-rot", "misdirected-write", "wiped-directory"})


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong at a time; `pick` decides where and how, so that leaving out others changes nothing."""

    at_ms: int
    kind: str
    pick: int
    for_ms: int

    def __str__(self) -> str:
        return f"{self.kind} at {self.at_ms} ms for {self.for_ms} ms"


@dataclass(frozen=True, slots=True)
class Plan:
    """One run; rates are per message, times in milliseconds. `raw_changes`: any membership change the core takes."""

    seed: int
    voters: int
    fault_phase_ms: int
    faults: tuple[Fault, ...]
    raw_changes: bool
    # network
    drop: float
    duplicate: float
    late: float
    max_delay_ms: int
    in_order: bool
    # disks and clocks
    max_write_ms: int
    max_apply_ms: int
    skewed_clocks: bool
    # what people do
    clients: int
    send_every_ms: int
    read_every_ms: int
    # settings of the core and of the log
    pre_vote: bool
    check_quorum: bool
    max_entries_bytes: int
    max_inflight_messages: int
    max_uncommitted_bytes: int
    max_applying_bytes: int
    retain_entries: int
    commit_notices: bool
    asks_early: bool
    # Each drawn by itself, so that a seed without it is the run that it was before people did that.
    channel_changes: bool
    mutes: bool
    puts_away: bool
    removes: bool
    gathers: bool

    def faults_on(self) -> list[str]:
        """The kinds of faults of this run, for people."""
        rates = {
            "drop": self.drop,
            "duplicate": self.duplicate,
            "late": self.late,
            "reorder": not self.in_order,
            "slow-write": self.max_write_ms > 20,
            "clock-skew": self.skewed_clocks,
        }
        return [kind for kind, on in rates.items() if on] + sorted({fault.kind for fault in self.faults})


def draw_plan(seed: int, fault_phase_ms: int = 10_000) -> Plan:
    """The plan of a seed; the same on every machine."""
    rng = random.Random(f"plan/{seed}")

    def rate(high: float, chance: float = 0.5) -> float:
        value = rng.uniform(0, high)
        return value if rng.random() < chance else 0.0

    in_order = rng.random() < 0.5
    raw_changes = rng.random() < 0.35
    faults = _draw_faults(rng, fault_phase_ms, raw_changes=raw_changes)
    kinds = {fault.kind for fault in faults}
    # Removed servers are left running: only pre-vote and stickiness keep them harmless.
    protected = bool(kinds & (MEMBERSHIP | LOSES_A_DISK))
    return Plan(
        seed=seed,
        voters=rng.choice((1, 2, 3, 3, 3, 3, 4, 5, 5, 6, 7)),
        fault_phase_ms=fault_phase_ms,
        faults=faults,
        raw_changes=raw_changes,
        drop=rate(0.3),
        duplicate=rate(0.3),
        late=rate(0.05),
        max_delay_ms=rng.choice((2, 10, 60, 250)),
        in_order=in_order,
        max_write_ms=rng.choice((1, 10, 60, 300)),
        max_apply_ms=rng.choice((1, 10, 100, 500)),
        skewed_clocks=(skewed_clocks := rng.random() < 0.3),
        clients=rng.choice((1, 2, 3)),
        send_every_ms=rng.choice((60, 150, 400)),
        read_every_ms=rng.choice((100, 300, 800)),
        # Without pre-vote a server with a fast clock and an old log can raise the term for ever before one with a slow
        # clock stands for election.
        pre_vote=protected or rng.random() < 0.6 or skewed_clocks,
        check_quorum=protected or rng.random() < 0.6,
        max_entries_bytes=rng.choice((1, 200, 4096, 512 * 1024)),
        # Without order a wide window of small messages is refused and sent again all the time: slow, and nothing new.
        max_inflight_messages=rng.choice((1, 2, 8, 256 if in_order else 4)),
        max_uncommitted_bytes=rng.choice((150, 2_000, 2**26)),
        max_applying_bytes=rng.choice((1, 500, 2**23)),
        retain_entries=rng.choice((1, 3, 8, 40, 10_000)),
        commit_notices=rng.random() < 0.75,
        asks_early=rng.random() < 0.5,
        channel_changes=random.Random(f"channels/{seed}").random() < 0.5,
        mutes=random.Random(f"mutes/{seed}").random() < 0.5,
        puts_away=random.Random(f"put away/{seed}").random() < 0.5,
        removes=random.Random(f"removes/{seed}").random() < 0.5,
        gathers=random.Random(f"gathers/{seed}").random() < 0.5,
    )


def _draw_faults(rng: random.Random, fault_phase_ms: int, *, raw_changes: bool) -> tuple[Fault, ...]:
    faults: list[Fault] = []
    for kind, (chance, most) in FAULT_KINDS.items():
        is_on, count = rng.random() < chance, rng.randint(1, most)
        drawn = [
            Fault(rng.randint(50, fault_phase_ms), kind, rng.getrandbits(32), _duration(rng)) for _ in range(count)
        ]
        # Where any change of the members is tried, an operator cannot answer for it that a lost disk is replaced.
        excluded = LOSES_A_DISK | {"add", "remove"} if raw_changes else {"change"}
        if is_on and kind not in excluded:
            faults.extend(drawn)
    return tuple(sorted(faults, key=lambda fault: fault.at_ms))


def _duration(rng: random.Random) -> int:
    return rng.randint(20, rng.choice((200, 1_000, 4_000)))
