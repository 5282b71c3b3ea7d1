"""The rows of conversations.

A message is one row for any number of members. What adds messages is in `sends`, what reads them for a device that has
not received them in `waiting`, how they are read back in `history`.

From COUNTED_LEVEL on each row says how many texts of its conversation, and of its sender in it, there are up to it. So
the unread messages of a member are a difference of rows (unread.py), and no message costs anything per member.
Retention removes the oldest rows of a conversation only, so the difference is right for what is left. The rows of
channels have an index by sender. In a direct conversation the texts that are not its sender's are the other's.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, cast

from parley_proto.v1 import model_pb2
from parleyd.machine.feature import Feature
from parleyd.machine.limits import MAX_ID
from parleyd.machine.records import CommittedEntry

if TYPE_CHECKING:
    from parleyd.machine.features.conversations import ConversationRow
    from parleyd.machine.reader import StateReader
    from parleyd.machine.state import State

TEXT = model_pb2.MESSAGE_KIND_TEXT
NORMAL = model_pb2.MESSAGE_PRIORITY_NORMAL
# Bound of one page, in bytes of its encoded messages; a page has at least one message. The largest body is 1 MiB.
PAGE_BYTES = 1 << 20
# What a message takes in a frame besides its body and its subjects: ids, times, the device, tags and lengths.
MESSAGE_OVERHEAD_BYTES = 96
_SUBJECT_BYTES = 10

TABLES = """
CREATE TABLE messages(
    conversation_id INTEGER NOT NULL,
    id INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    sender_id INTEGER NOT NULL,
    device BLOB NOT NULL,
    send_number INTEGER NOT NULL,
    sent_at_ms INTEGER NOT NULL,
    body TEXT NOT NULL,
    subjects BLOB NOT NULL,
    PRIMARY KEY(conversation_id, id)
) STRICT, WITHOUT ROWID;
"""

ENTRIES_LEVEL: Final = 3
"""The first level at which a row has the log entry that stored it. Rows of levels before have 0."""
ENTRY_COLUMNS = """
ALTER TABLE messages ADD COLUMN entry_term INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN entry_index INTEGER NOT NULL DEFAULT 0;
"""

COUNTED_LEVEL: Final = 3
"""The first level whose rows count the texts up to them."""

COUNTS = """
ALTER TABLE messages ADD COLUMN ordinal INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN sender_ordinal INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN channel_sender_id INTEGER;
UPDATE messages SET channel_sender_id = sender_id
    WHERE (SELECT c.kind FROM conversations c WHERE c.id = messages.conversation_id) <> 1;
