"""Makes backups of a node's state beside its writer: one at a time, each from a copy that is removed afterwards.

Bounds: one backup at a time. The copy has to fit above the reserve of the data directory's disk. A reader of a stream
gets the next piece once the last one is sent, so a backup keeps one piece in memory. The admission of calls
(api/admission.py) ends a stream whose reader reads nothing, and its copy is removed.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import apsw

from parley_proto.v1 import admin_pb2 as pb
from parleyd.backup.backup_file import BackupFile, Piece, encode
from parleyd.backup.errors import BackupBusyError, BackupError
from parleyd.formats import own_release
from parleyd.machine.reader import position
from parleyd.raft.types import Index, SnapshotMeta, Term
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.disk_space import DiskSpace
from parleyd.storage.errors import CopyFailedError
from parleyd.storage.files import create_private, fsync_path, rename_durably
from parleyd.storage.identity import NodeIdentity
from parleyd.storage.snapshots import TEMPORARY_SUFFIX, SnapshotFile, read_chunks

CHUNK_BYTES = 1 << 18
ALIVE_S = 5.0
"""While the copy is made, the reader of a stream hears from the node after so long."""
SUFFIX = ".backup"

_SELECT = "SELECT generation, level, state_hash, message_count FROM meta"
_TIME = r"-(\d{8}T\d{6}Z)-\d+"


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy of the state, and what a backup says about it."""

    file: SnapshotFile
    header: pb.BackupHeader

    def pieces(self) -> Iterator[Piece]:
        """Return the backup file in order. Raises CopyFailedError if the copy cannot be read."""
        return encode(self.header, read_chunks(self.file.path, CHUNK_BYTES))


def _prefix_of(identity: NodeIdentity) -> str:
    return f"parley-{identity.cluster_id[:8]}-{identity.name}"


def file_pattern(identity: NodeIdentity) -> re.Pattern[str]:
    """Return what the names of the backups match that a node writes by itself; group 1 is the time."""
    return re.compile(re.escape(_prefix_of(identity)) + _TIME + re.escape(SUFFIX))


class Backups:
    """Makes the backups of one node."""

    def __init__(self, data: DataDirectory, identity: NodeIdentity, is_current: Callable[[], Awaitable[bool]]) -> None:
        """`is_current` waits until this node has everything acknowledged before, and returns false if it does not."""
        self._data = data
        self._identity = identity
        self._is_current = is_current
        self._busy = False
        self._prefix = _prefix_of(identity)
        self._pattern = file_pattern(identity)

    async def stream(self) -> AsyncGenerator[pb.BackupChunk]:
        """Make a backup and return its file in order. Raises BackupBusyError and CopyFailedError."""
        with self._copying(await self._begin()) as copying:
            while not (await asyncio.wait({copying}, timeout=ALIVE_S))[0]:
                yield pb.BackupChunk()
            pieces = copying.result().pieces()
            while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                yield pb.BackupChunk(data=piece.data, content_bytes=piece.content_bytes)

    async def write_into(self, folder: Path) -> Path:
        """Make a backup and write it into an existing folder; the file is durable and complete when this returns.

        Raises BackupBusyError, CopyFailedError and OSError. No incomplete file is left. If this is cancelled, the
        thread ends after the present piece: a node that stops does not wait for a large backup.
        """
        with self._copying(await self._begin()) as copying:
            copied = await asyncio.shield(copying)
            is_cancelled = threading.Event()
            writing = asyncio.ensure_future(asyncio.to_thread(self._write, copied, folder, is_cancelled))
            try:
                return await asyncio.shield(writing)
            except asyncio.CancelledError:
                is_cancelled.set()
                await asyncio.gather(writing, return_exceptions=True)
                raise

    def own_files(self, folder: Path) -> list[Path]:
        """Return the backups in `folder` that this node made of this cluster, the oldest first. Raises OSError."""
        found = [
            (matched.group(1), path)
            for path in folder.iterdir()
            if (matched := self._pattern.fullmatch(path.name)) and path.is_file() and self._made(path)
        ]
        return [path for _, path in sorted(found)]

    def _made(self, path: Path) -> bool:
        try:
            with BackupFile.open(path) as backup:
                names = (backup.header.cluster_id, backup.header.node_name)
                return names == (self._identity.cluster_id, self._identity.name)
        except (BackupError, OSError):
            return False

    # ---- the copy

    async def _begin(self) -> asyncio.Future[Copied]:
        if self._busy:
            raise BackupBusyError
        self._busy = True
        try:
            is_current = await self._is_current()
        except BaseException:
            self._busy = False
            raise
        return asyncio.ensure_future(asyncio.to_thread(self._copy, is_current))

    @contextmanager
    def _copying(self, copying: asyncio.Future[Copied]) -> Iterator[asyncio.Future[Copied]]:
        """Have the copy while inside. If it is not complete at the end, its thread goes on, and the copy goes then."""
        try:
            yield copying
        finally:
            if copying.done():
                self._end(copying)
            else:
                copying.add_done_callback(self._end)

    def _end(self, copying: asyncio.Future[Copied]) -> None:
        self._busy = False
        if not copying.cancelled() and copying.exception() is None:
            copying.result().file.remove()

    def _copy(self, is_current: bool) -> Copied:
        header = pb.BackupHeader(
            release=own_release(),
            cluster_id=self._identity.cluster_id,
            node_name=self._identity.name,
            made_at_ms=time.time_ns() // 1_000_000,
            is_current=is_current,
        )

        def describe(connection: apsw.Connection) -> SnapshotMeta:
            index, term, _ = position(connection)
            row = connection.execute(_SELECT).fetchone()
            header.generation, header.level, header.state_hash, header.messages_total = row  # type: ignore[misc]
            header.index, header.term = index, term
            return SnapshotMeta(Index(index), Term(term))

        file = self._data.copy_state(f"backup-{secrets.token_hex(8)}.sqlite", describe)
        header.content_bytes, header.content_sha256 = file.total_bytes, file.sha256
        return Copied(file, header)

    def _write(self, copied: Copied, folder: Path, is_cancelled: threading.Event) -> Path:
        DiskSpace(folder, self._data.space.reserve_bytes).check_room_for_copy(copied.file.total_bytes)
        target = folder / self._name(copied.header)
        temporary = target.with_name(target.name + TEMPORARY_SUFFIX)
        self._remove_unfinished(folder)
        try:
            with create_private(temporary) as file:
                for piece in copied.pieces():
                    if is_cancelled.is_set():
                        raise CopyFailedError(f"writing {target} was cancelled. No file is left.")
                    file.write(piece.data)
            fsync_path(temporary)
            rename_durably(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        return target

    def _name(self, header: pb.BackupHeader) -> str:
        made = datetime.fromtimestamp(header.made_at_ms / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
        return f"{self._prefix}-{made}-{header.index}{SUFFIX}"

    def _remove_unfinished(self, folder: Path) -> None:
        """Remove what an earlier process left when it was killed while it wrote a backup."""
        for path in folder.glob(f"*{SUFFIX}{TEMPORARY_SUFFIX}"):
            if self._pattern.fullmatch(path.name.removesuffix(TEMPORARY_SUFFIX)):
                path.unlink(missing_ok=True)
