"""The form of a backup file: a header, the compressed state, and a trailer by which a file that is cut short is found.

    8 bytes    MAGIC
    4          the format, big-endian as all numbers here
    4          size of the header
    .          the header, a BackupHeader of admin.proto
    32         SHA-256 of everything before
    .          the state, compressed by zlib
    8          END
    8          size of the whole file
    32         SHA-256 of everything before

The header names size and SHA-256 of the state itself. What is before the compressed state keeps its form in every
format, so that an older release can name a newer one.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from google.protobuf.message import DecodeError

from parley_proto.v1.admin_pb2 import BackupHeader
from parleyd.backup.errors import BackupDamagedError, BackupReleaseError
from parleyd.formats import own_release
from parleyd.machine.levels import MAX_LEVEL, MIN_LEVEL

MAGIC = b"PARLEYBK"
END = b"PARLEYND"
FORMAT = 1
COMPRESSION_LEVEL = 1
DIGEST_BYTES = hashlib.sha256().digest_size
MAX_HEADER_BYTES = 1 << 16
CHUNK_BYTES = 1 << 18

_HEAD = struct.Struct(">8sII")
_TAIL = struct.Struct(f">8sQ{DIGEST_BYTES}s")


@dataclass(frozen=True, slots=True)
class Piece:
    """The next bytes of a backup file; `content_bytes` is how much of the state is in it up to here."""

    data: bytes
    content_bytes: int


def encode(header: BackupHeader, content: Iterable[bytes]) -> Iterator[Piece]:
    """Return the file in order. `content` is the state that `header` describes."""
    encoded = header.SerializeToString(deterministic=True)
    head = _HEAD.pack(MAGIC, FORMAT, len(encoded)) + encoded
    head += hashlib.sha256(head).digest()
    whole, file_bytes = hashlib.sha256(head), len(head)
    yield Piece(head, 0)
    compressor = zlib.compressobj(COMPRESSION_LEVEL)
    content_bytes = 0
    for chunk in content:
        content_bytes += len(chunk)
        data = compressor.compress(chunk)
        whole.update(data)
        file_bytes += len(data)
        if data:
            yield Piece(data, content_bytes)
    data = compressor.flush()
    file_bytes += len(data) + _TAIL.size
    whole.update(data)
    tail = END + struct.pack(">Q", file_bytes)
    whole.update(tail)
    yield Piece(data + tail + whole.digest(), content_bytes)


class BackupFile:
    """An open backup file, whose header is sound. `content` checks everything else."""

    def __init__(self, path: Path, file: BinaryIO, header: BackupHeader, content_begins_at: int) -> None:
        self.path = path
        self.header = header
        self._file = file
        self._content_begins_at = content_begins_at

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[BackupFile]:
        """Have the file open while inside. Raises BackupError, and OSError if it cannot be read."""
        with path.open("rb") as file:
            header, begins_at = _read_header(path, file)
            yield cls(path, file, header, begins_at)

    def content(self) -> Iterator[bytes]:
        """Return the state in order. Only if this ends without an error, the bytes were what was written.

        Raises BackupDamagedError. No more than the announced size is returned, whatever the file contains.
        """
        digest, content_bytes = hashlib.sha256(), 0
        announced = self.header.content_bytes
        for data in self._decompressed():
            content_bytes += len(data)
            if content_bytes > announced:
                raise damaged(self.path, f"it contains more than the {announced} bytes that its header announces")
            digest.update(data)
            yield data
        if content_bytes != announced or digest.digest() != self.header.content_sha256:
            raise damaged(self.path, "what it contains is not what its header announces")

    def _decompressed(self) -> Iterator[bytes]:
        decompressor = zlib.decompressobj()
        wrong_end = damaged(self.path, "the compressed part does not end where the file says")
        try:
            for data in self._compressed():
                if decompressor.eof:
                    raise wrong_end  # the decompressor would keep all that follows
                yield decompressor.decompress(data, CHUNK_BYTES)
                while decompressor.unconsumed_tail:
                    yield decompressor.decompress(decompressor.unconsumed_tail, CHUNK_BYTES)
            yield decompressor.flush()
        except zlib.error as error:
            raise damaged(self.path, f"it cannot be decompressed ({error})") from error
        if not decompressor.eof or decompressor.unused_data:
            raise wrong_end

    def _compressed(self) -> Iterator[bytes]:
        """Return the compressed part. The end of the file is checked before the first byte, its digest after the last.

        The first check finds a file that is cut short without reading it.
        """
        size = os.fstat(self._file.fileno()).st_size
        ends_at = size - _TAIL.size
        if ends_at < self._content_begins_at:
            raise damaged(self.path, f"it is cut short after {size} bytes")
        self._file.seek(ends_at)
        tail = self._file.read(_TAIL.size)
        mark, file_bytes, expected = _TAIL.unpack(tail)
        if mark != END or file_bytes != size:
            raise damaged(self.path, f"its end is missing, or bytes follow it: it has {size} bytes")
        self._file.seek(0)
        digest = hashlib.sha256(self._file.read(self._content_begins_at))
        left = ends_at - self._content_begins_at
        while left:
            data = self._file.read(min(CHUNK_BYTES, left))
            if not data:
                raise damaged(self.path, "it became shorter while it was read")
            left -= len(data)
            digest.update(data)
            yield data
        digest.update(tail[:-DIGEST_BYTES])
        if digest.digest() != expected:
            raise damaged(self.path, "it does not match its SHA-256: altered after it was written")


def _read_header(path: Path, file: BinaryIO) -> tuple[BackupHeader, int]:
    """Return the header and where the compressed part begins."""
    head = file.read(_HEAD.size)
    if not head.startswith(MAGIC):
        raise damaged(path, "it is no backup of Parley")
    if len(head) < _HEAD.size:
        raise damaged(path, f"it is cut short after {len(head)} bytes")
    _, format_, header_bytes = _HEAD.unpack(head)
    if header_bytes > MAX_HEADER_BYTES:
        raise damaged(path, "its header has an impossible size")
    encoded, expected = file.read(header_bytes), file.read(DIGEST_BYTES)
    if len(encoded) < header_bytes or len(expected) < DIGEST_BYTES:
        raise damaged(path, "it ends within its header")
    if hashlib.sha256(head + encoded).digest() != expected:
        raise damaged(path, "its header does not match its SHA-256")
    try:
        header = BackupHeader.FromString(encoded)
    except DecodeError as error:
        raise damaged(path, "its header cannot be read") from error
    if format_ != FORMAT:
        raise _newer(path, header, f"format {format_}", f"format {FORMAT}")
    if not MIN_LEVEL <= header.level <= MAX_LEVEL:
        raise _newer(path, header, f"level {header.level}", f"levels {MIN_LEVEL} to {MAX_LEVEL}")
    return header, _HEAD.size + header_bytes + DIGEST_BYTES


def _newer(path: Path, header: BackupHeader, has: str, supported: str) -> BackupReleaseError:
    return BackupReleaseError(
        f"{path} has {has} (written by Parley {header.release or 'of another release'}), and this release "
        f"({own_release()}) reads {supported}. Nothing is wrong with the file, and nothing was changed. Use the "
        "release that wrote it, or a newer one"
    )


def damaged(path: Path, what: str) -> BackupDamagedError:
    """Build the error for a file that is not what was written."""
    return BackupDamagedError(
        f"{path} is not a usable backup: {what}. Nothing was changed. Use another copy of it, or another backup"
    )