CREATE INDEX messages_sender ON messages(conversation_id, channel_sender_id, id) WHERE channel_sender_id IS NOT NULL;
UPDATE messages SET ordinal = counted.ordinal, sender_ordinal = counted.sender_ordinal FROM (
    SELECT conversation_id, id,
        sum(kind = 1) OVER (PARTITION BY conversation_id ORDER BY id) AS ordinal,
        sum(kind = 1) OVER (PARTITION BY conversation_id, sender_id ORDER BY id) AS sender_ordinal
    FROM messages
) AS counted WHERE counted.conversation_id = messages.conversation_id AND counted.id = messages.id;
"""
_INSERT = (
    "INSERT INTO messages(conversation_id, id, kind, sender_id, device, send_number, sent_at_ms, body, subjects, "
    "priority) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_COUNTED = (
    "INSERT INTO messages(conversation_id, id, kind, sender_id, device, send_number, sent_at_ms, body, subjects, "
    "priority, entry_term, entry_index, channel_sender_id, ordinal, sender_ordinal) "
    "VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_LAST = "SELECT ordinal, sender_ordinal, sender_id FROM messages WHERE conversation_id = ? ORDER BY id DESC LIMIT 1"
_LAST_OF_SENDER = (
    "SELECT sender_ordinal FROM messages INDEXED BY messages_sender WHERE conversation_id = ? "
    "AND channel_sender_id = ? ORDER BY id DESC LIMIT 1"
)


class MessageRecord(NamedTuple):
    """One row of a conversation's sequence. `device_id` is the sending device's external id, empty for an event."""

    conversation_id: int
    id: int
    kind: int
    sender_id: int
    body: str
    sent_at_ms: int
    device_id: bytes
    send_number: int
    subjects: tuple[int, ...] = ()
    priority: int = NORMAL


class MessageStored(NamedTuple):
    """A new row in a conversation. `pair` has the members of a direct one and is empty for a channel.

    A channel `is_large` if its members are not told each other's marks.
    """

    message: MessageRecord
    pair: tuple[int, ...]
    is_large: bool = False


_ALL = 0  # no account
_NO_ENTRY = CommittedEntry(0, 0)
_NewRow: TypeAlias = tuple[int, int, int, int, bytes, int, int, str, bytes, int, int, int, int | None, int, int]
_UNCOUNTED_COLUMNS = 10


class Messages:
    """The rows that a transaction adds, and the counts of the last rows. `entry` is the log entry that is applied.

    A count is that of the conversation's last row, in the file or added since.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self.entry = _NO_ENTRY
        self._new: list[_NewRow] = []
        self._ordinals: dict[tuple[int, int], int] = {}  # by conversation and sender, ALL for all of them
        self.caches = (self._ordinals,)

    def appender(self, conversation: ConversationRow, sender_id: int, device_id: bytes = b"") -> Appender:
        """Begin to add rows of one sender to a conversation; there is one such appender at a time."""
        state = self._state
        counts = (0, 0)
        if state.meta.level >= COUNTED_LEVEL:
            counts = self._counts(conversation, sender_id)
        return Appender(state, self._new, conversation, sender_id, device_id, counts)

    def add_event(
        self, conversation: ConversationRow, kind: int, sender_id: int, body: str, subjects: Sequence[int]
    ) -> int:
        """Store an event of a conversation as a row of its sequence; return its id."""
        appender = self.appender(conversation, sender_id)
        message_id = appender.add(kind, body, subjects=subjects)
        appender.finish()
        return message_id

    def counted(self, conversation_id: int, sender_id: int, ordinal: int, sender_ordinal: int) -> None:
        """Keep the counts of the row that a sender added last."""
        if self._state.meta.level >= COUNTED_LEVEL:
            self._ordinals[conversation_id, _ALL] = ordinal
            self._ordinals[conversation_id, sender_id] = sender_ordinal

    def flush(self) -> None:
        """Write the new rows."""
        if not self._new:
            return
        if self._state.meta.level < COUNTED_LEVEL:
            self._state.connection.executemany(_INSERT, [row[:_UNCOUNTED_COLUMNS] for row in self._new])
        else:
            self._state.connection.executemany(_INSERT_COUNTED, self._new)
        self._new.clear()

    def _counts(self, conversation: ConversationRow, sender_id: int) -> tuple[int, int]:
        """Return the texts of the conversation, and those of the sender in it."""
        of_all, of_sender = (conversation.id, _ALL), (conversation.id, sender_id)
        if of_all not in self._ordinals or of_sender not in self._ordinals:
            self._read_counts(conversation.id, sender_id, is_channel=not conversation.pair)
        return self._ordinals[of_all], self._ordinals[of_sender]

    def _read_counts(self, conversation_id: int, sender_id: int, *, is_channel: bool) -> None:
        """Read the counts that the file has; a row that is not written yet has its own in the cache."""
        connection = self._state.connection
        last = connection.execute(_LAST, (conversation_id,)).fetchone()
        ordinal, sender_ordinal, last_sender_id = cast("tuple[int, int, int]", last or (0, 0, sender_id))
        self._ordinals.setdefault((conversation_id, _ALL), ordinal)
        if is_channel:
            sender_ordinal = cast(int, connection.execute(_LAST_OF_SENDER, (conversation_id, sender_id)).get or 0)
        elif last_sender_id != sender_id:
            sender_ordinal = ordinal - sender_ordinal
        self._ordinals.setdefault((conversation_id, sender_id), sender_ordinal)

    def removed(self) -> None:
        """Read the counts again: SQL removed rows, and everything before was flushed."""
        self._ordinals.clear()

    def forget_all(self) -> None:
        """Read everything from the file again."""
        self._new.clear()
        self._ordinals.clear()


