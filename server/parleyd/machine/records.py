"""What goes into the state machine beside commands: who the cluster's members are, and one slot of the log."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A cluster member's name, addresses and the levels its release supports, as it published them."""

    node_id: int
    name: str
    peer_address: str
    client_address: str
    min_level: int = 1
    max_level: int = 1


@dataclass(frozen=True, slots=True)
class MembershipChange:
    """What a membership entry makes of the members.

    `encoded` is kept for the driver, unread. `node_ids` are all members from now on, half-removed ones of a joint
    membership included: whoever is not among them is removed for good. `added` says who a newcomer is.
    """

    encoded: bytes
    node_ids: tuple[int, ...]
    added: tuple[MemberRow, ...] = ()


@dataclass(frozen=True, slots=True)
class CommittedEntry:
    """One committed slot of the log. An empty payload is a no-op; `membership` is set for a membership entry."""

    index: int
    term: int
    payload: bytes = b""
    membership: MembershipChange | None = None


@dataclass(frozen=True, slots=True)
class StateHash:
    """The state hash as of one entry: equal on all nodes at an equal index."""

    index: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Members:
    """All members' rows by node id, and the ids that were members once and never may be again."""

    rows: tuple[MemberRow, ...]
    removed: tuple[MemberRow, ...]
