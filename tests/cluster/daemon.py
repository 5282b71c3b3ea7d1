"""Runs `parleyd` as a person would, to its end."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass

from scripts.cluster_process import ROOT


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended and what it said."""

    code: int
    output: str


async def parleyd(*arguments: str, timeout_s: float = 30.0) -> Ended:
    """Run one command that is expected to end by itself; TimeoutError (and the process killed) if it does not."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PARLEY")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "parleyd",
        *arguments,
        cwd=ROOT,
        env={**environment, "NO_COLOR": "1", "COLUMNS": "200"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(timeout_s):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return Ended(process.returncode, output.decode(errors="replace"))
