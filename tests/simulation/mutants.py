"""`python -m tests.simulation.mutants`: apply each known bug to a copy of the tree; a test has to notice.

Each file in mutants/ is a patch under a header: `Bug:` what is wrong, `From:` where it was seen, and one or more
`Killer:` lines, each a pytest test or `seeds A-B` for that range of the simulation. All killers must pass without any
patch first. A mutant is killed when one of its killers fails on a statement about behaviour: a test that fails since
the patched code does not run (names, types, syntax) proves nothing and counts as broken, as does a run out of time.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MUTANTS = Path(__file__).resolve().parent / "mutants"
TIMEOUT_S = 120
LEFT_OUT = shutil.ignore_patterns(".*", "build", "dist", "var", "__pycache__", "*.egg-info", "docs")
BROKEN = re.compile(r"^E +(?:NameError|ImportError|ModuleNotFoundError|SyntaxError|AttributeError|TypeError)\b", re.M)
SEEDS = re.compile(r"seeds (\d+)-(\d+)")
HEADER = re.compile(r"^# (Bug|From|Killer): (.+)$", re.M)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One patch and what its header says."""

    name: str
    bug: str
    source: str
    killers: tuple[str, ...]
    patch: Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a mutant: "killed", "survived", "broken" (does not apply or does not run) or "timeout"."""

    name: str
    bug: str
    source: str
    outcome: str
    killed_by: str
    seconds: float
    detail: str


def read_mutant(patch: Path) -> Mutant:
    """Read the header of a patch; ValueError if it lacks a line."""
    found: dict[str, list[str]] = {"Bug": [], "From": [], "Killer": []}
    for key, value in HEADER.findall(patch.read_text()):
        found[key].append(value)
    if len(found["Bug"]) != 1 or len(found["From"]) != 1 or not found["Killer"]:
        raise ValueError(f"{patch.name} needs one Bug:, one From: and at least one Killer: line")
    return Mutant(patch.stem, found["Bug"][0], found["From"][0], tuple(found["Killer"]), patch)


def all_mutants(name_contains: str = "") -> list[Mutant]:
    """Every mutant, by name."""
    return [read_mutant(patch) for patch in sorted(MUTANTS.glob("*.patch")) if name_contains in patch.stem]


def _command(killers: list[str]) -> list[str]:
    seeds = SEEDS.fullmatch(killers[0])
    if seeds is None:
        flags = ["-q", "-x", "--no-header", "-p", "no:cacheprovider", "-p", "no:randomly", "--tb=short"]
        return [sys.executable, "-m", "pytest", *flags, *killers]
    first, last = int(seeds[1]), int(seeds[2])
    return [sys.executable, "-m", "tests.simulation", "--start", str(first), "--seeds", str(last - first + 1)]


def _run(tree: Path, killers: list[str], timeout_s: float) -> tuple[int, str]:
    """Run killers in the copy; exit code and output, -1 when out of time."""
    try:
        done = subprocess.run(
            _command(killers), cwd=tree, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return -1, f"no end within {timeout_s:.0f} s"
    return done.returncode, done.stdout + done.stderr


def _last_statement(output: str) -> str:
    """The line that says what went wrong."""
    lines = [line for line in output.splitlines() if line.startswith("E  ") or "Error: " in line]
    return lines[0].strip()[:200] if lines else output.strip()[-200:]


def _apply(tree: Path, mutant: Mutant, *, reverse: bool = False) -> str:
    flags = ["-R"] if reverse else []
    done = subprocess.run(
        ["git", "apply", *flags, str(mutant.patch)], cwd=tree, capture_output=True, text=True, check=False
    )
    return done.stderr.strip()


def try_mutant(tree: Path, mutant: Mutant) -> Outcome:
    """Patch the copy, run the killers until one notices, and take the patch back."""
    started = time.monotonic()

    def outcome(kind: str, killer: str = "", detail: str = "") -> Outcome:
        seconds = round(time.monotonic() - started, 2)
        return Outcome(mutant.name, mutant.bug, mutant.source, kind, killer, seconds, detail)

    error = _apply(tree, mutant)
    if error:
        return outcome("broken", detail=f"the patch no longer applies: {error}")
    try:
        failed, failed_by, detail = "survived", "", ""
        for killer in mutant.killers:
            code, output = _run(tree, [killer], TIMEOUT_S)
            if code == 1 and not BROKEN.search(output):
                return outcome("killed", killer, _last_statement(output))
            if code:
                failed, failed_by, detail = "timeout" if code == -1 else "broken", killer, _last_statement(output)
        return outcome(failed, failed_by, detail)
    finally:
        _apply(tree, mutant, reverse=True)


def run_all(mutants: list[Mutant]) -> list[Outcome]:
    """Check that the killers pass on the tree as it is, then try every mutant. SystemExit if they do not pass."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
        killers = sorted({killer for mutant in mutants for killer in mutant.killers})
        tests = [killer for killer in killers if not SEEDS.fullmatch(killer)]
        for group in [tests, *([killer] for killer in killers if SEEDS.fullmatch(killer))]:
            code, output = _run(tree, group, 10 * TIMEOUT_S) if group else (0, "")
            if code:
                raise SystemExit(f"without any mutant the killers must pass, but they do not:\n{output[-3000:]}")
        outcomes = []
        for mutant in mutants:
            outcomes.append(try_mutant(tree, mutant))
            last = outcomes[-1]
            print(f"{last.outcome:8} {last.name} ({last.seconds:.1f} s) {last.killed_by or last.detail}", flush=True)
        return outcomes


def main() -> int:
    """Exit code 0: all killed; 1: one survived, does not run or no longer applies."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--only", default="", help="mutants whose name contains this")
    arguments = parser.parse_args()
    started = time.monotonic()
    outcomes = run_all(all_mutants(arguments.only))
    killed = sum(outcome.outcome == "killed" for outcome in outcomes)
    report = {
        "total": len(outcomes),
        "killed": killed,
        "wall_s": round(time.monotonic() - started, 1),
        "mutants": [asdict(outcome) for outcome in outcomes],
    }
    target = ROOT / "build" / "mutants.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"{killed} of {len(outcomes)} killed in {report['wall_s']} s; details in {target.relative_to(ROOT)}")
    return 0 if outcomes and killed == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
