"""Members: the cluster's nodes, their addresses, and the levels that they support.

Only a membership entry adds and removes a member, in the same transaction as the membership itself, so the two always
agree. A removed member stays recorded: its data directory must never join again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import apsw

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.feature import Command, Feature, result
from parleyd.machine.limits import MAX_ADDRESS_CHARS, MAX_ID, MAX_NAME_CHARS
from parleyd.machine.records import MemberRow, Members, MembershipChange

if TYPE_CHECKING:
    from parleyd.machine.reader import StateReader
    from parleyd.machine.state import State

_COLUMNS = "node_id, name, peer_address, client_address, min_level, max_level"
_SELECTS = tuple(
    f"SELECT {_COLUMNS} FROM {table} ORDER BY node_id"  # noqa: S608 - constants only
    for table in ("cluster_members", "removed_members")
)
_INSERT = f"INSERT OR REPLACE INTO {{table}}({_COLUMNS}) VALUES(?, ?, ?, ?, ?, ?)"

TABLES = """
CREATE TABLE cluster_members(
    node_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    peer_address TEXT NOT NULL,
    client_address TEXT NOT NULL,
    min_level INTEGER NOT NULL,
    max_level INTEGER NOT NULL
) STRICT;
CREATE TABLE removed_members(
    node_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    peer_address TEXT NOT NULL,
    client_address TEXT NOT NULL,
    min_level INTEGER NOT NULL,
    max_level INTEGER NOT NULL
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class MembersChanged:
    """Members were added, removed, or published something new; these are all members now."""

    members: Members


def read(connection: apsw.Connection) -> Members:
    """Return all members and all former members, by node id."""
    return Members(*(tuple(MemberRow(*row) for row in connection.execute(query)) for query in _SELECTS))


def insert(connection: apsw.Connection, rows: list[MemberRow], *, table: str = "cluster_members") -> None:
    """Store members' rows."""
    connection.executemany(
        _INSERT.format(table=table),
        [(m.node_id, m.name, m.peer_address, m.client_address, m.min_level, m.max_level) for m in rows],
    )


def change(state: State, change: MembershipChange) -> None:
    """Change the members to those of the new membership. Applied again, it changes nothing."""
    insert(state.connection, [row for row in change.added if row.node_id in change.node_ids])
    gone = [row for row in read(state.connection).rows if row.node_id not in change.node_ids]
    insert(state.connection, gone, table="removed_members")
    state.connection.executemany("DELETE FROM cluster_members WHERE node_id = ?", [(row.node_id,) for row in gone])
    state.effects.append(MembersChanged(read(state.connection)))


def publish(state: State, command: pb.PublishMember) -> pb.CommandResult:
    """Store a member's current addresses and levels. Its name is fixed when it is added."""
    if not 0 < command.node_id <= MAX_ID or not 0 < len(command.name) <= MAX_NAME_CHARS:
        return result(pb.RESULT_CODE_INVALID_NAME)
    addresses = (command.peer_address, command.client_address)
    if any(len(address) > MAX_ADDRESS_CHARS for address in addresses):
        return result(pb.RESULT_CODE_INVALID_ADDRESS)
    if not 0 < command.min_level <= state.meta.level <= command.max_level:
        return result(pb.RESULT_CODE_LEVEL_NOT_SUPPORTED)
    state.connection.execute(
        "UPDATE cluster_members SET peer_address = ?, client_address = ?, min_level = ?, max_level = ? "
        "WHERE node_id = ? AND name = ?",
        (*addresses, command.min_level, command.max_level, command.node_id, command.name),
    )
    if not state.connection.changes():
        return result(pb.RESULT_CODE_NO_SUCH_MEMBER)
    state.effects.append(MembersChanged(read(state.connection)))
    return result(pb.RESULT_CODE_OK)


FEATURE = Feature("members", tables={1: TABLES}, commands={"publish_member": Command(publish)})


# ---- queries


def current(reader: StateReader) -> Members:
    """Return all members and all former members, by node id."""
    with reader.consistent():
        return Members(*(tuple(MemberRow(*row) for row in reader.rows(query)) for query in _SELECTS))
