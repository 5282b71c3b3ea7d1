"""Processes that tests started and did not end, also those whose parent has died."""

from __future__ import annotations

import contextlib
import os

import psutil

MARK = "TESTS_STARTED_BY"
"""In the environment of every process that tests start: the run, and the worker of it (tests/conftest.py sets it)."""


def end_processes() -> list[str]:
    """Kill what this process, or a worker of it, has started and what still runs; returns the command lines."""
    own = {process.pid for process in psutil.Process().children(recursive=True)}
    ended = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            is_ours = process.pid in own or process.environ().get(MARK, "").startswith(os.environ[MARK])
            if is_ours and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                line = f"{process.pid}: {' '.join(process.cmdline())}"
                process.kill()
                ended.append(line)
    return ended
