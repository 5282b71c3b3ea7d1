"""Receives one state file from a peer: a snapshot for a follower, or a copy for a rebuild.

Whatever ends the transfer before `receive_state` returns, a time-out and a cancellation included, its files are
removed. A file that is returned is complete, durable and verified: its content is that of the header, its schema is
exactly that of its level, and it covers the announced entry.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from parley_proto.v1 import peer_pb2 as pb
from parleyd.formats import FormatRefusedError
from parleyd.machine.errors import MachineDamagedError, MachineReleaseError
from parleyd.machine.verify import verify_state_file
from parleyd.raft.types import SnapshotMeta
from parleyd.storage.errors import SnapshotTransferError
from parleyd.storage.snapshots import FREE_BYTES_TO_KEEP, SnapshotReceiver

MAX_SNAPSHOT_BYTES = 1 << 40
CHUNK_TIMEOUT_S = 30.0

T = TypeVar("T")


class Run(Protocol):
    """Runs blocking work on a thread."""

    def __call__(self, work: Callable[[], T]) -> Awaitable[T]:
        """Return the result of `work`."""


class StateIntake:
    """The file of one transfer. Every method does blocking work; `discard` may be called while another one runs."""

    def __init__(self, folder: Path, header: pb.SnapshotHeader, meta: SnapshotMeta, keep_free_bytes: int) -> None:
        self._folder = folder
        self._keep_free_bytes = keep_free_bytes
        self._header = header
        self._meta = meta
        self._lock = threading.Lock()
        self._receiver: SnapshotReceiver | None = None
        self._is_discarded = False
        self._path: Path | None = None

    def write(self, chunk: bytes) -> None:
        """Take the next bytes in order; the first ones make the file. Raises SnapshotTransferError."""
        with self._lock:
            self._open().write(chunk)

    def finish(self) -> Path:
        """Return the file, verified and durable. Raises SnapshotTransferError."""
        with self._lock:
            path = self._path = self._open().finish()
            try:
                index, term, _ = verify_state_file(path)
            except (MachineDamagedError, MachineReleaseError, FormatRefusedError) as error:
                raise SnapshotTransferError(str(error)) from error
            if (index, term) != (self._meta.index, self._meta.term):
                raise SnapshotTransferError(f"the state covers entry {index} of term {term}, not what was announced")
            return path

    def discard(self) -> None:
        """Remove the files. What is still under way fails."""
        with self._lock:
            self._is_discarded = True
            if self._receiver is not None:
                self._receiver.abort()
            if self._path is not None:
                self._path.unlink(missing_ok=True)

    def _open(self) -> SnapshotReceiver:
        if self._is_discarded:
            raise SnapshotTransferError("the transfer was ended")
        if self._receiver is None:
            header = self._header
            self._receiver = SnapshotReceiver(self._folder, header.total_bytes, header.sha256, self._keep_free_bytes)
        return self._receiver


async def receive_state(
    folder: Path,
    header: pb.SnapshotHeader,
    meta: SnapshotMeta,
    data: AsyncIterator[bytes],
    run: Run,
    keep_free_bytes: int = FREE_BYTES_TO_KEEP,
) -> Path:
    """Store a transfer and return its verified file. `keep_free_bytes` of the disk are not used for it.

    Raises SnapshotTransferError for an unusable one, and StorageError for a disk fault.
    """
    if len(header.sha256) != hashlib.sha256().digest_size or header.total_bytes > MAX_SNAPSHOT_BYTES:
        raise SnapshotTransferError("the header of the transfer is invalid")
    intake = StateIntake(folder, header, meta, keep_free_bytes)
    try:
        while (chunk := await _next_chunk(data)) is not None:
            await run(partial(intake.write, chunk))
        return await run(intake.finish)
    except BaseException:
        await asyncio.shield(run(intake.discard))
        raise


async def on_any_thread(work: Callable[[], T]) -> T:
    """Run blocking work on a thread of the pool."""
    return await asyncio.to_thread(work)


async def _next_chunk(data: AsyncIterator[bytes]) -> bytes | None:
    try:
        async with asyncio.timeout(CHUNK_TIMEOUT_S):
            return await anext(data, None)
    except TimeoutError:
        raise SnapshotTransferError(f"no data came for {CHUNK_TIMEOUT_S:.0f} s") from None
