"""What an account may read: the memberships of conversations, those that ended, and that of everyone. Queries only.

Every account belongs to the conversation of everyone, and reads it from its registration on. So no command writes a row
for each of them: an account has one only once a mark of it has moved (receipts.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from parley_proto.v1 import model_pb2
from parleyd.machine.limits import MAX_ID

if TYPE_CHECKING:
    from parleyd.machine.features.conversations import ConversationRow
    from parleyd.machine.reader import StateReader
    from parleyd.machine.state import State

CHANNELS_LEVEL: Final = 3
"""The first level at which channels change, and so have more than a title, and at which one conversation is for all."""
ROLE_MEMBER = model_pb2.MEMBER_ROLE_MEMBER
EVERYONE = model_pb2.CONVERSATION_KIND_EVERYONE
EVERYONE_ID: Final = 1 << 40
"""The id of the conversation of everyone, in every cluster. The other ids begin at 1 and do not reach it."""
EVERYONE_TITLE: Final = "everyone"

REMOVED_UP_TO: Final = (
    "coalesce((SELECT r.up_to FROM removed_conversations r WHERE r.account_id = ?1 AND r.conversation_id = {}), 0)"
)
"""SQL for the message up to which account ?1 has removed a conversation, 0 for none (removals.py). Level 3."""
_REGISTERED_BEFORE = "SELECT first_message_id FROM accounts WHERE id = ?"
_ALL_ACCOUNTS = (
    "SELECT a.id, coalesce(m.delivered_up_to, a.first_message_id - 1), coalesce(m.read_up_to, a.first_message_id - 1), "  # noqa: S608
    "a.first_message_id "
    f"FROM accounts a LEFT JOIN members m ON m.conversation_id = {EVERYONE_ID} AND m.account_id = a.id "
    "WHERE a.status = 1 AND a.id > ? ORDER BY a.id LIMIT ?"
)
_MEMBERS = (
    "SELECT account_id, role, delivered_up_to, read_up_to, first_message_id FROM members WHERE conversation_id = ?"
)


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """A member of a conversation, and its marks. It was sent the messages from `first_message_id` on."""

    account_id: int
    role: int
    delivered_up_to: int
    read_up_to: int
    first_message_id: int = 0


def is_member(reader: StateReader, conversation_id: int, account_id: int) -> bool:
    """Return whether the account may read the conversation."""
    if conversation_id == EVERYONE_ID and reader.level() >= CHANNELS_LEVEL:
        return bool(reader.rows(_REGISTERED_BEFORE, (account_id,)))
    query = "SELECT 1 FROM members WHERE conversation_id = ? AND account_id = ?"
    return 0 < conversation_id <= MAX_ID and bool(reader.rows(query, (conversation_id, account_id)))


def role_of(reader: StateReader, conversation_id: int, account_id: int) -> int:
    """Return the role of an account in a channel; 0 for one that is no member."""
    query = "SELECT role FROM members WHERE conversation_id = ? AND account_id = ?"
    return sum(role for (role,) in reader.rows(query, (min(conversation_id, MAX_ID), account_id)))


def was_member(state: State, account_id: int, conversation_id: int) -> bool:
    """Return whether the account is in a conversation, or was: who left a channel reads what it had."""
    if conversation_id == EVERYONE_ID:
        return True
    query = (
        "SELECT 1 FROM members WHERE account_id = ?1 AND conversation_id = ?2 "
        "UNION ALL SELECT 1 FROM past_memberships WHERE account_id = ?1 AND conversation_id = ?2 LIMIT 1"
    )
    return 0 < conversation_id <= MAX_ID and bool(state.ids(query, (account_id, conversation_id)))


def last_of(state: State, account_id: int, conversation: ConversationRow) -> int:
    """Return the last message of a conversation that was there for the account, 0 if it was never in it.

    Who left a channel learns of nothing newer, so also the bound of what it hides tells nothing newer.
    """
    if conversation.id == EVERYONE_ID:
        return conversation.last_message_id
    if state.receipts.marks(conversation.id, account_id) is not None:
        return conversation.last_message_id
    query = "SELECT last_message_id FROM past_memberships WHERE account_id = ? AND conversation_id = ?"
    return max(state.ids(query, (account_id, conversation.id)), default=0)


@dataclass(frozen=True, slots=True)
class Interval:
    """Message ids of a conversation, from `first` to `last`."""

    first: int
    last: int


def removed_up_to(reader: StateReader, conversation_id: int, account_id: int) -> int:
    """Return up to which message the account has removed the conversation, 0 if it has not."""
    if reader.level() < CHANNELS_LEVEL or not 0 < conversation_id <= MAX_ID:
        return 0
    query = "SELECT up_to FROM removed_conversations WHERE account_id = ? AND conversation_id = ?"
    return sum(up_to for (up_to,) in reader.rows(query, (account_id, conversation_id)))


def readable(reader: StateReader, conversation_id: int, account_id: int) -> list[Interval]:
    """Return what the account may read of a conversation, the newest first; nothing if it was never in it.

    What the account has removed is not among it.
    """
    found = _sent(reader, conversation_id, account_id)
    removed = removed_up_to(reader, conversation_id, account_id)
    if not removed:
        return found
    return [Interval(max(removed + 1, one.first), one.last) for one in found if one.last > removed]


def _sent(reader: StateReader, conversation_id: int, account_id: int) -> list[Interval]:
    """Return what the account may read of a conversation unless it has removed it, the newest first."""
    if not 0 < conversation_id <= MAX_ID:
        return []
    query = "SELECT first_message_id FROM members WHERE conversation_id = ? AND account_id = ?"
    found = [Interval(first, MAX_ID) for (first,) in reader.rows(query, (conversation_id, account_id))]
    if reader.level() < CHANNELS_LEVEL:
        return found
    if conversation_id == EVERYONE_ID:
        return [Interval(first, MAX_ID) for (first,) in reader.rows(_REGISTERED_BEFORE, (account_id,))]
    if found and reader.rows(
        "SELECT 1 FROM channels WHERE conversation_id = ? AND open_history = 1", (conversation_id,)
    ):
        return [Interval(0, MAX_ID)]
    query = (
        "SELECT readable_from, last_message_id FROM past_memberships WHERE account_id = ? AND conversation_id = ? "
        "ORDER BY last_message_id DESC"
    )
    for first, last in reader.rows(query, (account_id, conversation_id)):
        end = min(last, found[-1].first - 1) if found else last
        if first <= end:  # an open history may have shown what belongs to an earlier membership
            found.append(Interval(first, end))
    return found


def read_mark(reader: StateReader, conversation_id: int, account_id: int) -> int:
    """Return up to where an account has read a conversation; for one that left, up to where it had; 0 for others."""
    query = f"SELECT read_up_to FROM ({of_account(reader.level())}) WHERE conversation_id = ?2"  # noqa: S608 - constants
    found = reader.rows(query, (account_id, conversation_id))
    if not found and reader.level() >= CHANNELS_LEVEL:
        query = (
            "SELECT read_up_to FROM past_memberships WHERE account_id = ? AND conversation_id = ? "
            "ORDER BY last_message_id DESC LIMIT 1"
        )
        found = reader.rows(query, (account_id, conversation_id))
    return int(found[0][0]) if found else 0


def members(reader: StateReader, conversation_id: int, after_account_id: int, limit: int) -> tuple[MemberRecord, ...]:
    """Return members by account id. Those of everyone are all accounts that are not deleted."""
    if conversation_id == EVERYONE_ID and reader.level() >= CHANNELS_LEVEL:
        rows = reader.rows(_ALL_ACCOUNTS, (min(after_account_id, MAX_ID), limit))
        return tuple(MemberRecord(account_id, ROLE_MEMBER, *marks) for account_id, *marks in rows)
    query = f"{_MEMBERS} AND account_id > ? ORDER BY account_id LIMIT ?"
    rows = reader.rows(query, (min(conversation_id, MAX_ID), min(after_account_id, MAX_ID), limit))
    return tuple(MemberRecord(*row) for row in rows)


def of_account(level: int, condition: str = "") -> str:
    """Return SQL for the present memberships of account ?1: conversation_id, first_message_id, read_up_to.

    The first message is one that the account has not removed. `condition` is SQL about the rows of members.
    """
    if level < CHANNELS_LEVEL:
        return f"SELECT conversation_id, first_message_id, read_up_to FROM members WHERE account_id = ?1 {condition}"  # noqa: S608
    return (
        f"SELECT conversation_id, max(first_message_id, {REMOVED_UP_TO.format('members.conversation_id')} + 1) "  # noqa: S608 - constants only
        f"AS first_message_id, read_up_to FROM members WHERE account_id = ?1 {condition} "
        f"UNION ALL SELECT {EVERYONE_ID}, max(first_message_id, {REMOVED_UP_TO.format(EVERYONE_ID)} + 1), "
        "first_message_id - 1 "
        "FROM accounts WHERE id = ?1 "
        f"AND NOT EXISTS (SELECT 1 FROM members WHERE conversation_id = {EVERYONE_ID} AND account_id = ?1)"
    )


def channels_of(reader: StateReader, account_id: int) -> tuple[int, ...]:
    """Return the ids of the account's channels."""
    rows = reader.rows(
        "SELECT c.id FROM members m JOIN conversations c ON c.id = m.conversation_id "
        "WHERE m.account_id = ? AND c.kind = ?",
        (account_id, model_pb2.CONVERSATION_KIND_CHANNEL),
    )
    return tuple(row[0] for row in rows)
