"""The rows of conversations, and the queue of what a device has not received.

A message is one row for any number of members. What adds messages is in `sends`.
"""

from __future__ import annotations

import heapq
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from parley_proto.v1 import model_pb2
from parleyd.machine.feature import Feature
from parleyd.machine.features.memberships import CHANNELS_LEVEL, of_account, readable
from parleyd.machine.limits import MAX_ID
from parleyd.machine.records import CommittedEntry

if TYPE_CHECKING:
    from parleyd.machine.features.conversations import ConversationRow
    from parleyd.machine.reader import StateReader
    from parleyd.machine.state import State

TEXT = model_pb2.MESSAGE_KIND_TEXT
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

ENTRIES_LEVEL = 3
"""The first level at which a row has the log entry that stored it. Rows of levels before have 0."""
ENTRY_COLUMNS = """
ALTER TABLE messages ADD COLUMN entry_term INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN entry_index INTEGER NOT NULL DEFAULT 0;
"""


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


class MessageStored(NamedTuple):
    """A new row in a conversation. `pair` has the members of a direct one and is empty for a channel."""

    message: MessageRecord
    pair: tuple[int, ...]


class Messages:
    """The rows that a transaction adds. `entry` is the log entry that is applied."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.entry = CommittedEntry(0, 0)
        self._new: list[tuple[int, int, int, int, bytes, int, int, str, bytes, int, int]] = []

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
    ) -> int:
        """Store a row at the end of its conversation and give it the next id."""
        state = self._state
        meta = state.meta
        message_id = meta.last_message_id = meta.last_message_id + 1
        now_ms = meta.now_ms
        packed = struct.pack(f"<{len(subjects)}q", *subjects) if subjects else b""
        place = (self.entry.term, self.entry.index) if state.level >= ENTRIES_LEVEL else (0, 0)
        self._new.append(
            (conversation.id, message_id, kind, sender_id, device_id, send_number, now_ms, body, packed, *place)
        )
        state.conversations.advance(conversation, message_id)
        pair = conversation.pair
        state.receipts.message_added(conversation.id, pair)
        record = MessageRecord(
            conversation.id, message_id, kind, sender_id, body, now_ms, device_id, send_number, tuple(subjects)
        )
        state.effects.append(MessageStored(record, pair))
        return message_id

    def add_event(
        self, conversation: ConversationRow, kind: int, sender_id: int, body: str, subjects: Sequence[int]
    ) -> None:
        """Store an event of a conversation as a row of its sequence."""
        self.add(conversation, kind, sender_id, body, subjects=subjects)

    def flush(self) -> None:
        """Write the new rows."""
        if self._new:
            columns = "conversation_id, id, kind, sender_id, device, send_number, sent_at_ms, body, subjects, priority"
            if self._state.meta.level >= ENTRIES_LEVEL:
                insert = f"INSERT INTO messages({columns}, entry_term, entry_index) "
                self._state.connection.executemany(f"{insert}VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?)", self._new)
            else:
                insert = f"INSERT INTO messages({columns}) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, 0)"
                self._state.connection.executemany(insert, [row[:-2] for row in self._new])
            self._new = []

    def forget_all(self) -> None:
        """Read everything from the file again."""
        self._new.clear()

    def trim(self) -> None:
        """Keep nothing between transactions."""


FEATURE = Feature("messages", tables={1: TABLES, ENTRIES_LEVEL: ENTRY_COLUMNS})


# ---- queries

Row = tuple[Any, ...]  # values from SQLite; every column's type is fixed by its STRICT table

_SELECT = (
    "SELECT conversation_id, id, kind, sender_id, body, sent_at_ms, device, send_number, subjects FROM messages "
    "WHERE conversation_id = ?"
)


@dataclass(frozen=True, slots=True)
class QueuedPage:
    """Queued messages in order. Up to `up_to` there are no others for the device, apart from its own sends."""

    messages: tuple[MessageRecord, ...]
    up_to: int
    more: bool


def history(
    reader: StateReader,
    account_id: int,
    conversation_id: int,
    before_id: int,
    limit: int,
    max_bytes: int = PAGE_BYTES,
) -> tuple[MessageRecord, ...]:
    """Return the newest messages below `before_id` (0: the newest), oldest first, at most `max_bytes` of them.

    Only those that the account may read; none for an account that was never in the conversation.
    """
    found: list[Row] = []
    left = max_bytes
    with reader.consistent():
        for interval in readable(reader, conversation_id, account_id):
            query = f"{_SELECT} AND id < ? AND id >= ? ORDER BY id DESC LIMIT ?"
            end = min(before_id or MAX_ID, interval.last + 1, MAX_ID)
            bindings = (conversation_id, end, interval.first, limit - len(found))
            rows = reader.rows_within(query, bindings, left, _row_bytes)
            left -= sum(map(_row_bytes, rows))
            found += rows if left >= 0 or not found else ()
            if left <= 0 or len(found) >= limit:
                break
    return tuple(_record(row) for row in reversed(found))


def has_older(reader: StateReader, account_id: int, conversation_id: int, message_id: int) -> bool:
    """Return whether the account may read a row before this one."""
    query = "SELECT 1 FROM messages WHERE conversation_id = ? AND id < ? AND id >= ? LIMIT 1"
    return any(
        reader.rows(query, (conversation_id, min(message_id, interval.last + 1, MAX_ID), interval.first))
        for interval in readable(reader, conversation_id, account_id)
    )


def by_id(reader: StateReader, conversation_id: int, message_id: int) -> MessageRecord | None:
    """Return one row of a conversation."""
    rows = reader.rows(f"{_SELECT} AND id = ?", (min(conversation_id, MAX_ID), min(message_id, MAX_ID)))
    return _record(rows[0]) if rows else None


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
            query = f"{_SELECT} AND id >= ? AND id <= ? ORDER BY id LIMIT ?"
            bindings = (conversation_id, message_id, last_id, _RUN_LENGTH)
            run = deque(reader.rows_within(query, bindings, _RUN_BYTES, _row_bytes))
            runs[(conversation_id, last_id)] = run
        row = run.popleft()
        following = run[0][1] if run else _id_after(reader, conversation_id, message_id, last_id)
        if following is None:
            heapq.heappop(heap)
            del runs[(conversation_id, last_id)]
        else:
            heapq.heapreplace(heap, (following, conversation_id, last_id))
        yield _record(row)


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


def _row_bytes(row: Row) -> int:
    return _encoded_bytes(row[4], len(row[8]) // 8)


def _encoded_bytes(body: str, subjects: int) -> int:
    size = len(body) if body.isascii() else len(body.encode())
    return MESSAGE_OVERHEAD_BYTES + size + _SUBJECT_BYTES * subjects


def _record(row: Row) -> MessageRecord:
    conversation_id, message_id, kind, sender_id, body, sent_at_ms, device_id, send_number, subjects = row
    named = struct.unpack(f"<{len(subjects) // 8}q", subjects) if subjects else ()
    return MessageRecord(conversation_id, message_id, kind, sender_id, body, sent_at_ms, device_id, send_number, named)
