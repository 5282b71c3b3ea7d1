"""Rules for membership changes: pure decisions from what the leader knows (Raft §6, thesis §4.2).

Each rule returns the change to propose, or None if it is done already, or raises. The group proposes in the same step
in which it asks, so nothing can change in between.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import assert_never

from parleyd.machine.levels import NODE_KEYS_LEVEL
from parleyd.machine.limits import MAX_ADDRESS_CHARS, MAX_ID, MAX_NAME_CHARS
from parleyd.machine.records import MemberRow
from parleyd.membership.members import ClusterMembers, addition
from parleyd.raft.membership import ConfChange, ConfChangeType, SingleChange
from parleyd.raft.types import ConfState, NodeId

MAX_VOTERS = 7
MAX_MEMBERS = 9


class ChangeRefusedError(Exception):
    """The change is not allowed now. Nothing was changed. The text contains what to do."""


class NotAdmittedError(ChangeRefusedError):
    """The node to add needs an administrator or a join token. It may ask again."""


class NotYetError(Exception):
    """Nothing was changed, and the same request may succeed in a moment."""


class NoSuchMemberError(Exception):
    """No member has that name. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class AddMember:
    """Make a new node a learner. `admitted`: an administrator or a join token admits it."""

    row: MemberRow
    admitted: bool = False


@dataclass(frozen=True, slots=True)
class PromoteMember:
    """Make a learner a voter."""

    name: str


@dataclass(frozen=True, slots=True)
class RemoveMember:
    """Remove a member for good; `answering` are the nodes heard from just now, the leader included."""

    name: str
    answering: frozenset[NodeId]
    force: bool = False


@dataclass(frozen=True, slots=True)
class RawChange:
    """Any change that the core accepts, for simulations and tests only."""

    change: ConfChange


MembershipRequest = AddMember | PromoteMember | RemoveMember | RawChange


def decide(request: MembershipRequest, members: ClusterMembers, conf_state: ConfState, level: int) -> ConfChange | None:
    """Return the change to propose to a cluster of that level, None if it is done already.

    Raises ChangeRefusedError or NoSuchMemberError.
    """
    match request:
        case AddMember(row, admitted):
            return add(members, row, level, admitted=admitted)
        case PromoteMember(name):
            return promote(members, conf_state, name)
        case RemoveMember(name, answering, force):
            return remove(members, conf_state, name, answering, force=force)
        case RawChange(change):
            return change
        case _:
            assert_never(request)


def known(members: ClusterMembers, name: str) -> MemberRow:
    """Return the member with that name; raises NoSuchMemberError."""
    row = members.named(name)
    if row is None:
        names = ", ".join(sorted(row.name for row in members.rows.values()))
        raise NoSuchMemberError(f"There is no member {name}. Nothing was changed. The members are {names}.")
    return row


def add(members: ClusterMembers, row: MemberRow, level: int, *, admitted: bool) -> ConfChange | None:
    """Add `row` as a learner: it receives everything and does not count. `level` is the cluster's."""
    if row.node_id in members.rows:
        return None
    if row.node_id in members.removed:
        raise ChangeRefusedError(
            f"This data directory was a member and was removed for good. {row.name} was not added. Move the "
            "directory away, start the node with --join and an empty one, and admit it: parley cluster add."
        )
    if not _is_storable(row):
        raise ChangeRefusedError(
            f"A member needs an id up to {MAX_ID}, a name up to {MAX_NAME_CHARS} characters and two addresses up to "
            f"{MAX_ADDRESS_CHARS}. Nothing was added."
        )
    if not row.min_level <= level <= row.max_level:
        low = max((known.min_level for known in members.rows.values()), default=level)
        high = min((known.max_level for known in members.rows.values()), default=level)
        raise ChangeRefusedError(
            f"The release of {row.name} supports levels {row.min_level} to {row.max_level}, but the cluster has level "
            f"{level} and all its members support {low} to {high}. Nothing was added. Start {row.name} with a "
            f"release that supports level {level}."
        )
    if members.named(row.name) is not None:
        raise ChangeRefusedError(
            f"{row.name} is a member already, with another data directory than this new one. If that one is lost, "
            f"remove the old member first: parley cluster remove {row.name}. Then start the node again with --join, "
            f"and admit it: parley cluster add {row.name} {row.peer_address}."
        )
    if len(members.rows) >= MAX_MEMBERS:
        raise ChangeRefusedError(
            f"The cluster has {len(members.rows)} members, which is the maximum. Nothing was added. Remove one before "
            f"you add {row.name}."
        )
    if level < NODE_KEYS_LEVEL:
        return addition(replace(row, key_digest=b""))
    if not admitted:
        raise NotAdmittedError(_how_to_admit(members, row))
    return addition(row)


