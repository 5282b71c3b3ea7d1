"""Members: the cluster's nodes, their addresses, and the levels that they support.

Only a membership entry adds and removes a member, in the same transaction as the membership itself, so the two always
agree. A removed member stays recorded: its data directory must never join again. From level 3 on, its name and the key
of its certificate are barred too. A membership entry that adds them again lifts that, because only an administrator or
a join token makes one (membership/rules.py). A member that publishes a new key bars its old one: whoever has stolen it
makes no calls with it from then on. A bar without a name is lifted only for a node that is added with this key. A key
that another member has is not barred: it would lock that one out. Of bars without a name the oldest are forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import apsw

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.audit_actions import AuditAction
from parleyd.machine.authorisation import Action
from parleyd.machine.feature import Command, Feature, SignedInCommand, result
from parleyd.machine.features import audit
from parleyd.machine.levels import NODE_KEYS_LEVEL
from parleyd.machine.limits import (
    KEY_DIGEST_BYTES,
    MAX_ADDRESS_CHARS,
    MAX_ID,
    MAX_JOIN_TOKEN_MS,
    MAX_JOIN_TOKENS,
    MAX_NAME_CHARS,
    MAX_REPLACED_KEYS,
    TOKEN_DIGEST_BYTES,
)
from parleyd.machine.records import BarredNode, MemberRow, Members, MembershipChange, RevokedCertificate

if TYPE_CHECKING:
    from parleyd.machine.features.sessions import Actor
    from parleyd.machine.reader import StateReader
    from parleyd.machine.state import State

_COLUMNS = "node_id, name, peer_address, client_address, min_level, max_level"
_SELECTS = tuple(
    f"SELECT {_COLUMNS} FROM {table} ORDER BY node_id"  # noqa: S608 - constants only
    for table in ("cluster_members", "removed_members")
)
_SELECT_KEYS = "SELECT node_id, key_digest FROM member_keys"
_SELECT_BARRED = "SELECT name, key_digest FROM barred_nodes ORDER BY name, key_digest"
_SELECT_REVOKED = "SELECT digest, name, since_ms FROM revoked_certificates ORDER BY since_ms, digest"
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

# `key_digest` is empty if the removed member had published none.
KEY_TABLES = """
CREATE TABLE member_keys(
    node_id INTEGER PRIMARY KEY,
    key_digest BLOB NOT NULL
) STRICT;
CREATE TABLE barred_nodes(
    name TEXT NOT NULL,
    key_digest BLOB NOT NULL,
    since_ms INTEGER NOT NULL,
    PRIMARY KEY(name, key_digest)
) STRICT, WITHOUT ROWID;
CREATE TABLE join_tokens(
    token_digest BLOB PRIMARY KEY,
    expires_at_ms INTEGER NOT NULL,
    used_by INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class MembersChanged:
    """Members were added, removed, or published something new; these are all members now."""

    members: Members


def read(connection: apsw.Connection) -> Members:
    """Return all members, all former members, what is barred, and what is revoked."""
    return _read(lambda query: connection.execute(query).fetchall(), connection.pragma("user_version"))


def _read(rows_of: Callable[[str], list[Any]], level: int) -> Members:
    rows, removed = (tuple(MemberRow(*row) for row in rows_of(query)) for query in _SELECTS)
    if level < NODE_KEYS_LEVEL:
        return Members(rows, removed)
    keys = dict(rows_of(_SELECT_KEYS))
    with_keys = tuple(replace(row, key_digest=keys.get(row.node_id, b"")) for row in rows)
    barred = tuple(BarredNode(*row) for row in rows_of(_SELECT_BARRED))
    return Members(with_keys, removed, barred, tuple(RevokedCertificate(*row) for row in rows_of(_SELECT_REVOKED)))


def insert(connection: apsw.Connection, rows: list[MemberRow], *, table: str = "cluster_members") -> None:
    """Store members' rows."""
    connection.executemany(
        _INSERT.format(table=table),
        [(m.node_id, m.name, m.peer_address, m.client_address, m.min_level, m.max_level) for m in rows],
    )


def change(state: State, change: MembershipChange) -> None:
    """Change the members to those of the new membership. Applied again, it changes nothing."""
    added = [row for row in change.added if row.node_id in change.node_ids]
    before = read(state.connection).rows
    insert(state.connection, added)
    gone = [row for row in before if row.node_id not in change.node_ids]
    insert(state.connection, gone, table="removed_members")
    state.connection.executemany("DELETE FROM cluster_members WHERE node_id = ?", [(row.node_id,) for row in gone])
    if state.meta.level >= NODE_KEYS_LEVEL:
        for row in added:
            _admit(state, row)
        for row in gone:
            _bar(state, row)
    new = [row for row in added if row.node_id not in {one.node_id for one in before}]
    for action, rows in ((AuditAction.MEMBER_REMOVED, gone), (AuditAction.MEMBER_ADDED, new)):
        for row in rows:
            index = state.meta.applied_index  # of the entry of the membership
            audit.record(state, audit.CLUSTER, action, row.name, f"node id {row.node_id}", index=index)
    state.effects.append(MembersChanged(read(state.connection)))


def _admit(state: State, row: MemberRow) -> None:
    """Keep a new member's key. Whoever added it had the right to, so its name and its key are barred no longer.

    If it comes with another key than before, the old one stays barred.
    """
    _store_key(state, row.node_id, row.key_digest)
    state.connection.execute(
        "INSERT OR IGNORE INTO barred_nodes(name, key_digest, since_ms) "
        "SELECT '', key_digest, since_ms FROM barred_nodes WHERE name = ? AND key_digest <> x''",
        (row.name,),
    )
    state.connection.execute("DELETE FROM barred_nodes WHERE name = ?", (row.name,))
    if row.key_digest:
        state.connection.execute("DELETE FROM barred_nodes WHERE key_digest = ?", (row.key_digest,))


def _bar(state: State, row: MemberRow) -> None:
    """Bar the name and the key of a removed member, until an administrator admits them again."""
    state.connection.execute("DELETE FROM member_keys WHERE node_id = ?", (row.node_id,))
    _add_bar(state, row.name, b"" if _is_in_use(state, row.key_digest) else row.key_digest)


def _add_bar(state: State, name: str, key_digest: bytes) -> None:
    state.connection.execute(
        "INSERT OR REPLACE INTO barred_nodes(name, key_digest, since_ms) VALUES(?, ?, ?)",
        (name, key_digest, state.meta.now_ms),
    )


def _is_in_use(state: State, key_digest: bytes) -> bool:
    query = "SELECT 1 FROM member_keys WHERE key_digest = ? LIMIT 1"
    return state.connection.execute(query, (key_digest,)).get is not None


def _is_barred(state: State, key_digest: bytes) -> bool:
    query = "SELECT 1 FROM barred_nodes WHERE key_digest = ? LIMIT 1"
    return bool(key_digest) and state.connection.execute(query, (key_digest,)).get is not None


def _replace_key(state: State, node_id: int, key_digest: bytes) -> None:
    """Keep the key that a member published, and bar the one that it had before."""
    query = "SELECT key_digest FROM member_keys WHERE node_id = ?"
    old = state.connection.execute(query, (node_id,)).get
    _store_key(state, node_id, key_digest)
    if old and key_digest and old != key_digest and not _is_in_use(state, old):
        _add_bar(state, "", old)
        state.connection.execute(
            "DELETE FROM barred_nodes WHERE name = '' AND key_digest IN (SELECT key_digest FROM barred_nodes "
            "WHERE name = '' ORDER BY since_ms DESC, key_digest LIMIT -1 OFFSET ?)",
            (MAX_REPLACED_KEYS,),
        )


def _store_key(state: State, node_id: int, key_digest: bytes) -> None:
    if len(key_digest) == KEY_DIGEST_BYTES:
        state.connection.execute(
            "INSERT OR REPLACE INTO member_keys(node_id, key_digest) VALUES(?, ?)", (node_id, key_digest)
        )


def publish(state: State, command: pb.PublishMember) -> pb.CommandResult:
    """Store a member's current addresses and levels. Its name is fixed when it is added."""
    if not 0 < command.node_id <= MAX_ID or not 0 < len(command.name) <= MAX_NAME_CHARS:
        return result(pb.RESULT_CODE_INVALID_NAME)
    addresses = (command.peer_address, command.client_address)
    if any(len(address) > MAX_ADDRESS_CHARS for address in addresses):
        return result(pb.RESULT_CODE_INVALID_ADDRESS)
    if state.level >= NODE_KEYS_LEVEL and len(command.key_digest) not in (0, KEY_DIGEST_BYTES):
        return result(pb.RESULT_CODE_INVALID_LENGTH)
    if state.level >= NODE_KEYS_LEVEL and _is_barred(state, command.key_digest):
        return result(pb.RESULT_CODE_NOT_ALLOWED)
    if not 0 < command.min_level <= state.meta.level <= command.max_level:
        return result(pb.RESULT_CODE_LEVEL_NOT_SUPPORTED)
    before = {row.node_id: row for row in read(state.connection).rows}
    state.connection.execute(
        "UPDATE cluster_members SET peer_address = ?, client_address = ?, min_level = ?, max_level = ? "
        "WHERE node_id = ? AND name = ?",
        (*addresses, command.min_level, command.max_level, command.node_id, command.name),
    )
    if not state.connection.changes():
        return result(pb.RESULT_CODE_NO_SUCH_MEMBER)
    if state.level >= NODE_KEYS_LEVEL:
        _replace_key(state, command.node_id, command.key_digest)
    after = {row.node_id: row for row in read(state.connection).rows}
    changes = _differences(before[command.node_id], after[command.node_id])
    if changes:
        audit.record(state, command.name, AuditAction.MEMBER_CHANGED, command.name, changes)
    state.effects.append(MembersChanged(read(state.connection)))
    return result(pb.RESULT_CODE_OK)


def _differences(before: MemberRow, after: MemberRow) -> str:
    """Return what a member published anew, for people. A key is not shown."""
    pairs = {
        "peer address": (before.peer_address, after.peer_address),
        "client address": (before.client_address, after.client_address),
        "levels": (f"{before.min_level}-{before.max_level}", f"{after.min_level}-{after.max_level}"),
    }
    found = [f"{what} {old or 'none'} -> {new or 'none'}" for what, (old, new) in pairs.items() if old != new]
    if before.key_digest != after.key_digest:
        found.append("another key" if before.key_digest else "its first key")
    return ", ".join(found)


def invite(state: State, actor: Actor, command: pb.InviteNode) -> pb.CommandResult:
    """Keep a token that lets one new node join."""
    if len(command.token_digest) != TOKEN_DIGEST_BYTES:
        return result(pb.RESULT_CODE_INVALID_LENGTH)
    if not 0 < command.valid_ms <= MAX_JOIN_TOKEN_MS:
        return result(pb.RESULT_CODE_INVALID_EXPIRY)
    now_ms = state.meta.now_ms
    state.connection.execute("DELETE FROM join_tokens WHERE expires_at_ms <= ?", (now_ms,))
    known = "SELECT count(*) FROM join_tokens WHERE token_digest <> ?"
    if state.connection.execute(known, (command.token_digest,)).get >= MAX_JOIN_TOKENS:
        return result(pb.RESULT_CODE_TOO_MANY_JOIN_TOKENS)
    state.connection.execute(
        "INSERT OR IGNORE INTO join_tokens(token_digest, expires_at_ms, used_by) VALUES(?, ?, 0)",
        (command.token_digest, now_ms + command.valid_ms),
    )
    if state.connection.changes():
        detail = f"token ends at {now_ms + command.valid_ms} ms"
        audit.record(state, actor.account.name, AuditAction.MEMBER_INVITED, "", detail)
    return result(pb.RESULT_CODE_OK)


def use_token(state: State, command: pb.UseJoinToken) -> pb.CommandResult:
    """Give a token to the first node that uses it; the same node may repeat it."""
    if not 0 < command.node_id <= MAX_ID:
        return result(pb.RESULT_CODE_INVALID_NUMBER)
    query = "SELECT used_by FROM join_tokens WHERE token_digest = ?"
    is_first = state.connection.execute(query, (command.token_digest,)).get == 0
    state.connection.execute(
        "UPDATE join_tokens SET used_by = ? WHERE token_digest = ? AND used_by IN (0, ?) AND expires_at_ms > ?",
        (command.node_id, command.token_digest, command.node_id, state.meta.now_ms),
    )
    is_given = bool(state.connection.changes())
    if is_given and is_first:
        audit.record(state, audit.CLUSTER, AuditAction.MEMBER_TOKEN_USED, "", f"node id {command.node_id}")
    return result(pb.RESULT_CODE_OK if is_given else pb.RESULT_CODE_INVALID_JOIN_TOKEN)


FEATURE = Feature(
    "members",
    tables={1: TABLES, NODE_KEYS_LEVEL: KEY_TABLES},
    commands={
        "publish_member": Command(publish, audits=(AuditAction.MEMBER_CHANGED,)),
        "invite_node": SignedInCommand(
            invite, Action.CHANGE_CLUSTER, NODE_KEYS_LEVEL, audits=(AuditAction.MEMBER_INVITED,)
        ),
        "use_join_token": Command(use_token, NODE_KEYS_LEVEL, audits=(AuditAction.MEMBER_TOKEN_USED,)),
    },
)


# ---- queries


def current(reader: StateReader) -> Members:
    """Return all members, all former members, what is barred, and what is revoked."""
    with reader.consistent():
        return _read(reader.rows, reader.level())


def may_use_token(reader: StateReader, token_digest: bytes, node_id: int) -> bool:
    """Return whether a node may propose to use the token: applied here it is free, or the node's own."""
    with reader.consistent():
        if reader.level() < NODE_KEYS_LEVEL:
            return False
        query = "SELECT 1 FROM join_tokens WHERE token_digest = ? AND used_by IN (0, ?)"
        return bool(reader.rows(query, (token_digest, node_id)))
