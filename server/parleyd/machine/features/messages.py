"""The rows of conversations, and the queue of what a device has not received.

A message is one row for any number of members. What adds messages is in `sends`, how they are read back in `history`.

From COUNTED_LEVEL on each row says how many texts of its conversation, and of its sender in it, there are up to it. So
the unread messages of a member are a difference of rows (unread.py), and no message costs anything per member.
Retention removes the oldest rows of a conversation only, so the difference is right for what is left. The rows of
channels have an index by sender. In a direct conversation the texts that are not its sender's are the other's.
"""

from __future__ import annotations

import heapq
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, cast

from parley_proto.v1 import model_pb2
from parleyd.machine.feature import Feature
from parleyd.machine.features.memberships import CHANNELS_LEVEL, of_account
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
_RUN_LENGTH = 64
_RUN_BYTES = 64 << 10
SCANNED = 2_048
"""Rows that one page passes over at most. A device that asks for few messages gets past its own sends as fast."""

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
_NewRow: TypeAlias = tuple[int, int, int, int, bytes, int, int, str, bytes, int, int, int, int | None]


class Messages:
    """The rows that a transaction adds, and the counts of the last rows. `entry` is the log entry that is applied.

    A count is that of the last row in the file, whether it is cached or not.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self.entry = CommittedEntry(0, 0)
        self._new: list[_NewRow] = []
        self._ordinals: dict[tuple[int, int], int] = {}  # by conversation and sender, ALL for all of them
        self.caches = (self._ordinals,)

    def add(
        self,
        conversation: ConversationRow,
        kind: int,
        sender_id: int,
        body: str,
        *,
        device_id: bytes = b"",
        send_number: int = 0,
        subjects: Sequence[int] = (),
        priority: int = NORMAL,
    ) -> int:
        """Store a row at the end of its conversation and give it the next id."""
        state = self._state
        meta = state.meta
        message_id = meta.last_message_id = meta.last_message_id + 1
        now_ms = meta.now_ms
        packed = struct.pack(f"<{len(subjects)}q", *subjects) if subjects else b""
        place = (self.entry.term, self.entry.index) if state.level >= ENTRIES_LEVEL else (0, 0)
        content = (device_id, send_number, now_ms, body, packed, priority)
        channel_sender_id = None if conversation.pair else sender_id
        self._new.append((conversation.id, message_id, kind, sender_id, *content, *place, channel_sender_id))
        state.conversations.advance(conversation, message_id)
        pair = conversation.pair
        state.receipts.message_added(conversation.id, pair)
        named = tuple(subjects)
        record = MessageRecord(
            conversation.id, message_id, kind, sender_id, body, now_ms, device_id, send_number, named, priority
        )
        state.effects.append(MessageStored(record, pair, conversation.is_large))
        return message_id

    def add_event(
        self, conversation: ConversationRow, kind: int, sender_id: int, body: str, subjects: Sequence[int]
    ) -> None:
        """Store an event of a conversation as a row of its sequence."""
        self.add(conversation, kind, sender_id, body, subjects=subjects)

    def flush(self) -> None:
        """Write the new rows."""
        if not self._new:
            return
        if self._state.meta.level < COUNTED_LEVEL:
            self._state.connection.executemany(_INSERT, [row[:-3] for row in self._new])
        else:
            self._state.connection.executemany(_INSERT_COUNTED, [(*row, *self._count(row)) for row in self._new])
        self._new = []

    def _count(self, row: _NewRow) -> tuple[int, int]:
        """Return the counts of a row that follows those counted before."""
        conversation_id, kind, sender_id = row[0], row[2], row[3]
        of_all, of_sender = (conversation_id, _ALL), (conversation_id, sender_id)
        if of_all not in self._ordinals or of_sender not in self._ordinals:
            self._read_counts(conversation_id, sender_id, is_channel=row[-1] is not None)
        added = kind == TEXT
        ordinal = self._ordinals[of_all] = self._ordinals[of_all] + added
        sender_ordinal = self._ordinals[of_sender] = self._ordinals[of_sender] + added
        return ordinal, sender_ordinal

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


FEATURE = Feature("messages", tables={1: TABLES, 3: ENTRY_COLUMNS + COUNTS})


# ---- queries

Row: TypeAlias = tuple[Any, ...]  # values from SQLite; every column's type is fixed by its STRICT table

SELECT = (
    "SELECT conversation_id, id, kind, sender_id, body, sent_at_ms, device, send_number, subjects, priority "
    "FROM messages WHERE conversation_id = ?"
)


@dataclass(frozen=True, slots=True)
class QueuedPage:
    """Queued messages in order. Up to `up_to` there are no others for the device, apart from its own sends."""

    messages: tuple[MessageRecord, ...]
    up_to: int
    more: bool


def by_id(reader: StateReader, conversation_id: int, message_id: int) -> MessageRecord | None:
    """Return one row of a conversation."""
    rows = reader.rows(f"{SELECT} AND id = ?", (min(conversation_id, MAX_ID), min(message_id, MAX_ID)))
    return record(rows[0]) if rows else None


def of_device(reader: StateReader, conversation_id: int, device: bytes, from_id: int) -> list[tuple[int, int]]:
    """Return id and send number of what a device has sent into a conversation, from one message on."""
    query = "SELECT id, send_number FROM messages WHERE conversation_id = ? AND id >= ? AND device = ? ORDER BY id"
    return [(message_id, number) for message_id, number in reader.rows(query, (conversation_id, from_id, device))]


def queued_page(
    reader: StateReader,
    account_id: int,
    after_id: int,
    limit: int,
    exclude_device_id: bytes,
    max_bytes: int = PAGE_BYTES,
) -> QueuedPage:
    """Return the next messages of all the account's conversations in order of id, without the device's own sends.

    Bytes and skipped own sends are bounded too: a page may be short or empty although more messages follow.
    """
    with reader.consistent():
        newest = reader.rows("SELECT last_message_id FROM meta")[0][0]
        found: list[MessageRecord] = []
        size = 0
        up_to = after_id
        for scanned, message in enumerate(_merge(reader, account_id, min(after_id, MAX_ID)), start=1):
            if message.device_id != exclude_device_id or not exclude_device_id:
                size += encoded_bytes(message)
                if found and size > max_bytes:
                    return QueuedPage(tuple(found), up_to, more=True)
                found.append(message)
            up_to = message.id
            if len(found) >= limit or scanned >= SCANNED:
                return QueuedPage(tuple(found), up_to, more=True)
        return QueuedPage(tuple(found), max(after_id, newest), more=False)


def _merge(reader: StateReader, account_id: int, after_id: int) -> Iterator[MessageRecord]:
    """Return messages of many conversations in order of id; each is read in short runs, as far as needed."""
    heap = _heads(reader, account_id, after_id)
    heapq.heapify(heap)
    runs: dict[tuple[int, int], deque[Row]] = {}
    while heap:
        message_id, conversation_id, last_id = heap[0]
        run = runs.get((conversation_id, last_id))
        if not run:
            query = f"{SELECT} AND id >= ? AND id <= ? ORDER BY id LIMIT ?"
            bindings = (conversation_id, message_id, last_id, _RUN_LENGTH)
            run = deque(reader.rows_within(query, bindings, _RUN_BYTES, row_bytes))
            runs[(conversation_id, last_id)] = run
        row = run.popleft()
        following = run[0][1] if run else _id_after(reader, conversation_id, message_id, last_id)
        if following is None:
            heapq.heappop(heap)
            del runs[(conversation_id, last_id)]
        else:
            heapq.heapreplace(heap, (following, conversation_id, last_id))
        yield record(row)


def _heads(reader: StateReader, account_id: int, after_id: int) -> list[tuple[int, int, int]]:
    """Return the first message after an id, the conversation and the last message, of each membership that has some.

    Memberships that ended are among them: a device that was offline gets what was sent while the account was a member.
    """
    level = reader.level()
    first = "SELECT g.id FROM messages g WHERE g.conversation_id = {0} AND g.id > max(?2, {1} - 1)"
    found: list[tuple[int, int, int]] = reader.rows(
        f"SELECT ({first.format('c.id', 'm.first_message_id')} ORDER BY g.id LIMIT 1), c.id, {MAX_ID} "  # noqa: S608
        f"FROM ({of_account(level)}) m JOIN conversations c ON c.id = m.conversation_id "
        "WHERE c.last_message_id > ?2",
        (account_id, after_id),
    )
    if level >= CHANNELS_LEVEL:
        found += reader.rows(
            f"SELECT ({first.format('p.conversation_id', 'p.first_message_id')} "  # noqa: S608 - constants only
            "AND g.id <= p.last_message_id ORDER BY g.id LIMIT 1), p.conversation_id, p.last_message_id "
            "FROM past_memberships p WHERE p.account_id = ?1 AND p.last_message_id > ?2",
            (account_id, after_id),
        )
    return [head for head in found if head[0] is not None]  # None: retention removed them


def _id_after(reader: StateReader, conversation_id: int, message_id: int, last_id: int) -> int | None:
    query = "SELECT id FROM messages WHERE conversation_id = ? AND id > ? AND id <= ? ORDER BY id LIMIT 1"
    rows = reader.rows(query, (conversation_id, message_id, last_id))
    return rows[0][0] if rows else None


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
