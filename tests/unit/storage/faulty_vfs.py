"""A SQLite file system whose disk can be told to fail, and which remembers what was asked of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import apsw

from parleyd.page_checksums import checksum_vfs

_numbers = itertools.count()


class FaultyDisk(apsw.VFS):
    """Passes everything to the disk, through the checksum VFS, until told to fail; `calls`: (operation, file)."""

    def __init__(self) -> None:
        self.name = f"faulty-{next(_numbers)}"
        self.calls: list[tuple[str, str]] = []
        self.fail: dict[str, type[apsw.Error]] = {}
        super().__init__(self.name, checksum_vfs(), makedefault=False)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return _FaultyFile(self, name, flags)

    def syncs(self, kind: str) -> int:
        """How often files of this kind were fsynced."""
        return self.calls.count(("sync", kind))

    def note(self, operation: str, kind: str) -> None:
        self.calls.append((operation, kind))
        error = self.fail.get(operation)
        if error is not None:
            raise error(f"the disk fails at {operation}")


class _FaultyFile(apsw.VFSFile):
    def __init__(self, disk: FaultyDisk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        filename = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        self._kind = "wal" if filename.endswith("-wal") else "main"
        super().__init__(checksum_vfs(), name, flags)

    def xWrite(self, data: Any, offset: int) -> None:
        self._disk.note("write", self._kind)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self._disk.note("sync", self._kind)
        super().xSync(flags)


@contextmanager
def faulty_disk() -> Iterator[FaultyDisk]:
    """A disk for one test."""
    disk = FaultyDisk()
    try:
        yield disk
    finally:
        disk.unregister()
