"""Membership arithmetic and its encoding: from one ConfState and some changes to the next (Raft §6, thesis §4.3).

Pure: no server state, no log. A simple change concerns at most one voter, so that the old and the new majority overlap.
Any other change goes through a joint configuration, in which both majorities must agree. A voter that becomes a learner
in a joint configuration keeps its old vote there. It waits in `learners_next`.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from parleyd.raft.types import NO_NODE, ConfState, NodeId

_VERSION = 1
_HEADER = struct.Struct(">BBH")
_CHANGE = struct.Struct(">BQ")


class Fault(enum.Enum):
    """Why a change does not fit the membership that it applies to."""

    ALREADY_JOINT = "the membership is joint already; leave it first"
    NO_VOTERS_TO_JOIN = "a membership without voters cannot become joint"
    NOT_JOINT = "the membership is not joint; there is nothing to leave"
    SIMPLE_IN_JOINT = "a simple change cannot be made in a joint membership"
    TOO_MANY_VOTERS = "more than one voter would change; that needs a joint membership"
    NO_VOTERS_LEFT = "the change would remove every voter"


class MembershipError(ValueError):
    """A change was refused; the membership is as before."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.value)
        self.fault = fault


class ConfChangeType(enum.IntEnum):
    """The change of one node; the numbers are on disk. UPDATE_NODE changes no membership, it has a `context`."""

    ADD_VOTER = 0
    REMOVE_NODE = 1
    UPDATE_NODE = 2
    ADD_LEARNER = 3


class Transition(enum.IntEnum):
    """How a change is made; the numbers are on disk. AUTO uses a joint membership only if it must."""

    AUTO = 0
    JOINT_IMPLICIT = 1
    JOINT_EXPLICIT = 2


@dataclass(frozen=True, slots=True)
class SingleChange:
    """One change of one node."""

    type: ConfChangeType
    node: NodeId


@dataclass(frozen=True, slots=True)
class ConfChange:
    """Changes made together. `context` belongs to the application (addresses of nodes); the core does not read it."""

    changes: tuple[SingleChange, ...] = ()
    transition: Transition = Transition.AUTO
    context: bytes = b""

    def leaves_joint(self) -> bool:
        """Return whether the change is empty, which is the request to leave a joint membership."""
        return not self.changes and self.transition is Transition.AUTO

    def enters_joint(self) -> bool:
        """Return whether the change needs a joint membership, or requests one."""
        return self.transition is not Transition.AUTO or len(self.changes) > 1

    def auto_leave(self) -> bool:
        """Return whether the leader leaves the joint membership by itself."""
        return self.transition is not Transition.JOINT_EXPLICIT


@dataclass(frozen=True, slots=True)
class NextMembership:
    """The next membership, and its nodes about which nothing is known yet."""

    conf_state: ConfState
    fresh: tuple[NodeId, ...]


def encode_conf_change(change: ConfChange) -> bytes:
    """Return the bytes of `change`, the same on every node; never empty."""
    parts = [_HEADER.pack(_VERSION, change.transition, len(change.changes))]
    parts.extend(_CHANGE.pack(single.type, single.node) for single in change.changes)
    parts.append(change.context)
    return b"".join(parts)


def decode_conf_change(data: bytes) -> ConfChange:
    """Return the change that `data` encodes; raises ValueError if it is none."""
    try:
        version, transition, count = _HEADER.unpack_from(data)
        if version != _VERSION:
            raise ValueError(f"membership change has version {version}; this release reads version {_VERSION}")
        offset = _HEADER.size
        changes = []
        for _ in range(count):
            kind, node = _CHANGE.unpack_from(data, offset)
            changes.append(SingleChange(ConfChangeType(kind), NodeId(node)))
            offset += _CHANGE.size
        return ConfChange(tuple(changes), Transition(transition), data[offset:])
    except struct.error as error:
        raise ValueError(f"membership change is cut short: {len(data)} bytes") from error


def change_membership(current: ConfState, change: ConfChange) -> NextMembership:
    """Apply a committed change in the way that it requests; raises MembershipError if it does not fit."""
    if change.leaves_joint():
        return leave_joint(current)
    if change.enters_joint():
        return enter_joint(current, change.changes, auto_leave=change.auto_leave())
    return simple(current, change.changes)


