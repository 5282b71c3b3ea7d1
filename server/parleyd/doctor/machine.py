"""Looks at this machine: free space, the time of a durable write, the limit of open files, whether the clock is set."""

from __future__ import annotations

import ctypes
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from parleyd.doctor.facts import DiskLook, FilesLook, SyncLook
from parleyd.open_files import MIN_FILES, RESERVED_FILES
from parleyd.storage.disk_space import free_bytes_of

SYNCS = 20
SYNC_BYTES = 4_096
MAX_SYNCS_S = 3.0
LEAST_FREE_BYTES = 4 << 20
"""With less, nothing is written to measure anything."""
_TIMEX_BYTES = 512  # more than any system's `struct timex`
_CLOCK_NOT_SYNCHRONISED = 5


def look_at_disk(folder: Path, reserve_bytes: int) -> DiskLook:
    """Return the free space of a folder's disk."""
    try:
        return DiskLook(free_bytes_of(folder), reserve_bytes)
    except OSError as error:
        return DiskLook(0, reserve_bytes, f"The free space of {folder} cannot be measured: {error.strerror}.")


def look_at_sync(folder: Path, clock: Callable[[], float] = time.perf_counter) -> SyncLook:
    """Measure how long writes of SYNC_BYTES take to be durable in a file of their own.

    The file has no name while it is used. So it goes away however this process ends.
    """
    name = folder / f"doctor-{os.getpid()}.tmp"
    try:
        if free_bytes_of(folder) < LEAST_FREE_BYTES:
            return SyncLook(error=f"{folder} has too little free space to measure a durable write.")
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            name.unlink()
            times_ms = _sync_times_ms(descriptor, clock)
        finally:
            os.close(descriptor)
    except OSError as error:
        return SyncLook(error=f"A durable write in {folder} failed: {error.strerror}.")
    return SyncLook(median(times_ms), max(times_ms))


def _sync_times_ms(descriptor: int, clock: Callable[[], float]) -> list[float]:
    times_ms: list[float] = []
    ends_at = clock() + MAX_SYNCS_S
    while len(times_ms) < SYNCS and (not times_ms or clock() < ends_at):
        began = clock()
        os.write(descriptor, os.urandom(SYNC_BYTES))
        os.fsync(descriptor)
        times_ms.append((clock() - began) * 1000)
    return times_ms


def look_at_files(max_connections: int, node_pid: int, proc: Path = Path("/proc")) -> FilesLook:
    """Return the limit of open files of the running node, or else the hard limit of this process."""
    needed = max_connections + RESERVED_FILES
    if node_pid:
        try:
            return FilesLook(
                _soft_limit((proc / str(node_pid) / "limits").read_text()), needed, MIN_FILES, of_node=True
            )
        except (OSError, ValueError):
            pass  # the process of another user, or another system
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return FilesLook(None if hard == resource.RLIM_INFINITY else hard, needed, MIN_FILES)


def _soft_limit(limits: str) -> int | None:
    """Read the soft limit of open files from a process's list. Raises ValueError."""
    for line in limits.splitlines():
        if line.startswith("Max open files"):
            soft = line.split()[3]
            return None if soft == "unlimited" else int(soft)
    raise ValueError("no line about open files")


def is_clock_synchronised() -> bool | None:
    """Return whether the system's clock is synchronised, by the system's own word; None if it does not tell."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _CLOCK_NOT_SYNCHRONISED