class Appender:
    """Adds rows of one sender at the end of a conversation, within one command.

    What the rows share is looked up once. The conversation does not know them until `finish`.
    """

    def __init__(
        self,
        state: State,
        rows: list[_NewRow],
        conversation: ConversationRow,
        sender_id: int,
        device_id: bytes,
        counts: tuple[int, int],
    ) -> None:
        self._state = state
        self._meta = state.meta
        self._rows = rows
        self._effects = state.effects
        self._conversation = conversation
        self.conversation_id = conversation.id
        self._sender_id = sender_id
        self._device_id = device_id
        self._is_large = conversation.is_large
        entry = state.messages.entry if state.level >= ENTRIES_LEVEL else _NO_ENTRY
        self._place = (entry.term, entry.index, None if conversation.pair else sender_id)
        self._ordinal, self._sender_ordinal = counts
        self._last_id = conversation.last_message_id

    def add(
        self, kind: int, body: str, *, send_number: int = 0, subjects: Sequence[int] = (), priority: int = NORMAL
    ) -> int:
        """Add a row; return its id."""
        conversation, sender_id, device_id, meta = self._conversation, self._sender_id, self._device_id, self._meta
        message_id = self._last_id = meta.last_message_id = meta.last_message_id + 1
        now_ms = meta.now_ms
        if kind == TEXT:
            self._ordinal += 1
            self._sender_ordinal += 1
        packed = struct.pack(f"<{len(subjects)}q", *subjects) if subjects else b""
        keys = (
            self.conversation_id,
            message_id,
            kind,
            sender_id,
            device_id,
            send_number,
            now_ms,
            body,
            packed,
            priority,
        )
        self._rows.append((*keys, *self._place, self._ordinal, self._sender_ordinal))
        record = MessageRecord(
            conversation.id,
            message_id,
            kind,
            sender_id,
            body,
            now_ms,
            device_id,
            send_number,
            tuple(subjects),
            priority,
        )
        self._effects.append(MessageStored(record, conversation.pair, self._is_large))
        return message_id

    def finish(self) -> None:
        """Tell the conversation and its sides."""
        state, conversation = self._state, self._conversation
        state.messages.counted(conversation.id, self._sender_id, self._ordinal, self._sender_ordinal)
        state.conversations.advance(conversation, self._last_id)
        state.receipts.message_added(conversation.id, conversation.pair)


FEATURE = Feature("messages", tables={1: TABLES, 3: ENTRY_COLUMNS + COUNTS})


# ---- queries

Row: TypeAlias = tuple[Any, ...]  # values from SQLite; every column's type is fixed by its STRICT table

SELECT = (
    "SELECT conversation_id, id, kind, sender_id, body, sent_at_ms, device, send_number, subjects, priority "
    "FROM messages WHERE conversation_id = ?"
)


def by_id(reader: StateReader, conversation_id: int, message_id: int) -> MessageRecord | None:
    """Return one row of a conversation."""
    rows = reader.rows(f"{SELECT} AND id = ?", (min(conversation_id, MAX_ID), min(message_id, MAX_ID)))
    return record(rows[0]) if rows else None


def of_device(reader: StateReader, conversation_id: int, device: bytes, from_id: int) -> list[tuple[int, int]]:
    """Return id and send number of what a device has sent into a conversation, from one message on."""
    query = "SELECT id, send_number FROM messages WHERE conversation_id = ? AND id >= ? AND device = ? ORDER BY id"
    return [(message_id, number) for message_id, number in reader.rows(query, (conversation_id, from_id, device))]


def encoded_bytes(message: MessageRecord) -> int:
    """Return an upper bound of the bytes that the message takes in a frame or in an answer."""
    return _encoded_bytes(message.body, len(message.subjects))


def row_bytes(row: Row) -> int:
    """Return an upper bound of the bytes that the message of a row takes."""
    return _encoded_bytes(row[4], len(row[8]) // 8)


def _encoded_bytes(body: str, subjects: int) -> int:
    size = len(body) if body.isascii() else len(body.encode())
    return MESSAGE_OVERHEAD_BYTES + size + _SUBJECT_BYTES * subjects


def record(row: Row) -> MessageRecord:
    """Return the message of a row of SELECT."""
    *columns, packed, priority = row
    subjects = struct.unpack(f"<{len(packed) // 8}q", packed) if packed else ()
    return MessageRecord._make((*columns, subjects, priority))
