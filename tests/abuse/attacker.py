"""The attacker's process: niced, on one core. It reads its stage from stdin and attacks until it is ended.

It prints `ready` before it begins, and what became of its calls at its end.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import resource
import signal
import sys
from collections.abc import Mapping
from typing import Any

from tests.abuse.attack import Stage
from tests.abuse.attacks import ATTACKS


def restrain() -> None:
    """Leave the machine to the nodes, but for one core at the lowest priority."""
    os.nice(19)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def attack(name: str, given: Mapping[str, Any]) -> None:
    """Attack until SIGTERM."""
    chosen = ATTACKS[name]
    stage = Stage(**{**given, "ca_pem": base64.b64decode(given["ca_pem"])})
    await chosen.prepare(stage)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    print("ready", flush=True)
    sys.stdin.readline()
    running = asyncio.ensure_future(chosen.run(stage))
    waiting = asyncio.ensure_future(ended.wait())
    await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
    print(json.dumps(stage.counts), flush=True)
    if running.done():
        running.result()
    os._exit(0)  # the calls in progress are nobody's any more


if __name__ == "__main__":
    restrain()
    asyncio.run(attack(sys.argv[1], json.loads(sys.stdin.readline())))
