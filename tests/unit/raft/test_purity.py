"""The core is pure: it imports nothing that touches the world, and the same events give the same run."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import parleyd.raft

PACKAGE = Path(next(iter(parleyd.raft.__path__)))
ALLOWED = {
    "__future__",
    "bisect",
    "collections",
    "dataclasses",
    "enum",
    "itertools",
    "operator",
    "random",
    "parleyd",
    "struct",
    "typing",
}
RUN = """
from parleyd.raft.events import Campaign, Propose, Tick
from tests.unit.raft.lab import Lab
lab = Lab(*range(1, 8), seed=3)
lab.tick(60)
for number in range(20):
    lab.do(lab.leaders()[0], Propose((b"%d" % number,)))
    lab.cut(lab.leaders()[0])
    lab.tick(15)
    lab.heal()
    lab.tick(5)
print([str(letter) for letter in lab.delivered].__repr__().__len__(), [lab[n].status() for n in range(1, 8)])
"""


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


def test_the_core_imports_nothing_that_touches_the_world() -> None:
    found = {name for path in PACKAGE.glob("*.py") for name in imported(path)}
    assert found <= ALLOWED


def test_a_run_is_the_same_under_any_hash_seed() -> None:
    outputs = set()
    for seed in ("0", "1", "4242"):
        done = subprocess.run(
            [sys.executable, "-c", RUN],
            capture_output=True,
            text=True,
            check=True,
            cwd=PACKAGE.parents[2],
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        outputs.add(done.stdout)
    assert len(outputs) == 1
    assert "RaftStatus" in outputs.pop()
