"""Distinguishes damage in a write-ahead log from its torn end. SQLite by itself does not.

At start SQLite reads a WAL up to the first frame whose checksum is wrong, and drops the rest without an error. That is
right for a write that a power loss interrupted. It is wrong for a flipped bit in the middle: acknowledged entries would
be lost without a report.

Every commit is fsynced before the next begins (synchronous=FULL), and each start begins a new WAL (new salts). So only
the rest of the same transaction can follow a torn frame, up to one commit frame. A frame after that commit proves that
the transaction was once complete and synced.

A damaged header needs another check: a power loss may have interrupted its rewriting, when SQLite began the file again.
SQLite does so only when the whole WAL is in the database, and writes no frame before the header is synced. So the
frames after a damaged header are compared with the database.

Format: https://sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from parleyd.storage.files import io_errors

_HEADER = struct.Struct(">8I")
_FRAME_HEADER = struct.Struct(">6I")
_HEADER_LOST = (
    "the header of the write-ahead log is damaged, and the writes after it are in no other file: "
    "acknowledged entries are lost here"
)
_MAGIC_LITTLE_ENDIAN, _MAGIC_BIG_ENDIAN = 0x377F0682, 0x377F0683


@dataclass(frozen=True, slots=True)
class _Frame:
    number: int
    page: int
    ours: bool
    commits: bool
    valid: bool
    header_intact: bool


def find_wal_damage(path: Path, page_bytes: int) -> str | None:
    """Return what is wrong with the WAL at `path`; None if SQLite's own recovery loses nothing that was synced."""
    with io_errors(f"reading {path}"):
        if not path.exists() or path.stat().st_size < _HEADER.size:
            return None
        frames = list(_frames(path, page_bytes))
        if frames and not frames[0].header_intact:
            return None if _all_in_database(path, page_bytes, frames) else _HEADER_LOST
        return _damage(frames)


def _all_in_database(path: Path, page_bytes: int, frames: Sequence[_Frame]) -> bool:
    """Return whether the database has each page as the last commit in the WAL left it; the WAL is not needed then."""
    last_commit = max((frame.number for frame in frames if frame.ours and frame.commits), default=0)
    newest = {frame.page: frame.number for frame in frames[:last_commit] if frame.ours}
    database_path = path.with_name(path.name.removesuffix("-wal"))
    if 0 in newest or not database_path.exists():
        return False
    with path.open("rb") as wal, database_path.open("rb") as database:
        for page, number in newest.items():
            wal.seek(_HEADER.size + number * (_FRAME_HEADER.size + page_bytes) - page_bytes)
            database.seek((page - 1) * page_bytes)
            if wal.read(page_bytes) != database.read(page_bytes):
                return False
    return True


def _damage(frames: Iterable[_Frame]) -> str | None:
    first_invalid: int | None = None
    commit_behind: int | None = None
    for frame in frames:
        if commit_behind is not None and frame.ours:
            return (
                f"frame {first_invalid} of the write-ahead log is damaged, and later frames prove "
                "that it was complete and synced: acknowledged entries are lost here"
            )
        if not frame.valid and first_invalid is None:
            first_invalid = frame.number
        if first_invalid is not None and frame.ours and frame.commits:
            commit_behind = frame.number
    return None


def _frames(path: Path, page_bytes: int) -> Iterator[_Frame]:
    """Return all frames of the file, valid or not; those of earlier generations have other salts."""
    with path.open("rb") as file:
        header = file.read(_HEADER.size)
        magic, _, _, _, salt1, salt2, sum1, sum2 = _HEADER.unpack(header)
        salts: tuple[int, int] | None = (salt1, salt2)
        words = "<" if magic == _MAGIC_LITTLE_ENDIAN else ">"
        running = _checksum(words, header[:24], (0, 0))
        intact = header_intact = running == (sum1, sum2) and magic in (_MAGIC_LITTLE_ENDIAN, _MAGIC_BIG_ENDIAN)
        if not intact:
            salts = _salts_of_frames(file, page_bytes)
            file.seek(_HEADER.size)
        number = 0
        while len(head := file.read(_FRAME_HEADER.size)) == _FRAME_HEADER.size:
            page = file.read(page_bytes)
            number += 1
            page_number, size_after_commit, frame_salt1, frame_salt2, sum1, sum2 = _FRAME_HEADER.unpack(head)
            ours = (frame_salt1, frame_salt2) == salts
            if intact:
                running = _checksum(words, page.ljust(page_bytes, b"\0"), _checksum(words, head[:8], running))
                intact = ours and running == (sum1, sum2)
            yield _Frame(
                number,
                page_number,
                ours=ours,
                commits=size_after_commit != 0,
                valid=intact,
                header_intact=header_intact,
            )


def _salts_of_frames(file: BinaryIO, page_bytes: int) -> tuple[int, int] | None:
    """Return the salts of the first two adjacent frames that agree: one frame may be damaged with the header."""
    before: tuple[int, int] | None = None
    while len(head := file.read(_FRAME_HEADER.size)) == _FRAME_HEADER.size:
        file.seek(page_bytes, os.SEEK_CUR)
        _, _, salt1, salt2, _, _ = _FRAME_HEADER.unpack(head)
        if before == (salt1, salt2):
            break
        before = (salt1, salt2)
    return before


def _checksum(words: str, data: bytes, start: tuple[int, int]) -> tuple[int, int]:
    sum1, sum2 = start
    values = iter(struct.unpack(f"{words}{len(data) // 4}I", data))
    for even, odd in zip(values, values, strict=True):
        sum1 = (sum1 + even + sum2) & 0xFFFFFFFF
        sum2 = (sum2 + odd + sum1) & 0xFFFFFFFF
    return sum1, sum2
