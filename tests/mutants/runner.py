"""`python -m tests.mutants`: apply each known bug to a copy of the tree; a test has to notice.

Each file in patches/ is a patch to server/ under a header: `Bug:` what is wrong, `From:` where it was seen, and one or
more `Killer:` lines, each a pytest test. All killers must pass without any patch first. A mutant is killed when one of
its killers fails with a statement: an assertion, an invariant, an error of the product's own or a missed deadline. A
killer that falls over a wrong index, key, attribute or type is an accident: another form of the same bug would pass
it. One that cannot be set up or collected, that lacks a name or never ends proves nothing at all.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from py_compile import PycInvalidationMode
from queue import SimpleQueue
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
MUTANTS = Path(__file__).resolve().parent / "patches"
WORKERS = 2
KILLER_TIMEOUT_S = 60.0
BASELINE_TIMEOUT_S = 600.0
# Nothing else that happens to be installed: loading it takes longer than most killers.
PLUGINS = ("-p", "pytest_asyncio.plugin", "-p", "pytest_timeout")
LEFT_OUT = shutil.ignore_patterns(".*", "build", "dist", "var", "__pycache__", "*.egg-info", "docs")
HEADER = re.compile(r"^# (Bug|From|Killer): (.+)$", re.M)
PATCHED = re.compile(r"^\+\+\+ b/(\S+)$", re.M)

KILLED, SURVIVED, ACCIDENT, BROKEN, TIMEOUT = "killed", "survived", "accident", "broken", "timeout"
# How much is left to do about an outcome, least first: what a mutant with several killers is called after.
_HOPE = (ACCIDENT, TIMEOUT, BROKEN, SURVIVED)
_DOES_NOT_RUN = re.compile(
    r"(NameError|UnboundLocalError|ImportError|ModuleNotFoundError|SyntaxError|IndentationError)\b"
)
_FALLS_OVER = re.compile(
    r"(IndexError|KeyError|LookupError|AttributeError|TypeError|ValueError|StopIteration|RecursionError|"
    r"ZeroDivisionError|(Base)?ExceptionGroup|struct\.error)\b"
)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One patch and what its header says."""

    name: str
    bug: str
    source: str
    killers: tuple[str, ...]
    patch: Path


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one run of a killer says of the patch under it."""

    outcome: str
    detail: str = ""
    test: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a mutant: killed or not, by which test, and what that test said."""

    name: str
    bug: str
    source: str
    outcome: str
    killed_by: str
    seconds: float
    detail: str


def read_mutant(patch: Path) -> Mutant:
    """Read the header of a patch; ValueError if it lacks a line or touches anything but the product."""
    text = patch.read_text()
    found: dict[str, list[str]] = {"Bug": [], "From": [], "Killer": []}
    for key, value in HEADER.findall(text):
        found[key].append(value)
    if len(found["Bug"]) != 1 or len(found["From"]) != 1 or not found["Killer"]:
        raise ValueError(f"{patch.name} needs one Bug:, one From: and at least one Killer: line")
    if [path for path in PATCHED.findall(text) if not path.startswith("server/")]:
        raise ValueError(f"{patch.name} patches something else than server/")
    return Mutant(patch.stem, found["Bug"][0], found["From"][0], tuple(found["Killer"]), patch)


def all_mutants(name_contains: str = "") -> list[Mutant]:
    """Every mutant, by name."""
    return [read_mutant(patch) for patch in sorted(MUTANTS.glob("*.patch")) if name_contains in patch.stem]


# ---- one run of tests


def run_tests(tree: Path, tests: Sequence[str], timeout_s: float) -> Verdict:
    """Run tests in a tree and say whether they made a statement; only the first failure counts."""
    report = tree.parent / f"{tree.name}.xml"
    report.unlink(missing_ok=True)
    flags = ["-q", "-x", "--no-header", "-p", "no:cacheprovider", "--tb=short", *PLUGINS]
    started = subprocess.Popen(
        [sys.executable, "-m", "pytest", *flags, f"--junit-xml={report}", *tests],
        cwd=tree,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = started.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return Verdict(TIMEOUT, f"no end within {timeout_s:.0f} s")
    finally:
        # Also what the tests themselves started and left running.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()
    if started.returncode == 0:
        return Verdict(SURVIVED)
    if started.returncode != 1 or not report.exists():
        return Verdict(BROKEN, output.strip()[-300:])
    return judge(report.read_text(encoding="utf-8"))


def judge(junit_xml: str) -> Verdict:
    """What the first failure in a report of pytest is worth."""
    root = ElementTree.fromstring(junit_xml)
    errors, failures = list(root.iter("error")), list(root.iter("failure"))
    if errors or not failures:
        said = errors[0].get("message", "") if errors else "no test failed"
        return Verdict(BROKEN, _first_line(said))
    said = failures[0].get("message", "")
    test = next(case.get("name", "") for case in root.iter("testcase") if case.find("failure") is not None)
    if _DOES_NOT_RUN.match(said):
        return Verdict(BROKEN, _first_line(said), test)
    return Verdict(ACCIDENT if _FALLS_OVER.match(said) else KILLED, _first_line(said), test)


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:200]


