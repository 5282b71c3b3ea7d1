"""The Raft groups that this node hosts, by number: what links report is given to the group it concerns."""

from __future__ import annotations

from collections.abc import AsyncIterator

from parley_proto.v1 import peer_pb2 as pb
from parleyd.group.runner import GroupRunner
from parleyd.group.snapshot_store import SnapshotStore
from parleyd.group.state_guard import StateGuard
from parleyd.raft.messages import Message
from parleyd.raft.types import NodeId


class HostedGroups:
    """Groups are added before the links run."""

    def __init__(self) -> None:
        self._runners: dict[int, GroupRunner] = {}
        self._snapshot_stores: dict[int, SnapshotStore] = {}
        self._guards: list[StateGuard] = []

    def add(self, group: int, runner: GroupRunner, snapshot_store: SnapshotStore, guard: StateGuard) -> None:
        """Host a group."""
        self._runners[group] = runner
        self._snapshot_stores[group] = snapshot_store
        self._guards.append(guard)

    def peer_connected(self, node: NodeId) -> None:
        """A connection was established."""
        for guard in self._guards:
            guard.peer_connected(node)

    def peer_lost(self, node: NodeId) -> None:
        """An established connection broke."""
        for runner in self._runners.values():
            runner.peer_lost(node)

    def peer_unreachable(self, node: NodeId, group: int) -> None:
        """Messages of `group` to `node` were dropped."""
        self._runners[group].peer_unreachable(node)

    def snapshot_sent(self, node: NodeId, group: int, *, ok: bool) -> None:
        """A snapshot transfer of `group` ended."""
        self._runners[group].snapshot_sent(node, ok=ok)

    def removed_from_cluster(self, by: str) -> None:
        """The peer named `by` refuses this node because it was removed from the cluster."""
        for runner in self._runners.values():
            runner.retire(by)

    def chunks(self, message: Message, group: int) -> AsyncIterator[pb.SnapshotChunk]:
        """The header and the data of the snapshot that `message` announces; raises OSError when it is gone."""
        return self._snapshot_stores[group].chunks(message, group)
