"""A checkout that serves its cluster to a bench: `python -m scripts.bench --serve`, driven over its standard input.

When it is ready it prints `{"ready": 1, "rows": [...]}`. Then it measures one run for each line `ROW SENDS`, and prints
the figures. A checkout from before the rows prints no `rows`. It takes lines `DEVICES IN_FLIGHT COUNT` and knows raw
sends from one process.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from scripts.bench.figures import Figures
from scripts.bench.rig import Rig
from scripts.bench.rows import RAW, comparable
from scripts.bench.scale import QUICK, Scale
from scripts.bench.workloads import Throughput

_END_S = 60.0
WARM_UP = Throughput(1, 64, 0.2)


async def serve() -> None:
    """Run a cluster, and measure what standard input asks for."""
    rows = {row.name: row for row in comparable()}
    async with Rig.started() as rig:
        await WARM_UP.measure(rig, QUICK)
        _say({"ready": 1, "rows": list(rows)})
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            name, sends = line.split()
            _say(await rows[name].measure(rig, replace(QUICK, sends=int(sends))))


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


def legacy_request(name: str, scale: Scale) -> str:
    """Return the line for a checkout from before the rows. Empty if it cannot measure this row."""
    if name not in RAW or RAW[name][1].processes > 1:
        return ""
    work = RAW[name][1]
    return f"{work.devices} {work.in_flight} {work.count(scale)}"


class Served:
    """The cluster of a checkout, in a process of its own."""

    def __init__(self, checkout: Path) -> None:
        paths = [str(checkout / part) for part in ("server", "client", "proto", ".")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "scripts.bench", "--serve"],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        ready = self._answer()
        self._rows: list[str] | None = ready.get("rows")

    def knows(self, name: str) -> bool:
        """Return true if this checkout can measure a row."""
        return bool(legacy_request(name, QUICK)) if self._rows is None else name in self._rows

    def measure(self, name: str, scale: Scale) -> Figures:
        """Measure one run of a row that the checkout knows."""
        line = legacy_request(name, scale) if self._rows is None else f"{name} {scale.sends}"
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        figures: Figures = self._answer()
        return figures

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"The cluster of a checkout ended with {self._process.wait()} before it answered.")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(timeout=_END_S)
