"""Runs rows: alone, with a cluster that stands for all rows that allow it, or in pairs with another checkout."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from scripts.bench.figures import Figures
from scripts.bench.process import first_line
from scripts.bench.rig import Rig
from scripts.bench.rows import Row
from scripts.bench.scale import Scale
from scripts.bench.serving import WARM_UP, Served
from scripts.cluster_process import ROOT

Say = Callable[[str], None]


@dataclass(slots=True)
class Measured:
    """The runs of a row: of this checkout and, in pairs, of the base. `failed` says why there is none, or no more."""

    row: Row
    runs: list[Figures] = field(default_factory=list)
    base: list[Figures] = field(default_factory=list)
    failed: str = ""
    load_before: float = 0.0
    took_s: float = 0.0


class Runner:
    """Measures rows one after another. A row that fails does not end the bench."""

    def __init__(self, scale: Scale, say: Say) -> None:
        self._scale = scale
        self._say = say
        self._standing: Rig | None = None
        self._stack = AsyncExitStack()

    async def measure(self, rows: Sequence[Row]) -> list[Measured]:
        """Measure all rows."""
        try:
            return [await self._measure(row) for row in rows]
        finally:
            await self._end_standing()

    async def _measure(self, row: Row) -> Measured:
        measured, began_s = Measured(row, load_before=os.getloadavg()[0]), time.monotonic()
        try:
            if row.own_rig:
                async with Rig.started(row.nodes, row.settings) as rig:
                    await self._repeat(rig, measured)
            else:
                await self._repeat(await self._standing_rig(), measured)
        except Exception as error:
            measured.failed = first_line(error)
            if not row.own_rig:
                await self._end_standing()  # later rows get a sound cluster
        measured.took_s = time.monotonic() - began_s
        self._say(f"{row.name}: {measured.failed or f'{len(measured.runs)} runs'} in {measured.took_s:.0f} s")
        return measured

    async def _repeat(self, rig: Rig, measured: Measured) -> None:
        for _ in range(measured.row.runs(self._scale)):
            measured.runs.append(await measured.row.measure(rig, self._scale))

    async def _standing_rig(self) -> Rig:
        if self._standing is None:
            self._standing = await self._stack.enter_async_context(Rig.started())
            await WARM_UP.measure(self._standing, self._scale)
        return self._standing

    async def _end_standing(self) -> None:
        self._standing = None
        await self._stack.aclose()


def measure_pairs(base: Path, rows: Sequence[Row], scale: Scale, say: Say) -> list[Measured]:
    """Measure each row `scale.runs` times here and in another checkout. The order within a pair alternates.

    A row that the base does not know is left out.
    """
    found: list[Measured] = []
    with ExitStack() as stack:
        here = stack.enter_context(Served(ROOT))
        there = stack.enter_context(Served(base))
        for row in rows:
            if not (here.knows(row.name) and there.knows(row.name)):
                say(f"{row.name}: left out, because it needs a cluster of its own or the base does not know it")
                continue
            measured, began_s = Measured(row, load_before=os.getloadavg()[0]), time.monotonic()
            for number in range(scale.runs):
                order = [(here, measured.runs), (there, measured.base)]
                for served, runs in order if number % 2 else reversed(order):
                    runs.append(served.measure(row.name, scale))
            measured.took_s = time.monotonic() - began_s
            say(f"{row.name}: {scale.runs} pairs in {measured.took_s:.0f} s")
            found.append(measured)
    return found


def run(rows: Sequence[Row], scale: Scale, say: Say) -> list[Measured]:
    """Measure rows of this checkout."""
    return asyncio.run(Runner(scale, say).measure(rows))
