"""Asks one node after the other for a backup, and writes the first one that comes completely."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path

from parley.backup_file import BackupWriter, Progress
from parley.cluster_model import BackupInfo, ClusterStatus, NodeStatus
from parley.errors import BadInputError, ParleyError, UnreachableError
from parley.net.answer_stream import answers_of
from parley.net.unary_caller import UnaryCaller, bearer
from parley.wire.endpoints import parse_endpoints
from parley_proto.v1 import admin_pb2 as pb
from parley_proto.v1.admin_pb2_grpc import AdminStub

SILENCE_S = 60.0
"""A node sends something every few seconds, also while it copies its state."""


async def back_up(
    caller: UnaryCaller,
    token: str,
    nodes: Sequence[NodeStatus],
    path: Path,
    *,
    force: bool,
    progress: Progress,
) -> BackupInfo:
    """Write a backup by the first of these nodes that makes one. Raises BackupError for the file.

    A node that breaks off is not the last word: the next one begins again.
    """
    failure: ParleyError = UnreachableError("No node can be asked. Nothing was written.")
    for node in nodes:
        writer = await asyncio.to_thread(BackupWriter, path, force=force)
        try:
            async for chunk in _chunks(caller, token, node):
                if chunk.data:
                    await asyncio.to_thread(writer.write, chunk.data)
                progress(chunk.content_bytes, writer.content_bytes)
            return await asyncio.to_thread(writer.finish)
        except UnreachableError as error:
            failure = error
        finally:
            writer.discard()
    raise type(failure)(f"{failure.text} No file was written. Repeat the command, or name another node with --node.")


def sources(status: ClusterStatus, name: str) -> tuple[NodeStatus, ...]:
    """Return the nodes to ask, in order: the one of that name, or followers before the leader if the name is empty.

    Raises BadInputError for a name that no node has, and UnreachableError if nobody answers.
    """
    answering = [node for node in status.nodes if not node.error and not node.removed]
    if not answering:
        raise UnreachableError("No node answers. No file was written. Check the addresses, and that the nodes run.")
    if name:
        named = tuple(node for node in answering if node.name == name)
        if not named:
            names = ", ".join(node.name for node in answering)
            raise BadInputError(f"No node of the name {name!r} answers. No file was written. These do: {names}.")
        return named
    order = sorted(answering, key=lambda node: (node.name == status.leader, not node.serving, -node.applied_index))
    return tuple(order)


async def _chunks(caller: UnaryCaller, token: str, node: NodeStatus) -> AsyncIterator[pb.BackupChunk]:
    (endpoint,) = parse_endpoints([node.address])
    call = AdminStub(caller.channel(endpoint)).Backup(pb.BackupRequest(), metadata=bearer(token))
    try:
        async with aclosing(answers_of(caller, endpoint, call, SILENCE_S)) as chunks:
            async for chunk in chunks:
                yield chunk
    except TimeoutError:
        raise UnreachableError(f"{node.name} sent nothing for {SILENCE_S:.0f} s.") from None
