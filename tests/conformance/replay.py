"""Scenario by scenario: run the directives, compare every node with the oracle after each."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conformance.describe import node_state, reference_change_text
from tests.conformance.script import read_script
from tests.conformance.world import World

ROOT = Path(__file__).resolve().parents[2]


def oracle_folder() -> Path:
    """Where the reference's data stands: RAFT_ORACLE, or beside the project."""
    return Path(os.environ.get("RAFT_ORACLE") or ROOT.parent / "shared" / "raft-oracle")


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    """How far a scenario agreed; `difference` is the first disagreement, empty if there is none."""

    name: str
    passed: int
    total: int
    difference: str = ""

    @property
    def ok(self) -> bool:
        """Whether all directives agreed."""
        return not self.difference and self.passed == self.total


def load_oracle(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The oracle's lines by scenario, in order."""
    by_file: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in (folder / "oracle.ndjson").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        by_file[record["file"]].append(record)
    return {name: sorted(records, key=lambda record: int(record["step"])) for name, records in by_file.items()}


def scenario_files(folder: Path) -> list[Path]:
    """All scenarios that stand in the folder."""
    return sorted((folder / "scenarios").glob("*.txt"))


def replay(path: Path, expected: list[dict[str, Any]]) -> ScenarioResult:
    """Run one scenario up to its first disagreement."""
    directives = list(read_script(path))
    total = max(len(directives), len(expected))
    if len(directives) != len(expected):
        text = f"the script has {len(directives)} directives, the oracle {len(expected)} lines"
        return ScenarioResult(path.name, 0, total, text)
    world = World()
    for step, (directive, record) in enumerate(zip(directives, expected, strict=True)):
        where = f"step {step}, {directive.text!r}"
        if directive.name != record["cmd"]:
            return ScenarioResult(path.name, step, total, f"{where}: the oracle has {record['cmd']}")
        try:
            world.run(directive)
        except Exception as error:
            return ScenarioResult(path.name, step, total, f"{where}: {type(error).__name__}: {error}")
        difference = compare(world, record)
        if difference:
            return ScenarioResult(path.name, step, total, f"{where}: {difference}")
    return ScenarioResult(path.name, total, total)


def compare(world: World, record: dict[str, Any]) -> str:
    """The first difference between our nodes and wire and the oracle's, empty if there is none."""
    ours = [node_state(node.raft, node.disk.start, node.disk.entries) for node in world.nodes.values()]
    theirs = [_normal(node) for node in record["nodes"] or []]
    if len(ours) != len(theirs):
        return f"{len(ours)} nodes, expected {len(theirs)}"
    for own, reference in zip(ours, theirs, strict=True):
        for key, value in reference.items():
            if own[key] != value:
                return f"node {own['id']}: {key} is {own[key]}, expected {value}"
    wire, expected = world.inflight(), record["inflight"] or []
    return "" if wire == expected else f"on the wire is {wire}, expected {expected}"


def _normal(node: dict[str, Any]) -> dict[str, Any]:
    log = [
        [term, kind, data if kind == "EntryNormal" else reference_change_text(kind, data)]
        for term, kind, data in node["log"] or []
    ]
    return {**node, "log": log}


def replay_all(folder: Path) -> list[ScenarioResult]:
    """Every scenario of the folder."""
    oracle = load_oracle(folder)
    return [replay(path, oracle.get(path.name, [])) for path in scenario_files(folder)]
