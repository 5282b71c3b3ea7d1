"""Conversations and their members: direct ones, begun by the first message of a pair, and channels (channels.py).

One conversation is for everyone. It has its own id and begins with its first message too.

A conversation is always identified by its id. Each event in it is a row of its own sequence (messages.py), so a device
that was offline receives it by the same cursor as messages.

Who left a channel keeps what was written before, on all devices, and gets nothing newer. So a membership that has ended
stays as a row, from its first message to its last one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from parley_proto.v1 import model_pb2
from parleyd.machine.feature import Feature
from parleyd.machine.features import unread
from parleyd.machine.features.memberships import (
    CHANNELS_LEVEL,
    EVERYONE,
    EVERYONE_ID,
    EVERYONE_TITLE,
    REMOVED_UP_TO,
    ROLE_MEMBER,
    MemberRecord,
    is_member,
    members,
    of_account,
)
from parleyd.machine.limits import MAX_ID
from parleyd.machine.names import name_key
from parleyd.machine.rows import Rows

if TYPE_CHECKING:
    from parleyd.machine.reader import StateReader
    from parleyd.machine.state import State

DIRECT = model_pb2.CONVERSATION_KIND_DIRECT
CHANNEL = model_pb2.CONVERSATION_KIND_CHANNEL
ROLE_OWNER = model_pb2.MEMBER_ROLE_OWNER
SHOWN_MEMBERS = 64

TABLES = """
CREATE TABLE conversations(
    id INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    low INTEGER NOT NULL,
    high INTEGER NOT NULL,
    title TEXT NOT NULL,
    member_count INTEGER NOT NULL,
    last_message_id INTEGER NOT NULL,
    created_by INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    request_id BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX conversations_pair ON conversations(low, high) WHERE kind = 1;
CREATE INDEX conversations_request ON conversations(created_by, request_id) WHERE request_id <> x'';
CREATE TABLE members(
    conversation_id INTEGER NOT NULL,
    account_id INTEGER NOT NULL,
    role INTEGER NOT NULL,
    joined_at_ms INTEGER NOT NULL,
    first_message_id INTEGER NOT NULL,
    delivered_up_to INTEGER NOT NULL,
    read_up_to INTEGER NOT NULL,
    PRIMARY KEY(conversation_id, account_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_account ON members(account_id);
"""

LISTED_LEVEL: Final = 3
"""The first level at which an account's direct conversations are kept in the order of a list."""

_STEP_BITS = 10
# `latest` is the step of the last message of a direct conversation. A busy conversation changes it once in 1,024
# messages of the cluster. It stays 0 for channels, where each change would cost a row per member.
LATEST = f"""
ALTER TABLE members ADD COLUMN latest INTEGER NOT NULL DEFAULT 0;
UPDATE members SET latest = coalesce((
    SELECT c.last_message_id >> {_STEP_BITS} FROM conversations c WHERE c.id = conversation_id AND c.kind = 1
), 0);
DROP INDEX members_account;
CREATE INDEX members_account ON members(account_id, latest);
"""  # noqa: S608 - a constant only


@dataclass(frozen=True, slots=True)
class ConversationCreated:
    """A conversation was created, with these members."""

    conversation_id: int
    kind: int
    members: tuple[int, ...]


@dataclass(slots=True)
class ConversationRow:
    """A conversation. `low` and `high` are the two sides of a direct one, 0 for a channel.

    `pair` has the members of a direct one. It is empty for a channel, whose members are read from the table.
    """

    id: int
    kind: int
    low: int
    high: int
    last_message_id: int
    member_count: int
    pair: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Derive the pair."""
        both = (self.low,) if self.low == self.high else (self.low, self.high)
        self.pair = both if self.kind == DIRECT else ()

    @property
    def is_large(self) -> bool:
        """Return whether it has more members than are told each other's marks. Everyone belongs to that of everyone."""
        return self.member_count > SHOWN_MEMBERS or self.id == EVERYONE_ID


_SELECT = "SELECT id, kind, low, high, last_message_id, member_count FROM conversations WHERE id = ?"


class Conversations:
    """The conversations that a transaction touches, by id and direct ones by their pair."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._connection = state.connection
        self._rows: Rows[int, ConversationRow] = Rows(
            state.connection,
            select=_SELECT,
            make=ConversationRow,
            update="UPDATE conversations SET last_message_id = ? WHERE id = ?",
            values=lambda row: (row.last_message_id, row.id),
        )
        self._direct_ids: dict[tuple[int, int], int] = {}
        self._latest: dict[int, int] = {}  # steps to write
        self.caches = (self._rows.known, self._direct_ids)

    def find(self, conversation_id: int) -> ConversationRow | None:
        """Return the conversation with that id."""
        return self._rows.find(conversation_id) if 0 < conversation_id <= MAX_ID else None

    def direct(self, one: int, other: int) -> ConversationRow:
        """Return the conversation of a pair of accounts; create it if they have none."""
        pair = (one, other) if one <= other else (other, one)
        conversation_id = self._direct_ids.get(pair)
        if conversation_id is None:
            query = "SELECT id FROM conversations WHERE kind = 1 AND low = ? AND high = ?"
            conversation_id = self._connection.execute(query, pair).get
            if conversation_id is None:
                return self._begin_direct(pair)
            self._direct_ids[pair] = conversation_id
        found = self._rows.find(conversation_id)
        return found if found is not None else self._begin_direct(pair)

    def everyone(self) -> ConversationRow:
        """Return the conversation of all accounts; create it if it has no message yet. Level 3."""
        found = self._rows.find(EVERYONE_ID)
        return found if found is not None else self._create(EVERYONE_ID, EVERYONE, (0, 0), EVERYONE_TITLE, {}, 0, b"")

    def advance(self, conversation: ConversationRow, message_id: int) -> None:
        """Record that a row was added at the end of its sequence."""
        step = message_id >> _STEP_BITS
        if conversation.pair and step != conversation.last_message_id >> _STEP_BITS:
            self._latest[conversation.id] = step
        conversation.last_message_id = message_id
        self._rows.changed(conversation.id, conversation)

    def add(
        self, kind: int, pair: tuple[int, int], title: str, members: dict[int, int], created_by: int, request_id: bytes
    ) -> ConversationRow:
        """Create a conversation with these members and their roles."""
        meta = self._state.meta
        meta.last_conversation_id += 1
        return self._create(meta.last_conversation_id, kind, pair, title, members, created_by, request_id)

    def _create(
        self,
        conversation_id: int,
        kind: int,
        pair: tuple[int, int],
        title: str,
        members: dict[int, int],
        created_by: int,
        request_id: bytes,
    ) -> ConversationRow:
        now_ms = self._state.meta.now_ms
        self._connection.execute(
            "INSERT INTO conversations(id, kind, low, high, title, member_count, last_message_id, created_by, "
            "created_at_ms, request_id) VALUES(?, ?, ?, ?, ?, ?, 0, ?, ?, ?)",
            (conversation_id, kind, *pair, title, len(members), created_by, now_ms, request_id),
        )
        self._connection.executemany(
            "INSERT INTO members(conversation_id, account_id, role, joined_at_ms, first_message_id, delivered_up_to, "
            "read_up_to) VALUES(?, ?, ?, ?, 0, 0, 0)",
            [(conversation_id, account_id, role, now_ms) for account_id, role in sorted(members.items())],
        )
        row = ConversationRow(conversation_id, kind, *pair, last_message_id=0, member_count=len(members))
        self._rows.added(conversation_id, row)
        if kind == CHANNEL:
            self._state.receipts.joined(conversation_id, tuple(members))
        self._state.effects.append(ConversationCreated(conversation_id, kind, tuple(sorted(members))))
        return row

    def _begin_direct(self, pair: tuple[int, int]) -> ConversationRow:
        row = self.add(DIRECT, pair, "", dict.fromkeys(pair, ROLE_MEMBER), pair[0], b"")
        self._direct_ids[pair] = row.id
        return row

    def flush(self) -> None:
        """Write the changed rows."""
        self._rows.flush()
        if self._latest and self._state.meta.level >= LISTED_LEVEL:
            self._connection.executemany(
                "UPDATE members SET latest = ? WHERE conversation_id = ?",
                [(step, conversation_id) for conversation_id, step in self._latest.items()],
            )
        self._latest.clear()

    def forget_all(self) -> None:
        """Read everything from the file again."""
        self._rows.forget_all()
        self._direct_ids.clear()
        self._latest.clear()


FEATURE = Feature("conversations", tables={1: TABLES, LISTED_LEVEL: LATEST})


# ---- queries


@dataclass(frozen=True, slots=True)
class ConversationRecord:
    """A conversation with its first SHOWN_MEMBERS members."""

    id: int
    kind: int
    title: str
    member_count: int
    last_message_id: int
    members: tuple[MemberRecord, ...]
    topic: str = ""
    public: bool = False
    archived: bool = False
    open_history: bool = False


@dataclass(frozen=True, slots=True)
class ConversationSummary:
    """A conversation as one member sees it."""

    conversation: ConversationRecord
    unread: int
    read_up_to: int


def by_id(reader: StateReader, conversation_id: int) -> ConversationRecord | None:
    """Return the conversation with that id; the caller checks who may see it."""
    if not 0 < conversation_id <= MAX_ID:
        return None
    shown = () if conversation_id == EVERYONE_ID else members(reader, conversation_id, 0, SHOWN_MEMBERS)
    return with_members(reader, conversation_id, shown)


def with_members(
    reader: StateReader, conversation_id: int, shown: tuple[MemberRecord, ...] = ()
) -> ConversationRecord | None:
    """Return the conversation with that id and with the members to show."""
    for row in reader.rows(f"{_record_select(reader)} WHERE c.id = ?", (conversation_id,)):
        _, kind, title, count, last_message_id, topic, *flags = row
        public, archived, open_history = map(bool, flags)
        if kind == EVERYONE:
            [(count,)] = reader.rows("SELECT count(*) FROM accounts WHERE status = 1")
        return ConversationRecord(
            conversation_id, kind, title, count, last_message_id, shown, topic, public, archived, open_history
        )
    return None


def as_seen_by(reader: StateReader, conversation_id: int, account_id: int) -> ConversationRecord | None:
    """Return the conversation as far as the account may know of it; None if it was never in it.

    Who left a channel knows its title at that time, and nothing newer.
    """
    if is_member(reader, conversation_id, account_id):
        return by_id(reader, conversation_id)
    if not 0 < conversation_id <= MAX_ID or reader.level() < CHANNELS_LEVEL:
        return None
    query = (
        "SELECT title, last_message_id FROM past_memberships WHERE account_id = ? AND conversation_id = ? "
        "ORDER BY last_message_id DESC LIMIT 1"
    )
    for title, last_message_id in reader.rows(query, (account_id, conversation_id)):
        return ConversationRecord(conversation_id, CHANNEL, title, 0, last_message_id, ())
    return None


def _record_select(reader: StateReader) -> str:
    columns = "c.id, c.kind, c.title, c.member_count, c.last_message_id"
    if reader.level() < CHANNELS_LEVEL:
        return f"SELECT {columns}, '', 0, 0, 0 FROM conversations c"  # noqa: S608 - constants only
    return (
        f"SELECT {columns}, coalesce(x.topic, ''), coalesce(x.public, 0), coalesce(x.archived, 0), "  # noqa: S608
        "coalesce(x.open_history, 0) FROM conversations c LEFT JOIN channels x ON x.conversation_id = c.id"
    )


def direct_with_name(reader: StateReader, account_id: int, name: str) -> int | None:
    """Return the direct conversation with the account of that name; with a deleted one if no active one has it."""
    rows = reader.rows(
        "SELECT c.id FROM accounts a JOIN conversations c "
        "ON c.kind = 1 AND c.low = min(a.id, ?1) AND c.high = max(a.id, ?1) "
        "WHERE a.name_key = ?2 AND (a.status = 1 OR (a.status = 2 "
        "AND NOT EXISTS (SELECT 1 FROM accounts WHERE name_key = ?2 AND status = 1))) "
        "ORDER BY a.id DESC LIMIT 1",
        (account_id, name_key(name)),
    )
    return rows[0][0] if rows else None


def direct_with(reader: StateReader, account_id: int, other_id: int) -> int | None:
    """Return the direct conversation with the account of that id."""
    if not 0 < other_id <= MAX_ID:
        return None
    query = "SELECT id FROM conversations WHERE kind = 1 AND low = ? AND high = ?"
    rows = reader.rows(query, (min(account_id, other_id), max(account_id, other_id)))
    return rows[0][0] if rows else None


def _latest_of(memberships: str) -> str:
    """Return SQL for the latest of these memberships of account ?1, below message ?2, ?3 at most."""
    return (
        f"SELECT c.id, c.last_message_id, m.read_up_to FROM ({memberships}) m "  # noqa: S608 - constants
        "JOIN conversations c ON c.id = m.conversation_id "
        "WHERE c.last_message_id >= m.first_message_id AND c.last_message_id < ?2 ORDER BY 2 DESC LIMIT ?3"
    )


# Direct conversations are read in the order of their steps, as far as the page needs. An account has few others: its
# channels, and the conversations of the first step.
_LATEST_LISTED = (
    "SELECT * FROM (SELECT c.id, c.last_message_id, m.read_up_to FROM members m "  # noqa: S608 - constants
    "JOIN conversations c ON c.id = m.conversation_id WHERE m.account_id = ?1 AND m.latest > 0 "
    f"AND m.latest <= ?2 >> {_STEP_BITS} AND c.last_message_id < ?2 "
    f"AND c.last_message_id > {REMOVED_UP_TO.format('c.id')} ORDER BY m.latest DESC, 2 DESC LIMIT ?3) "
    f"UNION ALL SELECT * FROM ({_latest_of(of_account(LISTED_LEVEL, 'AND latest = 0'))}) ORDER BY 2 DESC LIMIT ?3"
)


def latest(
    reader: StateReader, account_id: int, before_message_id: int, limit: int
) -> tuple[tuple[int, int, int], ...]:
    """Return id, last message and read mark of the account's conversations, the latest first.

    `before_message_id` 0 means from the latest on. That of everyone is among them once it has what the account reads.
    What the account has removed is among them once it has something newer.
    """
    level = reader.level()
    query = _LATEST_LISTED if level >= LISTED_LEVEL else _latest_of(of_account(level))
    rows = reader.rows(query, (account_id, min(before_message_id or MAX_ID, MAX_ID), limit))
    return tuple((conversation_id, last, read_up_to) for conversation_id, last, read_up_to in rows)


def page(reader: StateReader, account_id: int, before_message_id: int, limit: int) -> Iterator[ConversationSummary]:
    """Return the account's conversations, the latest first; `before_message_id` 0 means from the latest on.

    Each is read when it is asked for, so a caller that takes fewer pays for fewer. All of them belong to one state if
    the caller is inside `reader.consistent`.
    """
    for conversation_id, _, read_up_to in latest(reader, account_id, before_message_id, limit):
        conversation = by_id(reader, conversation_id)
        if conversation is not None:
            yield ConversationSummary(
                conversation, unread.count(reader, conversation_id, account_id, read_up_to), read_up_to
            )
