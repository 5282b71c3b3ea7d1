"""Makes snapshots for followers, and stores received ones until they are installed.

A follower that needs entries that are not in the log any more gets a snapshot. It is made only then, because the state
file itself is the latest snapshot. The last one made stays on disk until the next one replaces it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from parley_proto.v1 import peer_pb2 as pb
from parleyd.group.opening import snapshot_meta
from parleyd.group.snapshot_intake import receive_state
from parleyd.group.snapshot_plan import MAX_RECEIVED, ReceivedSnapshots
from parleyd.machine.files import WRITER_CACHE_BYTES
from parleyd.machine.machine import StateMachine
from parleyd.raft.errors import PeerProtocolError
from parleyd.raft.messages import Message
from parleyd.raft.types import Index, SnapshotMeta
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.errors import CopyFailedError, SnapshotTransferError
from parleyd.storage.snapshots import SnapshotFile, install, read_chunks
from parleyd.transport.codec import encode_message

T = TypeVar("T")


class SnapshotStore:
    """The snapshots of one node. The docstring of a method that touches files names its thread."""

    def __init__(self, data: DataDirectory, snapshot_chunk_bytes: int, cache_bytes: int = WRITER_CACHE_BYTES) -> None:
        self._data = data
        self._cache_bytes = cache_bytes
        self._chunk_bytes = snapshot_chunk_bytes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="snapshot")
        self._made: SnapshotFile | None = None
        self._received: ReceivedSnapshots[Path] = ReceivedSnapshots()
        self._arriving = 0
        self.events: Counter[str] = Counter(created=0, failed=0, received=0, refused=0, installed=0)
        self._logger = structlog.get_logger("snapshot_store")

    @property
    def arriving(self) -> int:
        """Return how many snapshots are on their way here."""
        return self._arriving

    # ---- snapshots to send

    async def make_snapshot(self) -> SnapshotMeta:
        """Copy the current state, and delete the last copy. Raises CopyFailedError; the last copy stays then."""
        previous = self._made
        try:
            made = await asyncio.get_running_loop().run_in_executor(self._thread, self._make)
        except CopyFailedError:
            self.events["failed"] += 1
            raise
        self.events["created"] += 1
        self._logger.info("snapshot_created", index=made.meta.index, bytes=made.total_bytes)
        self._made = made
        if previous is not None and previous.path != made.path:
            previous.remove()  # a transfer that still reads it has the file open
        return made.meta

    def _make(self) -> SnapshotFile:
        previous = self._made
        name = "state-latest.sqlite" if previous is None else f"state-after-{previous.meta.index}.sqlite"
        return self._data.copy_state(name, snapshot_meta)

    async def chunks(self, message: Message, group: int) -> AsyncIterator[pb.SnapshotChunk]:
        """Return the transfer that `message` announces; raises OSError if that snapshot is gone."""
        made = self._made
        if made is None or message.snapshot is None or made.meta.index != message.snapshot.index:
            raise FileNotFoundError("the snapshot was replaced before it was sent; the next attempt sends the new one")
        yield pb.SnapshotChunk(
            header=pb.SnapshotHeader(
                message=encode_message(message, group), total_bytes=made.total_bytes, sha256=made.sha256
            )
        )
        chunks = read_chunks(made.path, self._chunk_bytes)
        loop = asyncio.get_running_loop()
        while (chunk := await loop.run_in_executor(self._thread, partial(next, chunks, b""))) != b"":
            yield pb.SnapshotChunk(data=chunk)

    # ---- snapshots received

    async def receive(self, header: pb.SnapshotHeader, meta: SnapshotMeta, data: AsyncIterator[bytes]) -> None:
        """Store an incoming snapshot, verified and durable, for `install_received` or `discard`.

        Raises PeerProtocolError if it is unusable, or if too many are on their way or wait to be installed.
        """
        if self._arriving + len(self._received) >= MAX_RECEIVED:
            self.events["refused"] += 1
            raise PeerProtocolError(f"{MAX_RECEIVED} snapshots are on their way already, or wait to be installed")
        self._arriving += 1
        try:
            reserve_bytes = self._data.space.reserve_bytes
            path = await receive_state(self._data.snapshots, header, meta, data, self._on_thread, reserve_bytes)
        except SnapshotTransferError as error:
            self.events["refused"] += 1
            raise PeerProtocolError(str(error)) from error
        finally:
            self._arriving -= 1
        self.events["received"] += 1
        replaced = self._received.keep(meta, path)
        if replaced is not None:
            replaced.unlink(missing_ok=True)

    def _on_thread(self, work: Callable[[], T]) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, work)

    def discard(self, meta: SnapshotMeta) -> None:
        """Remove a received snapshot that is not installed; it may be gone already."""
        path = self._received.pop(meta)
        if path is not None:
            path.unlink(missing_ok=True)

    def discard_received(self, applied_index: Index) -> None:
        """Remove snapshots that the state has reached in another way."""
        for path in self._received.discard(applied_index):
            path.unlink(missing_ok=True)

    def install_received(self, meta: SnapshotMeta) -> StateMachine:
        """Replace the state by the received snapshot and open it; the old one must be closed. Any thread."""
        install(self._received.take(meta), self._data.state_db)
        self.events["installed"] += 1  # one at a time, whatever the thread
        return StateMachine.open(self._data.state_db, cache_bytes=self._cache_bytes)

    def close(self) -> None:
        """Wait for the file work in progress."""
        self._thread.shutdown()
