"""A little of each fuzz target on every run; `python -m tests.fuzz` does more."""

from __future__ import annotations

import pytest

from tests.fuzz.engine import Target, run_examples
from tests.fuzz.registry import TARGETS


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_nothing_that_others_send_ends_this_program_or_breaks_a_rule(target: Target) -> None:
    run_examples(target, target.examples, start=1)
