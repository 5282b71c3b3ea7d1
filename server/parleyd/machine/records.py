"""Input of the state machine beside commands: the cluster's members, and one slot of the log."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A cluster member's name, addresses and supported levels, as it published them."""

    node_id: int
    name: str
    peer_address: str
    client_address: str
    min_level: int = 1
    max_level: int = 1
    key_digest: bytes = b""  # SHA-256 of its certificate's public key info; empty below level 3 and without TLS


@dataclass(frozen=True, slots=True)
class MembershipChange:
    """The change of the members by a membership entry.

    `encoded` is kept for the driver, unread. `node_ids` are all members from now on, including those that a joint
    membership is removing. Any other member is removed for good. `added` is the record of a new member.
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
class BarredNode:
    """A name and a key that an administrator has to admit again; `key_digest` is empty if it was never published."""

    name: str
    key_digest: bytes


@dataclass(frozen=True, slots=True)
class RevokedCertificate:
    """A certificate or key with which nobody may call nodes; `name` is the member that had it, empty for none."""

    digest: bytes
    name: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class Members:
    """All members' rows by node id, the former members, whose ids never join again, and their names and keys.

    `revoked` is what administrators revoked, the oldest first.
    """

    rows: tuple[MemberRow, ...]
    removed: tuple[MemberRow, ...]
    barred: tuple[BarredNode, ...] = ()
    revoked: tuple[RevokedCertificate, ...] = ()
