"""What a group's asyncio shell is made from: the pure group, its files, and where messages and reports go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from parleyd.group.files import GroupFiles
from parleyd.group.group import Group
from parleyd.machine.machine import ApplyOutcome
from parleyd.membership.members import ClusterMembers
from parleyd.raft.messages import Message
from parleyd.raft.types import NodeId


class Outbound(Protocol):
    """Sends messages to other nodes; queues are bounded and may drop messages."""

    def send(self, messages: Sequence[Message]) -> None:
        """Queue each message for its receiver."""


class GroupObserver(Protocol):
    """What a group reports to its node, on the event loop."""

    def applied(self, outcome: ApplyOutcome) -> None:
        """Report that applied entries have changed the state."""

    def members_changed(self, members: ClusterMembers) -> None:
        """Report the new members."""

    def state_replaced(self) -> None:
        """Report that a snapshot replaced the state."""

    def retired(self, told_by: str) -> None:
        """Report that this node was removed from the cluster."""

    def clocks_judged(self, offsets_ms: Mapping[NodeId, int]) -> None:
        """Report that other clocks than before are wrong, as far as this leader knows; empty when none is."""

    def entries_lost(self, detail: str) -> None:
        """Report that this node's disk lost entries that it had confirmed."""


@dataclass(frozen=True, slots=True)
class GroupParts:
    """The pure group, and the parts that carry out its effects."""

    group: Group
    files: GroupFiles
    outbound: Outbound
    observer: GroupObserver
