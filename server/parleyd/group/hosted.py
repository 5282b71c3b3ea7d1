"""The Raft groups that this node hosts, by number. It passes each report of a link to its group."""

from __future__ import annotations

from collections.abc import AsyncIterator

from parley_proto.v1 import peer_pb2 as pb
from parleyd.group.runner import GroupRunner
from parleyd.group.snapshot_store import SnapshotStore
from parleyd.group.state_guard import StateGuard
from parleyd.raft.messages import Message
from parleyd.raft.types import NodeId

MAX_LAG_MS = 3_600_000


class HostedGroups:
    """All groups of a node; they are added before the links run."""

    def __init__(self) -> None:
        self._runners: dict[int, GroupRunner] = {}
        self._snapshot_stores: dict[int, SnapshotStore] = {}
        self._guards: list[StateGuard] = []

    def add(self, group: int, runner: GroupRunner, snapshot_store: SnapshotStore, guard: StateGuard) -> None:
        """Host a group."""
        self._runners[group] = runner
        self._snapshot_stores[group] = snapshot_store
        self._guards.append(guard)

    def loop_lag_ms(self) -> int:
        """Return how late this node's event loop is: half of its time exceeds that."""
        return min(round(max((runner.loop_lag_ms for runner in self._runners.values()), default=0.0)), MAX_LAG_MS)

    def peer_connected(self, node: NodeId) -> None:
        """Report that a connection was established."""
        for guard in self._guards:
            guard.peer_connected(node)

    def peer_lost(self, node: NodeId) -> None:
        """Report that an established connection broke."""
        for runner in self._runners.values():
            runner.peer_lost(node)

    def peer_unreachable(self, node: NodeId, group: int) -> None:
        """Report that messages of `group` to `node` were dropped."""
        self._runners[group].peer_unreachable(node)

    def snapshot_sent(self, node: NodeId, group: int, *, ok: bool) -> None:
        """Report that a snapshot transfer of `group` ended."""
        self._runners[group].snapshot_sent(node, ok=ok)

    def removed_from_cluster(self, by: str) -> None:
        """Report that the peer named `by` refuses this node because it was removed from the cluster."""
        for runner in self._runners.values():
            runner.retire(by)

    def chunks(self, message: Message, group: int) -> AsyncIterator[pb.SnapshotChunk]:
        """Return the header and the data of the snapshot that `message` announces; raises OSError if it is gone."""
        return self._snapshot_stores[group].chunks(message, group)
