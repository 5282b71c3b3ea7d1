"""Who has received and read one message, from the marks of its conversation's members. Queries only.

A receipt of a message counts who is a member now and has been one, without a break, since before the message. Who
joined later was not sent it, and who left is told about nobody and nobody is told about it. No row is kept for a
message: the marks of the members tell it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from parleyd.machine.features.memberships import EVERYONE_ID
from parleyd.machine.features.messages import ENTRIES_LEVEL
from parleyd.machine.limits import MAX_ID

if TYPE_CHECKING:
    from parleyd.machine.reader import StateReader

_MEMBERS = (
    "SELECT m.account_id AS id, m.delivered_up_to >= ?3 AS delivered, m.read_up_to >= ?3 AS read FROM members m "
    "WHERE m.conversation_id = ?1 AND m.account_id <> ?2 AND m.first_message_id <= ?3"
)
# An account without a row has received nothing since its registration.
_ALL_ACCOUNTS = (
    "SELECT a.id AS id, coalesce(m.delivered_up_to, 0) >= ?3 AS delivered, coalesce(m.read_up_to, 0) >= ?3 AS read "
    "FROM accounts a LEFT JOIN members m ON m.conversation_id = ?1 AND m.account_id = a.id "
    "WHERE a.status = 1 AND a.id <> ?2 AND a.first_message_id <= ?3"
)


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """Whose message it is, and the log entry that stored it: 0 and 0 if a level before ENTRIES_LEVEL did."""

    conversation_id: int
    id: int
    sender_id: int
    entry_term: int
    entry_index: int


@dataclass(frozen=True, slots=True)
class MemberReceipt:
    """Whether one member has received and read a message."""

    account_id: int
    delivered: bool
    read: bool


@dataclass(frozen=True, slots=True)
class ReceiptCounts:
    """How many members a message was sent to, besides its sender, and how many of them have received and read it."""

    others: int
    delivered: int
    read: int


def find(reader: StateReader, conversation_id: int, message_id: int) -> StoredMessage | None:
    """Return a message; the caller checks who may see it."""
    if not (0 < conversation_id <= MAX_ID and 0 < message_id <= MAX_ID):
        return None
    entry = "entry_term, entry_index" if reader.level() >= ENTRIES_LEVEL else "0, 0"
    query = f"SELECT conversation_id, id, sender_id, {entry} FROM messages WHERE conversation_id = ? AND id = ?"  # noqa: S608 - constants only
    rows = reader.rows(query, (conversation_id, message_id))
    return StoredMessage(*rows[0]) if rows else None


def counts(reader: StateReader, message: StoredMessage) -> ReceiptCounts:
    """Count the members that the message was sent to. Reads all of them."""
    query = f"SELECT count(*), coalesce(sum(delivered), 0), coalesce(sum(read), 0) FROM ({_others(message)})"  # noqa: S608 - the same
    [row] = reader.rows(query, (message.conversation_id, message.sender_id, message.id))
    return ReceiptCounts(*row)


def by_member(
    reader: StateReader, message: StoredMessage, after_account_id: int, limit: int
) -> tuple[MemberReceipt, ...]:
    """Return the members that the message was sent to, by account id."""
    query = f"SELECT id, delivered, read FROM ({_others(message)}) WHERE id > ?4 ORDER BY id LIMIT ?5"  # noqa: S608 - the same
    after = min(after_account_id, MAX_ID)
    rows = reader.rows(query, (message.conversation_id, message.sender_id, message.id, after, limit))
    return tuple(MemberReceipt(account_id, bool(delivered), bool(read)) for account_id, delivered, read in rows)


def _others(message: StoredMessage) -> str:
    return _ALL_ACCOUNTS if message.conversation_id == EVERYONE_ID else _MEMBERS
