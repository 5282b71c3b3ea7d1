"""The accounts, conversations and members that the cluster reported. Each name and title is stored once.

Marks of members only move forward. All functions run on the store's thread inside its transaction.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any, cast

import apsw

from parley.device import removals
from parley.device.schema import check_row, fetch, get_meta, next_revision
from parley.model import Account, Conversation, ConversationKind, Member, MemberRole, Receipt, ReceiptCounts, Target

KEEP_ACCOUNTS = 50_000
KEEP_CONVERSATIONS = 10_000


@dataclass(frozen=True, slots=True)
class Names:
    """All known names of one conversation. Unknown ones are 0 or empty."""

    conversation_id: int = 0
    account: str = ""
    account_id: int = 0

    def targets(self) -> list[Target]:
        """Return the targets of this conversation, the most definite first."""
        found = []
        if self.conversation_id:
            found.append(Target(conversation_id=self.conversation_id))
        if self.account_id:
            found.append(Target(account_id=self.account_id))
        if self.account:
            found.append(Target(account=self.account))
        return found


def own_id(connection: apsw.Connection) -> int:
    """Return the id of the own account, 0 before the first log-in."""
    return get_meta(connection, "account_id", 0)


def names_of(connection: apsw.Connection, target: Target) -> Names:
    """Return all names by which a message to the same conversation may have been sent."""
    if target.conversation_id:
        rows = connection.execute(
            "SELECT peer_id FROM conversations WHERE id = ?", (target.conversation_id,)
        ).fetchall()
        peer_id = int(cast(int, rows[0][0])) if rows else 0
        return Names(target.conversation_id, _name_of(connection, peer_id), peer_id)
    account_id = target.account_id or _account_id_of(connection, target.account)
    account = target.account or _name_of(connection, account_id)
    rows = connection.execute(
        "SELECT id FROM conversations WHERE peer_id = ? AND peer_id > 0", (account_id,)
    ).fetchall()
    return Names(int(cast(int, rows[0][0])) if rows else 0, account, account_id)


def _account_id_of(connection: apsw.Connection, name: str) -> int:
    rows = connection.execute("SELECT id FROM accounts WHERE name = ? ORDER BY deleted, id DESC LIMIT 1", (name,))
    found = rows.fetchall()
    return int(cast(int, found[0][0])) if found else 0


def _name_of(connection: apsw.Connection, account_id: int) -> str:
    rows = connection.execute("SELECT name FROM accounts WHERE id = ? AND NOT deleted", (account_id,)).fetchall()
    return str(rows[0][0]) if rows else ""


def learn(
    connection: apsw.Connection,
    accounts: Iterable[Account],
    conversations: Sequence[Conversation],
    removed: Sequence[tuple[int, int]] = (),
) -> None:
    """Store accounts and conversations. Members replace the former ones, and their marks only move forward.

    `removed`: conversation and message up to which it was removed. What this device holds of that is deleted.
    """
    removed = [*removed, *((one.id, one.removed_up_to) for one in conversations if one.removed_up_to)]
    bounds = removals.known_bounds(connection, {id_ for id_, _ in removed}) if removed else {}
    revision = next_revision(connection)
    connection.executemany(
        "INSERT OR REPLACE INTO accounts (id, name, display_name, deleted, revision) VALUES (?, ?, ?, ?, ?)",
        [(a.id, a.name, a.display_name, int(a.deleted), revision) for a in accounts],
    )
    own = own_id(connection)
    connection.executemany(
        """INSERT INTO conversations
           (id, kind, title, member_count, peer_id, revision, topic, public, archived, open_history, muted,
            put_away_up_to, removed_up_to)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
           ON CONFLICT (id) DO UPDATE SET
             kind = excluded.kind, title = excluded.title, member_count = excluded.member_count,
             peer_id = excluded.peer_id, revision = excluded.revision, topic = excluded.topic,
             public = excluded.public, archived = excluded.archived, open_history = excluded.open_history,
             muted = excluded.muted, put_away_up_to = excluded.put_away_up_to,
             removed_up_to = max(removed_up_to, excluded.removed_up_to)""",
        [
            (
                c.id,
                int(c.kind),
                c.title,
                c.member_count,
                peer_of(c, own),
                revision,
                c.topic,
                *_flags(c),
                c.put_away_up_to,
                c.removed_up_to,
            )
            for c in conversations
        ],
    )
    for conversation in conversations:
        connection.execute(
            """DELETE FROM members WHERE conversation_id = ?
               AND account_id NOT IN (SELECT value FROM json_each(?))""",
            (conversation.id, json.dumps([member.account_id for member in conversation.members])),
        )
    _move(
        connection,
        [
            (c.id, m.account_id, int(m.role), m.delivered_up_to, m.read_up_to, m.first_message_id)
            for c in conversations
            for m in c.members
        ],
        revision,
    )
    _remove(connection, removed, bounds, revision)


def _remove(
    connection: apsw.Connection, removed: Iterable[tuple[int, int]], bounds: Mapping[int, int], revision: int
) -> None:
    """Delete what was removed beyond the bounds that were known. A draft that is newer than its removal stays."""
    for conversation_id, up_to in removed:
        if up_to <= bounds.get(conversation_id, 0):
            continue
        connection.execute(
            "UPDATE conversations SET removed_up_to = max(removed_up_to, ?), revision = ? WHERE id = ?",
            (up_to, revision, conversation_id),
        )
        removals.delete_copies(connection, conversation_id, up_to)
        if conversation_id in bounds:
            removals.delete_drafts(connection, names_of(connection, Target(conversation_id=conversation_id)).targets())


def _flags(one: Conversation) -> tuple[int, int, int, int]:
    return int(one.public), int(one.archived), int(one.open_history), int(one.muted)


def peer_of(conversation: Conversation, own: int) -> int:
    """Return the other account of a direct conversation, the own one in a conversation with oneself, otherwise 0."""
    if conversation.kind is not ConversationKind.DIRECT:
        return 0
    others = [member.account_id for member in conversation.members if member.account_id != own]
    return others[0] if others else own


def set_receipts(
    connection: apsw.Connection, receipts: Sequence[Receipt], counts: Sequence[tuple[int, ReceiptCounts]] = ()
) -> None:
    """Store marks of members, which only move forward, and the counts of large channels."""
    revision = next_revision(connection)
    _move(
        connection,
        [(r.conversation_id, r.account_id, 0, r.delivered_up_to, r.read_up_to, 0) for r in receipts],
        revision,
    )
    connection.executemany(
        "UPDATE conversations SET counts = ?, revision = ? WHERE id = ?",
        [(json.dumps(astuple(counted)), revision, channel_id) for channel_id, counted in counts],
    )


def _move(connection: apsw.Connection, marks: Sequence[tuple[int, int, int, int, int, int]], revision: int) -> None:
    connection.executemany(
        """INSERT INTO members
           (conversation_id, account_id, role, delivered_up_to, read_up_to, first_message_id, revision)
           VALUES (?, ?, ?, ?, ?, ?, ?)
           ON CONFLICT (conversation_id, account_id) DO UPDATE SET
             first_message_id = CASE WHEN excluded.role > 0 THEN excluded.first_message_id ELSE first_message_id END,
             role = CASE WHEN excluded.role > 0 THEN excluded.role ELSE role END,
             delivered_up_to = max(delivered_up_to, excluded.delivered_up_to),
             read_up_to = max(read_up_to, excluded.read_up_to), revision = excluded.revision""",
        [(*mark, revision) for mark in marks],
    )


def accounts(connection: apsw.Connection, since_revision: int = 0) -> list[Account]:
    """Return the known accounts that changed after a revision."""
    rows = fetch(
        connection, "id, name, display_name, deleted", "FROM accounts WHERE revision > ? ORDER BY id", (since_revision,)
    )
    kinds = (int, str, str, int)
    return [
        Account(id_, name, display_name, bool(deleted))
        for id_, name, display_name, deleted in (check_row(row, kinds) for row in rows)
    ]


def conversations(connection: apsw.Connection, since_revision: int = 0) -> list[Conversation]:
    """Return the known conversations, with their members, that changed after a revision."""
    return _conversations(connection, "WHERE revision > ? ORDER BY id", (since_revision,))


def conversations_by_id(connection: apsw.Connection, ids: Sequence[int]) -> list[Conversation]:
    """Return those of the given conversations that are known here, with their members."""
    return _conversations(connection, "WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(list(ids)),))


def _conversations(connection: apsw.Connection, rest: str, bindings: tuple[Any, ...]) -> list[Conversation]:
    members = """json((SELECT json_group_array(json_array(
                  account_id, role, delivered_up_to, read_up_to, first_message_id)) FROM
                  (SELECT * FROM members WHERE conversation_id = conversations.id ORDER BY account_id)))"""
    known = "id, kind, title, member_count, topic, public, archived, open_history, muted, put_away_up_to, removed_up_to"
    rows = fetch(connection, f"{known}, counts, {members}", f"FROM conversations {rest}", bindings)
    kinds = (int, int, str, int, str, int, int, int, int, int, int, str, list)
    return [
        Conversation(
            id_,
            ConversationKind(kind),
            title,
            tuple(
                Member(account, MemberRole(role), delivered, read, first)
                for account, role, delivered, read, first in (check_row(member, (int,) * 5) for member in found)
            ),
            member_count,
            topic=topic,
            public=bool(public),
            archived=bool(archived),
            open_history=bool(open_history),
            counts=_counts(counts),
            muted=bool(muted),
            put_away_up_to=put_away,
            removed_up_to=removed,
        )
        for id_, kind, title, member_count, topic, public, archived, open_history, muted, *bounds, counts, found in (
            check_row(row, kinds) for row in rows
        )
        for put_away, removed in (bounds,)
    ]


def _counts(text: str) -> ReceiptCounts | None:
    """Return stored counts. Raises ValueError for a text that is none."""
    return ReceiptCounts(*check_row(json.loads(text), (int,) * 7)) if text else None


def receipts(connection: apsw.Connection, since_revision: int) -> list[Receipt]:
    """Return the marks of other members that changed after a revision."""
    rows = fetch(
        connection,
        "conversation_id, account_id, delivered_up_to, read_up_to",
        "FROM members WHERE revision > ? AND account_id <> ? ORDER BY revision",
        (since_revision, own_id(connection)),
    )
    return [Receipt(*check_row(row, (int, int, int, int))) for row in rows]


def prune(connection: apsw.Connection) -> None:
    """Remove the oldest entries beyond KEEP_ACCOUNTS and KEEP_CONVERSATIONS. The cluster reports them again."""
    for table, keep in (("accounts", KEEP_ACCOUNTS), ("conversations", KEEP_CONVERSATIONS)):
        connection.execute(
            f"""DELETE FROM {table} WHERE id <> ? AND revision <
                (SELECT revision FROM {table} ORDER BY revision DESC LIMIT 1 OFFSET ?)""",  # noqa: S608 - names above
            (own_id(connection), keep),
        )
    connection.execute("DELETE FROM members WHERE conversation_id NOT IN (SELECT id FROM conversations)")
