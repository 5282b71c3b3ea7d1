"""Runs one target for a time, or for a number of examples. What fails is shrunk and printed by hypothesis."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

EXAMPLES_PER_ROUND = 50


@dataclass(frozen=True, slots=True)
class Target:
    """What is drawn, and what must hold for it. `examples` are those of `make test`."""

    name: str
    strategy: SearchStrategy[Any]
    check: Callable[[Any], None]
    examples: int = 60


def run_examples(target: Target, examples: int, start: int) -> None:
    """Check so many examples, drawn from the seed `start`; raises what the check raises, for the smallest example."""

    @seed(start)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        print_blob=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(target.strategy)
    def check(drawn: object) -> None:
        target.check(drawn)

    check()


def run_for(target: Target, seconds: float, start: int) -> int:
    """Check examples for a time; return how many. A failure names the seed of its round."""
    ends, rounds = time.monotonic() + seconds, 0
    while time.monotonic() < ends:
        try:
            run_examples(target, EXAMPLES_PER_ROUND, start + rounds)
        except BaseException as error:
            error.add_note(f"again: python -m tests.fuzz --only {target.name} --seed {start + rounds} --seconds 1")
            raise
        rounds += 1
    return rounds * EXAMPLES_PER_ROUND