# ---- one mutant


def _apply(tree: Path, mutant: Mutant, *, reverse: bool = False) -> str:
    # A copy that lies inside somebody's repository is still no part of it.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tree.parent)}
    command = ["git", "apply", *(["-R"] if reverse else []), str(mutant.patch)]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    return done.stderr.strip()


def try_mutant(tree: Path, mutant: Mutant, timeout_s: float = KILLER_TIMEOUT_S) -> Outcome:
    """Patch the copy, run the killers until one notices, and take the patch back."""
    started = time.monotonic()

    def outcome(kind: str, killer: str = "", detail: str = "") -> Outcome:
        seconds = round(time.monotonic() - started, 2)
        return Outcome(mutant.name, mutant.bug, mutant.source, kind, killer, seconds, detail)

    error = _apply(tree, mutant)
    if error:
        return outcome(BROKEN, detail=f"the patch no longer applies: {error}")
    missed: list[tuple[str, str]] = []
    try:
        for killer in mutant.killers:
            verdict = run_tests(tree, [killer], timeout_s)
            if verdict.outcome == KILLED:
                return outcome(KILLED, killer, verdict.detail)
            missed.append((verdict.outcome, f"{killer}: {verdict.detail}"))
        return outcome(*min(((kind, "", detail) for kind, detail in missed), key=lambda miss: _HOPE.index(miss[0])))
    finally:
        _apply(tree, mutant, reverse=True)


# ---- all of them


def copy_tree(target: Path) -> Path:
    """Copy the checkout, compiled so that a patched file is known by its content, not by the second it changed in."""
    shutil.copytree(ROOT, target, ignore=LEFT_OUT)
    for folder in ("server", "proto"):
        compileall.compile_dir(target / folder, quiet=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
    return target


def run_all(mutants: list[Mutant]) -> list[Outcome]:
    """Check that the killers pass on the tree as it is, then try every mutant. SystemExit if they do not pass."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        trees: SimpleQueue[Path] = SimpleQueue()
        first, *others = [copy_tree(Path(folder) / f"tree-{number}") for number in range(WORKERS)]
        verdict = run_tests(first, sorted({k for mutant in mutants for k in mutant.killers}), BASELINE_TIMEOUT_S)
        if verdict.outcome != SURVIVED:
            raise SystemExit(
                f"without any mutant the killers must pass, but: {verdict.outcome}: {verdict.test}: {verdict.detail}"
            )
        for tree in (first, *others):
            trees.put(tree)

        def one(mutant: Mutant) -> Outcome:
            tree = trees.get()
            try:
                tried = try_mutant(tree, mutant)
            finally:
                trees.put(tree)
            print(_row(tried), flush=True)
            return tried

        with ThreadPoolExecutor(WORKERS) as pool:
            return list(pool.map(one, mutants))


def _row(tried: Outcome) -> str:
    by = tried.killed_by.removeprefix("tests/").removeprefix("unit/")
    return f"{tried.outcome:8} {tried.seconds:5.1f} s  {tried.name:52} {by or tried.detail}"


def main() -> int:
    """Exit code 0: all killed; 1: one survived, was killed by accident only, does not run or no longer applies."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--only", default="", help="mutants whose name contains this")
    arguments = parser.parse_args()
    started = time.monotonic()
    outcomes = run_all(all_mutants(arguments.only))
    killed = sum(outcome.outcome == KILLED for outcome in outcomes)
    alive = [outcome for outcome in outcomes if outcome.outcome != KILLED]
    report = {
        "total": len(outcomes),
        "killed": killed,
        "survivors": [outcome.name for outcome in alive if outcome.outcome == SURVIVED],
        "accidents": [outcome.name for outcome in alive if outcome.outcome == ACCIDENT],
        "broken": [outcome.name for outcome in alive if outcome.outcome in (BROKEN, TIMEOUT)],
        "wall_s": round(time.monotonic() - started, 1),
        "mutants": [asdict(outcome) for outcome in outcomes],
    }
    target = ROOT / "build" / "mutants.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for outcome in alive:
        print(f"\nNOT KILLED: {outcome.name} ({outcome.outcome}): {outcome.bug}\n  {outcome.detail}")
    print(f"\n{killed} of {len(outcomes)} killed in {report['wall_s']} s; details in {target.relative_to(ROOT)}")
    return 0 if outcomes and not alive else 1
