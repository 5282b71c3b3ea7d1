"""Backups that a node writes by itself: into `backup_folder`, every `backup_interval_s`, the newest `backup_keep` stay.

When the next one is due follows from the newest file, so a restart neither skips a backup nor makes one more. An older
file goes only after the new one is durable, and only a file that this node made of this cluster. The folder is never
made: if a disk is not mounted, no backup is written beside it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from parleyd.backup.errors import BackupBusyError
from parleyd.backup.making import Backups
from parleyd.storage.errors import CopyFailedError

RETRY_S = 300.0
LOOK_S = 60.0
"""A sleep is never longer, because the wall clock may be set."""


class BackupSchedule:
    """The backups of one node by its settings. An interval of 0 makes none."""

    def __init__(
        self,
        backups: Backups,
        folder: Path | None,
        interval_s: int,
        keep: int,
        may_make: Callable[[], bool],
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """`may_make` is false while this node's state is not one to keep.

        `newest_at_s` is when the newest backup was made, Unix time, as the last look found it; 0 without one.
        `outcomes` counts what became of those that were due.
        """
        self._backups = backups
        self._folder = folder
        self._interval_s = interval_s
        self._keep = keep
        self._may_make = may_make
        self._now_s = now_s
        self._not_before_s = 0.0
        self.newest_at_s = 0.0
        self._started_s = now_s()
        self.outcomes = {"written": 0, "failed": 0}
        self._logger = structlog.get_logger("backup")

    @property
    def interval_s(self) -> int:
        """Return the interval, 0 if there are no backups."""
        return self._interval_s if self._folder is not None else 0

    def age_s(self) -> float:
        """Return the age of the newest backup, without one the age of this object; 0 if the node writes none."""
        since_s = self.newest_at_s or self._started_s
        return max(0.0, self._now_s() - since_s) if self.interval_s else 0.0

    async def run(self) -> None:
        """Make backups until cancelled. Raises StorageError if the state is damaged, which stops the node."""
        if self._folder is None or not self._interval_s:
            return
        while True:
            wait_s = await self.step(self._folder)
            await asyncio.sleep(wait_s)

    async def step(self, folder: Path) -> float:
        """Make a backup if one is due. Return after how many seconds to look again."""
        try:
            due_s = max(await asyncio.to_thread(self._due_s, folder), self._not_before_s)
            now_s = self._now_s()
            if now_s < due_s:
                return min(due_s - now_s, LOOK_S)
            if not self._may_make():
                return LOOK_S
            made = await self._backups.write_into(folder)
            self.newest_at_s = self._now_s()
            self.outcomes["written"] += 1
            size, removed = await asyncio.to_thread(self._tidy, made)
        except (OSError, CopyFailedError, BackupBusyError) as error:
            self.outcomes["failed"] += 1
            retry_s = min(RETRY_S, self._interval_s)
            self._not_before_s = self._now_s() + retry_s
            self._logger.error("backup_failed", folder=str(folder), error=str(error), effect="the older backups stay")
            return retry_s
        self._logger.info("backup_written", file=str(made), bytes=size, removed=[path.name for path in removed])
        return min(self._interval_s, LOOK_S)

    # ---- in a thread, because a file system may hang

    def _due_s(self, folder: Path) -> float:
        """Return when the next one is due. A file from the future, made by a wrong clock, does not count."""
        times = [path.stat().st_mtime for path in self._backups.own_files(folder)]
        self.newest_at_s = max((made_s for made_s in times if made_s <= self._now_s()), default=0.0)
        return self.newest_at_s + self._interval_s if self.newest_at_s else 0.0

    def _tidy(self, made: Path) -> tuple[int, list[Path]]:
        """Remove the old ones. Return the size of the new one, and what was removed."""
        old = self._backups.own_files(made.parent)[: -self._keep]
        for path in old:
            path.unlink(missing_ok=True)
        return made.stat().st_size, old
