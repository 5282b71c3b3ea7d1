"""Replaces a node's untrusted state by the leader's, at an administrator's request.

1. The node is fenced durably, if it is not yet. It serves no clients until step 4.
2. It fetches a copy of the leader's state. Its own replica continues, so its vote and its log still count. The copy
   covers at least what is committed here at the time of the request.
3. The replica stops and its files are closed. `replace_state` replaces the state by the copy in the steps of
   storage/snapshots.py: the old state counts until the new one is durable under its own name.
4. The fence is removed. The node starts its replica again, with its log and its vote.

A crash before 3 leaves a fenced node with its old state. A crash in 3 or before 4 leaves a fenced node with one of the
two states, complete. A repeated request is always safe. If the log has moved on so far that the copy does not fit it,
nothing is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Protocol

import structlog

from parley_proto.v1 import peer_pb2 as pb
from parleyd.group.state_copies import receive_copy
from parleyd.machine.limits import GROUP
from parleyd.machine.verify import verify_state_file
from parleyd.raft.types import NO_NODE, ConfState, Index, NodeId, Term
from parleyd.raft.update import RoleChange
from parleyd.storage import fence as fences
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.errors import SnapshotTransferError, StorageDamagedError
from parleyd.storage.raft_storage import RaftStorage
from parleyd.storage.recovery import reconcile
from parleyd.storage.snapshots import install
from parleyd.transport.codec import decode_membership
from parleyd.transport.peer_calls import ForwardFailedError

RETRY_INTERVAL_S = 0.5


class RebuildGuard(Protocol):
    """The trust in this node's state."""

    @property
    def needs_rebuild(self) -> bool:
        """Return whether this node's state is not trusted."""

    async def fence_for_rebuild(self) -> None:
        """Fence this node; returns when the fence is durable."""


class RebuildRaft(Protocol):
    """The consensus core, for reading."""

    @property
    def commit_index(self) -> Index:
        """Return the commit index of this node."""

    @property
    def conf_state(self) -> ConfState:
        """Return the membership in force."""


class RebuildReplica(Protocol):
    """This node's replica, which continues until the copy is here."""

    @property
    def node_id(self) -> NodeId:
        """Return this node's Raft id."""

    @property
    def role(self) -> RoleChange:
        """Return role, term and leader."""

    @property
    def raft(self) -> RebuildRaft:
        """Return the consensus core."""

    async def role_change(self) -> None:
        """Wait for the next change of role, term or leader."""


class StateSource(Protocol):
    """Fetches state from the leader."""

    def fetch_state(self, node: NodeId, request: pb.FetchStateRequest) -> AsyncGenerator[pb.SnapshotChunk]:
        """Stream a copy of the state of `node`; raises ForwardFailedError."""


class StateRebuild:
    """One node's rebuild. `request` begins it, and `fetched` is done when the copy is here."""

    def __init__(
        self,
        replica: RebuildReplica,
        guard: RebuildGuard,
        source: StateSource,
        folder: Path,
        lost_entries: Callable[[], str] = lambda: "",
    ) -> None:
        """Prepare; `lost_entries` says which entries of its log this node has lost, and what to do. No state helps."""
        self._lost_entries = lost_entries
        self._replica = replica
        self._guard = guard
        self._source = source
        self._folder = folder
        self._requested = asyncio.Event()
        self.fetched: asyncio.Future[Path] = asyncio.get_running_loop().create_future()
        self._logger = structlog.get_logger("rebuild")

    def request(self) -> pb.RebuildReply:
        """Begin, unless there is nothing to rebuild; a repeated request returns the progress."""
        if self._requested.is_set():
            return pb.RebuildReply(status=pb.REBUILD_STATUS_RUNNING)
        lost = self._lost_entries()
        if lost:
            return pb.RebuildReply(
                status=pb.REBUILD_STATUS_REFUSED,
                detail=f"a new state does not help this node: its log is not complete. Nothing was changed. {lost}",
            )
        if not self._guard.needs_rebuild:
            return pb.RebuildReply(status=pb.REBUILD_STATUS_DONE)
        own = self._replica.node_id
        if not [voter for voter in self._replica.raft.conf_state.voters if voter != own]:
            return pb.RebuildReply(
                status=pb.REBUILD_STATUS_REFUSED,
                detail="this node is the only voter, so no other node has a state. Nothing was changed. Add a node "
                "and let it become a voter first",
            )
        self._requested.set()
        return pb.RebuildReply(status=pb.REBUILD_STATUS_RUNNING)

    async def run(self) -> None:
        """After a request, fence this node and repeat the fetch until a copy is here."""
        await self._requested.wait()
        self._logger.info("rebuild_started")
        await self._guard.fence_for_rebuild()
        while True:
            path = await self._fetch(self._replica.role.leader)
            if path is not None:
                self.fetched.set_result(path)
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_INTERVAL_S):
                    await self._replica.role_change()

    async def _fetch(self, leader: NodeId) -> Path | None:
        if leader in (NO_NODE, self._replica.node_id):
            return None
        min_index = self._replica.raft.commit_index
        try:
            chunks = self._source.fetch_state(leader, pb.FetchStateRequest(group=GROUP, min_index=min_index))
            async with contextlib.aclosing(chunks):
                return await receive_copy(self._folder, chunks, min_index)
        except (ForwardFailedError, SnapshotTransferError) as error:
            self._logger.warning("state_fetch_failed", leader=leader, error=str(error))
            return None


def replace_state(data: DataDirectory, received: Path) -> bool:
    """Replace the state by a verified copy and remove the fence; return False and change nothing if it does not fit.

    Every file of the replica must be closed. Raises StorageError.
    """
    index, term, membership = verify_state_file(received)
    log = RaftStorage.open(data.raft_db)
    try:
        reconcile(log.load(), Index(index), Term(term), decode_membership(membership))
    except StorageDamagedError as error:
        received.unlink(missing_ok=True)
        structlog.get_logger("rebuild").warning("copy_discarded", index=index, reason=str(error))
        return False
    finally:
        log.close()
    install(received, data.state_db)
    fences.clear(data.fence)
    structlog.get_logger("rebuild").info("state_rebuilt", index=index, term=term)
    return True
