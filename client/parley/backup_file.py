"""Backup files of a cluster, as the client writes and checks them: docs/PROTOCOL.md describes the form.

The client checks header, sizes and digests. It does not look into the state, which only the node's program can read:
`parleyd backup verify` checks that, too.
"""

import hashlib
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from google.protobuf.message import DecodeError

from parley.cluster_model import BackupInfo
from parley.errors import BackupError
from parley.named_file import create_private, other_kind, put_in_place, refuse_existing
from parley.wire import convert
from parley_proto.v1.admin_pb2 import BackupHeader

MAGIC = b"PARLEYBK"
END = b"PARLEYND"
FORMAT = 1
MAX_HEADER_BYTES = 1 << 16
CHUNK_BYTES = 1 << 18
TEMPORARY_SUFFIX = ".tmp"

_DIGEST_BYTES = hashlib.sha256().digest_size
_HEAD = struct.Struct(">8sII")
_TAIL = struct.Struct(f">8sQ{_DIGEST_BYTES}s")

Progress = Callable[[int, int], None]
"""Gets how many bytes of the state are done, and how many there are, 0 while that is not known."""


def check_backup(path: str | Path) -> BackupInfo:
    """Read all of a backup file and return what it is. Raises BackupError if it is not what was written.

    The header, the sizes, and the digests of the file and of the state in it are checked, not the state itself.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            header, begins_at = _read_header(path, file)
            _check_content(path, file, header, begins_at)
            return convert.backup_info(header, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror}. Check the name and the disk.") from error


def _read_header(path: Path, file: BinaryIO) -> tuple[BackupHeader, int]:
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size or not head.startswith(MAGIC):
        raise _damaged(path, "it is no backup of Parley")
    _, format_, header_bytes = _HEAD.unpack(head)
    if header_bytes > MAX_HEADER_BYTES:
        raise _damaged(path, "its header has an impossible size")
    encoded, expected = file.read(header_bytes), file.read(_DIGEST_BYTES)
    if hashlib.sha256(head + encoded).digest() != expected:
        raise _damaged(path, "its header is cut short or does not match its SHA-256")
    try:
        header = BackupHeader.FromString(encoded)
    except DecodeError as error:
        raise _damaged(path, "its header cannot be read") from error
    if format_ != FORMAT:
        raise BackupError(
            f"{path} has format {format_}, and this release reads format {FORMAT}. Nothing is wrong with the file. Use "
            f"the release that wrote it ({header.release}), or a newer one."
        )
    return header, _HEAD.size + header_bytes + _DIGEST_BYTES


def _check_content(path: Path, file: BinaryIO, header: BackupHeader, begins_at: int) -> None:
    digest, content_bytes = hashlib.sha256(), 0
    decompressor = zlib.decompressobj()
    other_content = _damaged(path, "what it contains is not what its header announces")
    try:
        for data in _compressed(path, file, begins_at):
            if decompressor.eof:
                raise other_content  # the decompressor would keep all that follows
            part = decompressor.decompress(data, CHUNK_BYTES)
            while part:
                content_bytes += len(part)
                digest.update(part)
                if content_bytes > header.content_bytes:
                    raise _damaged(path, "it contains more than its header announces")
                part = decompressor.decompress(decompressor.unconsumed_tail, CHUNK_BYTES)
        rest = decompressor.flush()
    except zlib.error as error:
        raise _damaged(path, f"it cannot be decompressed ({error})") from error
    digest.update(rest)
    is_whole = decompressor.eof and not decompressor.unused_data
    if not is_whole or content_bytes + len(rest) != header.content_bytes or digest.digest() != header.content_sha256:
        raise other_content


def _compressed(path: Path, file: BinaryIO, begins_at: int) -> Iterator[bytes]:
    size = os.fstat(file.fileno()).st_size
    ends_at = size - _TAIL.size
    if ends_at < begins_at:
        raise _damaged(path, f"it is cut short after {size} bytes")
    file.seek(ends_at)
    tail = file.read(_TAIL.size)
    mark, file_bytes, expected = _TAIL.unpack(tail)
    if mark != END or file_bytes != size:
        raise _damaged(path, f"its end is missing, or bytes follow it: it has {size} bytes")
    file.seek(0)
    digest = hashlib.sha256(file.read(begins_at))
    left = ends_at - begins_at
    while left and (data := file.read(min(CHUNK_BYTES, left))):
        left -= len(data)
        digest.update(data)
        yield data
    digest.update(tail[:-_DIGEST_BYTES])
    if left or digest.digest() != expected:
        raise _damaged(path, "it does not match its SHA-256: altered after it was written")


def _damaged(path: Path, what: str) -> BackupError:
    return BackupError(f"{path} is not a usable backup: {what}. Use another copy of it, or another backup.")


class BackupWriter:
    """Writes a backup under a temporary name. Only `finish` gives it its own name, complete, checked and durable.

    A BackupError says what happened to the file. `discard` removes what is unfinished.
    """

    def __init__(self, path: Path, *, force: bool) -> None:
        """Begin the file. With `force`, `finish` replaces an existing one."""
        self.path = path
        self._force = force
        self._head = b""
        try:
            refuse_existing(path, force=force, error=BackupError)
            self._temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
            self._remove_unfinished()
            descriptor = create_private(self._temporary)
        except OSError as error:
            raise self._failed(error) from error
        self._file = os.fdopen(descriptor, "wb", buffering=0)

    @property
    def content_bytes(self) -> int:
        """Return the size of the state, 0 while the header is not here."""
        if len(self._head) < _HEAD.size:
            return 0
        header_bytes = _HEAD.unpack(self._head[: _HEAD.size])[2]
        try:
            return BackupHeader.FromString(self._head[_HEAD.size : _HEAD.size + header_bytes]).content_bytes
        except DecodeError:
            return 0  # finish() says that it is damaged

    def write(self, data: bytes) -> None:
        """Write the next bytes. Blocks."""
        if len(self._head) < MAX_HEADER_BYTES:
            self._head += data[: MAX_HEADER_BYTES - len(self._head)]
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise self._failed(error) from error

    def finish(self) -> BackupInfo:
        """Check the file, make it durable, and give it its name. Blocks."""
        try:
            os.fsync(self._file.fileno())
            self._file.close()
            info = check_backup(self._temporary)
            put_in_place(self._temporary, self.path, force=self._force, error=BackupError)
        except OSError as error:
            raise self._failed(error) from error
        return info

    def discard(self) -> None:
        """Remove the unfinished file; safe to call at any time, also after `finish`."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def _remove_unfinished(self) -> None:
        """Remove what a killed command left under the temporary name. A file of another kind stays."""
        with suppress(FileNotFoundError):
            begin = None
            if other_kind(self._temporary) is None:  # opening a pipe would wait for its other end
                with self._temporary.open("rb") as file:
                    begin = file.read(len(MAGIC))
            if begin is None or not MAGIC.startswith(begin):
                raise BackupError(
                    f"{self._temporary} exists and is no unfinished backup. It stays as it is. Nothing was written. "
                    "Give another name."
                )
            self._temporary.unlink()

    def _failed(self, error: OSError) -> BackupError:
        return BackupError(
            f"{self.path} was not written: {error.strerror}. No unfinished file is left. Make room or name a file on "
            "another disk, then repeat the command."
        )
