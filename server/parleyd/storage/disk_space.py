"""The free space of the disk under the data directory, and the part of it that is kept in reserve.

The reserve is what a node needs to go on when the disk is nearly full: acknowledgements, log-outs and deletions still
enter the log, committed entries are applied, SQLite checkpoints. Copies of the state are made and received only in the
space above it. With less than half of the reserve the node appends nothing more, because a failed write ends it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from parleyd.storage.errors import CopyFailedError


def free_bytes_of(folder: Path) -> int:
    """Return the bytes that this process may still write to the disk of `folder`; raises OSError."""
    return shutil.disk_usage(folder).free


class DiskSpace:
    """The free space of one folder's disk; any thread."""

    def __init__(self, folder: Path, reserve_bytes: int, measure: Callable[[Path], int] = free_bytes_of) -> None:
        self._folder = folder
        self._measure = measure
        self.reserve_bytes = reserve_bytes

    def free_bytes(self) -> int:
        """Return the free bytes now; raises OSError."""
        return self._measure(self._folder)

    def check_room_for_copy(self, copy_bytes: int) -> None:
        """Raise CopyFailedError if a copy of that size does not fit above the reserve."""
        try:
            free = self.free_bytes()
        except OSError as error:
            raise CopyFailedError(f"the free space of {self._folder} is not known: {error}") from error
        if copy_bytes > free - self.reserve_bytes:
            raise CopyFailedError(
                f"a copy of {copy_bytes} bytes does not fit in {self._folder}: {free} bytes are free, and "
                f"{self.reserve_bytes} of them are kept in reserve (disk_reserve_bytes). The state itself is "
                "untouched. Make room on this disk."
            )
