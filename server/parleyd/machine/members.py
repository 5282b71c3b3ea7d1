"""Applies what concerns the cluster's own members: who they are and where they are reached.

A member is added and removed by a membership entry alone, in the same transaction as the membership itself, so the two
can never tell different stories. A removed member is remembered: its data directory has a history that ended.
"""

from __future__ import annotations

import apsw

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine import commands as c
from parleyd.machine.limits import MAX_ADDRESS_CHARS, MAX_ID, MAX_NAME_CHARS
from parleyd.machine.records import MemberRow, Members, MembersChanged, MembershipChange
from parleyd.machine.row_cache import RowCache

_COLUMNS = "node_id, name, peer_address, client_address"


def read_members(connection: apsw.Connection) -> Members:
    """All members and all that were, by node id."""
    current, removed = (
        tuple(MemberRow(*row) for row in connection.execute(f"SELECT {_COLUMNS} FROM {table} ORDER BY node_id"))  # noqa: S608 - constants only
        for table in ("cluster_members", "removed_members")
    )
    return Members(current, removed)


def change_members(state: RowCache, change: MembershipChange) -> None:
    """Make the members those of the new membership. Applied again, it changes nothing."""
    execute = state.connection.execute
    for row in change.added:
        if row.node_id in change.node_ids:
            execute(
                "INSERT OR REPLACE INTO cluster_members VALUES(?, ?, ?, ?)",
                (row.node_id, row.name, row.peer_address, row.client_address),
            )
    for row in read_members(state.connection).rows:
        if row.node_id not in change.node_ids:
            execute(
                "INSERT OR REPLACE INTO removed_members VALUES(?, ?, ?, ?)",
                (row.node_id, row.name, row.peer_address, row.client_address),
            )
            execute("DELETE FROM cluster_members WHERE node_id = ?", (row.node_id,))
    state.effects.append(MembersChanged(read_members(state.connection)))


def publish_member(state: RowCache, command: pb.PublishMember) -> c.CommandResult:
    """Keep a member's current addresses. Its name is fixed when it is added; who is no member has none to keep."""
    addresses = (command.peer_address, command.client_address)
    if not 0 < command.node_id <= MAX_ID or not 0 < len(command.name) <= MAX_NAME_CHARS:
        return c.refusal(c.INVALID, "a member needs an id and a name of at most 64 characters")
    if any(len(address) > MAX_ADDRESS_CHARS for address in addresses):
        return c.refusal(c.INVALID, f"an address has at most {MAX_ADDRESS_CHARS} characters")
    state.connection.execute(
        "UPDATE cluster_members SET peer_address = ?, client_address = ? WHERE node_id = ? AND name = ?",
        (*addresses, command.node_id, command.name),
    )
    if not state.connection.changes():
        return c.refusal(c.NOT_FOUND, f"{command.name} is no member of this cluster; nothing was changed")
    state.effects.append(MembersChanged(read_members(state.connection)))
    return c.CommandResult(code=c.OK)
