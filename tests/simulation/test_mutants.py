"""The known bugs stay applicable, and what runs them tells a kill from an accident."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.simulation.mutants import BROKEN, ROOT, SEEDS, Mutant, all_mutants, read_mutant

MUTANTS = all_mutants()


def test_there_are_at_least_thirty_known_bugs() -> None:
    assert len(MUTANTS) >= 30


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_known_bug_still_applies_and_its_killers_exist(mutant: Mutant) -> None:
    check = ["git", "apply", "--check", str(mutant.patch)]
    done = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    for killer in mutant.killers:
        if not SEEDS.fullmatch(killer):
            file, _, name = killer.partition("::")
            assert f"def {name.split('[')[0]}(" in (ROOT / file).read_text()


def test_a_header_that_lacks_a_line_is_refused(tmp_path: Path) -> None:
    patch = tmp_path / "bug.patch"
    patch.write_text("# Bug: something\n# Killer: tests/x.py::test_y\n--- a/x\n+++ b/x\n")
    with pytest.raises(ValueError, match="one From:"):
        read_mutant(patch)


def test_a_patch_that_does_not_run_is_no_kill() -> None:
    assert BROKEN.search("x.py:1: in f\nE   NameError: name 'y' is not defined\n")
    assert not BROKEN.search("E   AssertionError: assert 1 == 2\n")