def simple(current: ConfState, changes: Iterable[SingleChange]) -> NextMembership:
    """Change at most one voter, and any number of learners, at once."""
    if current.voters_outgoing:
        raise MembershipError(Fault.SIMPLE_IN_JOINT)
    draft = _Draft(current)
    draft.apply(changes)
    if len(draft.voters.symmetric_difference(current.voters)) > 1:
        raise MembershipError(Fault.TOO_MANY_VOTERS)
    return draft.finish()


def enter_joint(current: ConfState, changes: Iterable[SingleChange], *, auto_leave: bool) -> NextMembership:
    """Begin a joint membership: the old voters are the outgoing half, the changed ones the incoming."""
    if current.voters_outgoing:
        raise MembershipError(Fault.ALREADY_JOINT)
    if not current.voters:
        raise MembershipError(Fault.NO_VOTERS_TO_JOIN)
    draft = _Draft(current)
    draft.outgoing = set(current.voters)
    draft.apply(changes)
    draft.auto_leave = auto_leave
    return draft.finish()


def leave_joint(current: ConfState) -> NextMembership:
    """End a joint membership: the incoming half decides alone."""
    if not current.voters_outgoing:
        raise MembershipError(Fault.NOT_JOINT)
    draft = _Draft(current)
    draft.learners |= draft.learners_next
    draft.learners_next = set()
    draft.outgoing = set()
    draft.auto_leave = False
    draft.known &= draft.voters | draft.learners
    return draft.finish()


class _Draft:
    """A membership being changed; `known` are the nodes that keep their progress."""

    def __init__(self, current: ConfState) -> None:
        self.voters = set(current.voters)
        self.outgoing = set(current.voters_outgoing)
        self.learners = set(current.learners)
        self.learners_next = set(current.learners_next)
        self.auto_leave = current.auto_leave
        self.known = self.voters | self.outgoing | self.learners

    def apply(self, changes: Iterable[SingleChange]) -> None:
        for change in changes:
            node = change.node
            if node == NO_NODE:
                continue  # an entry whose change the application withdrew
            if change.type is ConfChangeType.ADD_VOTER:
                self.learners.discard(node)
                self.learners_next.discard(node)
                self.voters.add(node)
            elif change.type is ConfChangeType.ADD_LEARNER:
                self._make_learner(node)
            elif change.type is ConfChangeType.REMOVE_NODE:
                self._remove(node)
        if not self.voters:
            raise MembershipError(Fault.NO_VOTERS_LEFT)

    def _make_learner(self, node: NodeId) -> None:
        self.voters.discard(node)
        if node in self.outgoing:
            self.learners_next.add(node)
        else:
            self.learners.add(node)

    def _remove(self, node: NodeId) -> None:
        self.voters.discard(node)
        self.learners.discard(node)
        self.learners_next.discard(node)
        if node not in self.outgoing:
            self.known.discard(node)

    def finish(self) -> NextMembership:
        members = self.voters | self.outgoing | self.learners
        conf_state = ConfState(
            voters=tuple(sorted(self.voters)),
            learners=tuple(sorted(self.learners)),
            voters_outgoing=tuple(sorted(self.outgoing)),
            learners_next=tuple(sorted(self.learners_next)),
            auto_leave=self.auto_leave,
        )
        check_conf_state(conf_state)
        return NextMembership(conf_state, tuple(sorted(members - self.known)))


def check_conf_state(conf_state: ConfState) -> None:
    """Refuse a membership that contradicts itself (ValueError), from any source."""
    voters, learners = set(conf_state.voters), set(conf_state.learners)
    outgoing, learners_next = set(conf_state.voters_outgoing), set(conf_state.learners_next)
    if learners & (voters | outgoing):
        raise ValueError(f"membership has nodes that are voters and learners at once: {conf_state}")
    if not learners_next <= outgoing or learners_next & voters:
        raise ValueError(f"membership has future learners that are not outgoing voters: {conf_state}")
    if not outgoing and (learners_next or conf_state.auto_leave):
        raise ValueError(f"membership is not joint but has fields of a joint one: {conf_state}")


def members_of(conf_state: ConfState) -> tuple[NodeId, ...]:
    """Return all nodes of a membership, sorted."""
    return tuple(sorted({*conf_state.voters, *conf_state.voters_outgoing, *conf_state.learners}))


def voters_of(conf_state: ConfState) -> tuple[NodeId, ...]:
    """Return all nodes with a vote in either half, sorted."""
    if not conf_state.voters_outgoing:
        return conf_state.voters
    return tuple(sorted({*conf_state.voters, *conf_state.voters_outgoing}))