def _how_to_admit(members: ClusterMembers, row: MemberRow) -> str:
    is_barred = any(
        barred.name == row.name or (row.key_digest and barred.key_digest == row.key_digest) for barred in members.barred
    )
    why = f"{row.name}, or the key of its certificate, was removed" if is_barred else f"Nobody has admitted {row.name}"
    return (
        f"{why}. Nothing was added. An administrator admits it: parley cluster add {row.name} {row.peer_address}, or "
        "parley cluster invite-node, whose token the node takes from its join_token_file."
    )


def _is_storable(row: MemberRow) -> bool:
    """Return whether every node can store the record. One that cannot be stored would stop all nodes at apply."""
    texts = ((row.name, MAX_NAME_CHARS), (row.peer_address, MAX_ADDRESS_CHARS), (row.client_address, MAX_ADDRESS_CHARS))
    return 0 < row.node_id <= MAX_ID and all(0 < len(text) <= most for text, most in texts)


def promote(members: ClusterMembers, conf_state: ConfState, name: str) -> ConfChange | None:
    """Make a learner that has caught up a voter."""
    node = NodeId(known(members, name).node_id)
    if node in conf_state.voters:
        return None
    if len(conf_state.voters) >= MAX_VOTERS:
        raise ChangeRefusedError(
            f"The cluster has {len(conf_state.voters)} voters, which is the maximum. {name} stays a learner. Remove "
            "a voter first."
        )
    return ConfChange((SingleChange(ConfChangeType.ADD_VOTER, node),))


def restart(members: ClusterMembers, conf_state: ConfState, own: NodeId, name: str, ready: Collection[NodeId]) -> None:
    """Raise unless member `name` may stop for a moment; `own` leads, `ready` are the nodes that have caught up."""
    node = NodeId(known(members, name).node_id)
    others = [voter for voter in conf_state.voters if voter != node]
    if 2 * len(others) <= len(conf_state.voters):
        raise ChangeRefusedError(
            f"Without {name} the cluster could accept no messages, because it has {len(conf_state.voters)} voters. "
            "Nothing was restarted. Add a node first, or restart this one by hand."
        )
    if node == own:
        raise ChangeRefusedError(
            f"{name} leads. Nothing was restarted. Transfer leadership first: parley cluster transfer."
        )
    missing = sorted(members.rows[voter].name for voter in others if voter not in ready)
    if missing:
        raise NotYetError(
            f"{', '.join(missing)} did not answer just now, or lacked entries of the log. Nothing was restarted. Wait "
            f"until all other voters have caught up, then restart {name}."
        )


def remove(
    members: ClusterMembers, conf_state: ConfState, name: str, answering: Collection[NodeId], *, force: bool
) -> ConfChange | None:
    """Remove a member for good; `answering` are the nodes heard from just now, the leader included."""
    if members.named(name) is None and members.was_named(name):
        return None
    node = NodeId(known(members, name).node_id)
    left = [voter for voter in conf_state.voters if voter != node]
    if not left:
        raise ChangeRefusedError(
            f"{name} is the only voter, and without it there is no cluster. Nothing was changed. Add another node "
            "and let it become a voter first."
        )
    silent = [voter for voter in left if voter not in answering]
    if node in conf_state.voters and 2 * len(silent) >= len(left) and not force:
        names = sorted(members.rows[voter].name for voter in silent)
        raise ChangeRefusedError(
            f"Without {name} the cluster would have {len(left)} voters, of which {len(silent)} did not answer just "
            f"now ({', '.join(names)}), so it could accept no messages. Nothing was changed. Start them first, or "
            f"remove them instead. --force removes {name} without this check."
        )
    return ConfChange((SingleChange(ConfChangeType.REMOVE_NODE, node),))
