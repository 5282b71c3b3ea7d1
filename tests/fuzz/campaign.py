"""Runs fuzz targets, each in a process of its own, as many at a time as this machine has processors."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.registry import TARGETS

ROOT = Path(__file__).resolve().parents[2]
GRACE_S = 120.0  # to start, to finish a round, and to shrink what fails


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """What became of a target: how many examples held, or the failure."""

    target: str
    seed: int
    seconds: float
    examples: int = 0
    failure: str = ""


def fuzz_all(seconds: float) -> list[Fuzzed]:
    """Fuzz all targets for so many seconds each; print a line for each."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        return list(pool.map(lambda target: _fuzz(target.name, seconds), TARGETS))


def _fuzz(name: str, seconds: float) -> Fuzzed:
    seed = secrets.randbits(32)
    with tempfile.TemporaryDirectory(prefix="parley-fuzz-") as folder:
        report = Path(folder) / "fuzz.json"
        command = [sys.executable, "-m", "tests.fuzz", "--only", name, "--seconds", str(seconds)]
        command += ["--seed", str(seed), "--report", str(report)]
        try:
            ran = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=seconds + GRACE_S
            )
            result = json.loads(report.read_text())[name] if report.exists() else ran.stderr[-2000:]
            output = ran.stdout + ran.stderr
        except subprocess.TimeoutExpired as error:
            result, output = f"hangs: no end after {error.timeout:.0f} s", ""
    if isinstance(result, int):
        print(f"{name:26} {result} examples", flush=True)
        return Fuzzed(name, seed, seconds, examples=result)
    print(f"{output}\n{name:26} {result}", flush=True)
    return Fuzzed(name, seed, seconds, failure=result)
