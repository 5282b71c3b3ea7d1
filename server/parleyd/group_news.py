"""What a node does when its group has news: new messages, other members, the end of its own membership."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

import structlog

from parleyd.delivery.device_hub import DeviceHub
from parleyd.delivery.device_stream import CloseReason
from parleyd.group.group import OWN_LOG
from parleyd.group.runner import GroupRunner
from parleyd.machine.records import Effect
from parleyd.membership.addresses import AddressPublisher
from parleyd.membership.members import ClusterMembers
from parleyd.raft.types import NodeId
from parleyd.storage.identity import PeerInfo
from parleyd.transport.peer_registry import PeerRegistry


class GroupNews:
    """Passes on to the node what a group tells: new messages, other members, the end of the membership."""

    def __init__(self, node: NodeId, registry: PeerRegistry, hub: DeviceHub, status_due: asyncio.Event) -> None:
        self._node = node
        self._registry = registry
        self._hub = hub
        self._status_due = status_due
        self._addresses: AddressPublisher | None = None
        self._logger = structlog.get_logger("node")

    def follow(self, runner: GroupRunner, addresses: AddressPublisher) -> None:
        """Begin with what `runner` has applied before this start."""
        self._addresses = addresses
        self.members_changed(runner.members)
        if runner.retired:
            self.retired(OWN_LOG)

    def applied(self, effects: Sequence[Effect]) -> None:
        """Hand out what is new to the devices that listen."""
        self._hub.publish(effects)

    def members_changed(self, members: ClusterMembers) -> None:
        """Talk to whoever is a member now."""
        peers = (PeerInfo(*dataclasses.astuple(row)) for row in members.rows.values())
        self._registry.update(peers, members.removed)
        if self._addresses is not None:
            self._addresses.members_changed()
        self._status_due.set()

    def state_replaced(self) -> None:
        """A device's stream may lack what the snapshot brought: it has to begin anew."""
        self._hub.close_all(CloseReason.REPLACED)

    def retired(self, told_by: str) -> None:
        """This node was removed: serve nobody, disturb nobody, say so; a person ends the process."""
        self._logger.error(
            "node_removed",
            effect="this node serves nobody any more",
            advice="Stop it; to bring the machine back, move its data directory away and start it with --join",
            told_by=told_by,
        )
        self._registry.update((), [self._node])
        self._hub.shut(CloseReason.STOPPING)
        self._status_due.set()
