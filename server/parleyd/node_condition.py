"""The condition of this node's machine, for the status: its clock, its certificate, its disk and its open files.

A look costs a thread, a list of all open files and the check of a signature, and every account may ask for a status. So
all who ask within FRESH_S share one look.
"""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from parleyd.backup.schedule import BackupSchedule
from parleyd.observability.figures import RecentHistogram
from parleyd.security.node_certificates import NodeCertificates
from parleyd.shared_result import SharedResult
from parleyd.storage.disk_space import DiskSpace

FRESH_S = 0.5


@dataclass(frozen=True, slots=True)
class NodeCondition:
    """What was measured at one time; 0 is for what is not known. Times are Unix time.

    GetStatus tells it by these names.
    """

    wall_clock_ms: int = 0
    certificate_expires_at_ms: int = 0
    disk_free_bytes: int = 0
    disk_reserve_bytes: int = 0
    open_files: int = 0
    open_files_limit: int = 0
    log_write_ms: float = 0.0  # median of the last durable writes of the log
    backup_interval_s: int = 0  # of the backups that the node writes by itself; 0 for none
    last_backup_at_ms: int = 0
    loop_lag_ms: int = 0  # how late the event loop is: half of its time exceeds that


class NodeConditions:
    """Measures the condition. `certificates` are those that this node uses, None without TLS."""

    def __init__(
        self,
        certificates: NodeCertificates | None,
        space: DiskSpace,
        log_write_seconds: RecentHistogram,
        backups: BackupSchedule,
        loop_lag_ms: Callable[[], int] = lambda: 0,
    ) -> None:
        self._certificates = certificates
        self._space = space
        self._log_write_seconds = log_write_seconds
        self._backups = backups
        self._loop_lag_ms = loop_lag_ms
        self._shared = SharedResult(lambda: asyncio.to_thread(self.look), FRESH_S)

    async def get(self) -> NodeCondition:
        """Return what was measured within FRESH_S, with the clock of now, which is compared with the answer's time."""
        return replace(await self._shared.get(), wall_clock_ms=time.time_ns() // 1_000_000)

    def look(self) -> NodeCondition:
        """Measure now, all but the clock; any thread."""
        free_bytes = 0
        with suppress(OSError):
            free_bytes = self._space.free_bytes()
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return NodeCondition(
            disk_free_bytes=free_bytes,
            disk_reserve_bytes=self._space.reserve_bytes,
            certificate_expires_at_ms=self._certificate_expires_at_ms(),
            open_files=count_open_files(),
            open_files_limit=0 if soft == resource.RLIM_INFINITY else soft,
            log_write_ms=self._log_write_seconds.recent_median() * 1000,
            backup_interval_s=self._backups.interval_s,
            last_backup_at_ms=int(self._backups.newest_at_s * 1000),
            loop_lag_ms=self._loop_lag_ms(),
        )

    def _certificate_expires_at_ms(self) -> int:
        return 0 if self._certificates is None else int(self._certificates.expires_at.timestamp() * 1000)


def count_open_files() -> int:
    """Return the number of open files of this process; 0 if the system does not tell."""
    try:
        return len(os.listdir("/proc/self/fd")) - 1  # the listing itself is one
    except OSError:
        return 0
