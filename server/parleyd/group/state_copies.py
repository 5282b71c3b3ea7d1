"""Copies of the state for members whose own state is not trusted, and the receiver of such a copy.

A copy is independent of the snapshots that the core asks for (snapshot_store.py): the receiver's log does not change,
and the core gets no event. Each copy is a file of its own that is deleted after its transfer.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial
from pathlib import Path

import apsw

from parley_proto.v1 import peer_pb2 as pb
from parleyd.group.opening import snapshot_meta
from parleyd.group.snapshot_intake import on_any_thread, receive_state
from parleyd.machine.limits import GROUP
from parleyd.machine.records import StateHash
from parleyd.raft.errors import PeerProtocolError
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.types import NodeId, SnapshotMeta
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.errors import SnapshotTransferError
from parleyd.storage.snapshots import SnapshotFile, read_chunks
from parleyd.transport.codec import MAX_NUMBER, decode_message, encode_message


class StateCopies:
    """Makes copies of this node's state and streams them, one at a time."""

    def __init__(
        self, own: NodeId, data: DataDirectory, chunk_bytes: int, on_copied: Callable[[StateHash], None]
    ) -> None:
        """Start without copies.

        `on_copied` receives what a copy covers, to compare it with the receiver's later report.
        """
        self._own = own
        self._data = data
        self._chunk_bytes = chunk_bytes
        self._on_copied = on_copied
        self._busy = asyncio.Lock()

    async def stream(self, receiver: NodeId) -> AsyncGenerator[pb.SnapshotChunk]:
        """Copy the current state and stream the copy; raises CopyFailedError."""
        async with self._busy:
            copy, state_hash = await self._copied()
            try:
                self._on_copied(state_hash)
                message = Message(MessageType.SNAPSHOT, sender=self._own, to=receiver, snapshot=copy.meta)
                yield pb.SnapshotChunk(
                    header=pb.SnapshotHeader(
                        message=encode_message(message, GROUP), total_bytes=copy.total_bytes, sha256=copy.sha256
                    )
                )
                chunks = read_chunks(copy.path, self._chunk_bytes)
                while (chunk := await asyncio.to_thread(partial(next, chunks, b""))) != b"":
                    yield pb.SnapshotChunk(data=chunk)
            finally:
                copy.remove()

    async def _copied(self) -> tuple[SnapshotFile, StateHash]:
        copying = asyncio.ensure_future(asyncio.to_thread(self._copy))
        try:
            return await asyncio.shield(copying)
        except asyncio.CancelledError:
            (await copying)[0].remove()
            raise

    def _copy(self) -> tuple[SnapshotFile, StateHash]:
        seen: list[StateHash] = []

        def describe(connection: apsw.Connection) -> SnapshotMeta:
            meta = snapshot_meta(connection)
            seen.append(StateHash(meta.index, bytes(connection.execute("SELECT state_hash FROM meta").get)))
            return meta

        return self._data.copy_state(f"copy-{secrets.token_hex(8)}.sqlite", describe), seen[-1]


async def receive_copy(folder: Path, chunks: AsyncIterator[pb.SnapshotChunk], min_index: int) -> Path:
    """Receive a copy, verify it and make it durable. Raises SnapshotTransferError for an unusable one.

    The copy must be the state that its header announces, and cover the log up to `min_index` at least.
    """
    first = await anext(aiter(chunks), None)
    if first is None or not first.HasField("header"):
        raise SnapshotTransferError("the copy does not begin with its header")
    try:
        meta = decode_message(first.header.message, MAX_NUMBER).snapshot
    except PeerProtocolError as error:
        raise SnapshotTransferError(f"the header of the copy is invalid: {error}") from error
    if meta is None or meta.index < min_index:
        raise SnapshotTransferError(f"the copy does not cover entry {min_index}")
    data = (chunk.data async for chunk in chunks)
    return await receive_state(folder, first.header, meta, data, on_any_thread)
