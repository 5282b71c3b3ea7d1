"""Measures how late the event loop runs a timer: what every caller of this node waits besides everything else."""

from __future__ import annotations

import asyncio

from parleyd.observability.figures import WORK_BOUNDS_S, Histogram

INTERVAL_S = 0.25


class LoopLag:
    """The lateness of a timer, four times a second."""

    def __init__(self) -> None:
        self.seconds = Histogram(WORK_BOUNDS_S)

    async def run(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + INTERVAL_S
            await asyncio.sleep(INTERVAL_S)
            self.seconds.observe(max(0.0, loop.time() - due))
