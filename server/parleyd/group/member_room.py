"""Decides by the room on the members' disks what may enter the log, and who should lead.

Every member reports the room on its disk twice a second, or every two seconds while it has enough. A command that
makes the data grow is refused while no majority of the voters has more than its reserve. Everything is refused while no
majority can append. A member whose connection broke has no room until it is heard again, because a majority must have
room without it. A member of a release that reports nothing has room.

A node that is full takes no entries from the leader. That is safe: to the others it looks as if the messages were lost.
It still votes, and it can become leader, because it may be the only one with an entry. Then it transfers leadership to
a voter that has more room, once that voter has the entry.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from parleyd.raft.messages import Message, MessageType
from parleyd.raft.quorum import has_majority
from parleyd.raft.types import ConfState, NodeId


class Room(enum.Enum):
    """How much room a node's disk has."""

    ENOUGH = "enough"  # the reserve is free
    LOW = "low"  # the reserve is in use: nothing that makes the data grow
    FULL = "full"  # less than half of the reserve is free: nothing is appended


def room_of(free_bytes: int, reserve_bytes: int, reusable_bytes: int = 0) -> Room:
    """Return what the free bytes on a disk mean for its node.

    `reusable_bytes` are free pages inside the state's file: messages were removed, and new ones take their place. The
    file does not become smaller. The log needs space outside of it.
    """
    if free_bytes < reserve_bytes // 2:
        return Room.FULL
    return Room.ENOUGH if free_bytes + reusable_bytes >= reserve_bytes else Room.LOW


_ORDER = (Room.FULL, Room.LOW, Room.ENOUGH)


class Intake(enum.Enum):
    """What the log takes in."""

    EVERYTHING = "everything"
    NO_GROWTH = "no-growth"  # only commands that do not make the data grow
    NOTHING = "nothing"


class MemberRoom:
    """The room on the members' disks, as reported; nodes without an entry have enough."""

    def __init__(self, own: NodeId) -> None:
        self._own = own
        self._short: dict[NodeId, Room] = {}
        self._reporting: set[NodeId] = set()
        self._lost: set[NodeId] = set()

    @property
    def own(self) -> Room:
        """Return the room on this node's disk."""
        return self._of(self._own)

    def report(self, node: NodeId, room: Room) -> None:
        """Take a member's report; this node is a member, too."""
        self._lost.discard(node)
        self._reporting.add(node)
        if room is Room.ENOUGH:
            self._short.pop(node, None)
        else:
            self._short[node] = room

    def lose(self, node: NodeId) -> None:
        """Record that the connection to a member broke: its room is not known any more."""
        if node in self._reporting:
            self._lost.add(node)

    def hear(self, node: NodeId) -> None:
        """Record a message of a member."""
        self._lost.discard(node)

    # ---- what follows

    def takes(self, message: Message) -> bool:
        """Return whether this node can store what `message` brings."""
        return self.own is not Room.FULL or message.type is not MessageType.APPEND or not message.entries

    def intake(self, conf_state: ConfState) -> Intake:
        """Return what this node, as the leader, takes into the log."""
        if not self._short:
            return Intake.EVERYTHING  # members that are down alone are not a matter of room
        if self.own is Room.FULL or not self._has_majority(conf_state, lambda room: room is not Room.FULL):
            return Intake.NOTHING
        if not self._has_majority(conf_state, lambda room: room is Room.ENOUGH):
            return Intake.NO_GROWTH
        return Intake.EVERYTHING

    def is_behind(self, conf_state: ConfState) -> bool:
        """Return whether this node appends nothing while a majority of the others may go on without it."""
        return self.own is Room.FULL and self._has_majority(conf_state, lambda room: room is not Room.FULL)

    def no_better_than_own(self) -> frozenset[NodeId]:
        """Return the members that should not lead in this node's place: they have no more room than it has."""
        own = _ORDER.index(self.own)
        return frozenset(node for node, room in self._short.items() if _ORDER.index(room) <= own) | self._lost

    def short(self) -> frozenset[NodeId]:
        """Return the members that use their reserve, or are full."""
        return frozenset(self._short)

    def _of(self, node: NodeId) -> Room:
        return Room.FULL if node in self._lost else self._short.get(node, Room.ENOUGH)

    def _has_majority(self, conf_state: ConfState, fits: Callable[[Room], bool]) -> bool:
        return has_majority(conf_state, lambda voter: fits(self._of(voter)))
