"""How far the members of a large channel have come, counted for several senders in one reading. Queries only.

The marks of a channel of up to MARKS_TOLD_UP_TO members are told to each of them. Beyond that every message would cause
as many receipts for as many members. So each sender is told counts instead, and GetReceipts has the members.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from parleyd.machine.features.conversations import CHANNEL, SHOWN_MEMBERS

if TYPE_CHECKING:
    from parleyd.machine.reader import StateReader

MARKS_TOLD_UP_TO: Final = SHOWN_MEMBERS
"""A client is told so many members of a conversation with their marks, so it cannot compute more by itself."""
MAX_COUNTED: Final = 10_000
"""Of a larger channel nothing is counted unless somebody asks: one reading would take tens of milliseconds."""


@dataclass(frozen=True, slots=True)
class SenderCounts:
    """The receipts of a sender's messages in one channel.

    `others`, `delivered` and `read` are those of its newest message. `delivered_to_all` and `read_by_all` are message
    ids up to which all members have come. Below `sent_from`, no message was sent to anybody who is a member now.
    """

    conversation_id: int
    account_id: int
    message_id: int
    others: int
    delivered: int
    read: int
    delivered_to_all: int
    read_by_all: int
    sent_from: int

    @property
    def is_final(self) -> bool:
        """Return whether all have read the message."""
        return self.read >= self.others


class _Values:
    """One number of each member, and how many of the others have at least a given one."""

    def __init__(self, by_account: Mapping[int, int]) -> None:
        self._by_account = by_account
        self._sorted = sorted(by_account.values())

    def at_least(self, value: int, besides: int) -> int:
        """Return how many have this value or a higher one."""
        found = len(self._sorted) - bisect_left(self._sorted, value)
        return found - (self._by_account[besides] >= value)

    def lowest(self, besides: int) -> int:
        """Return the lowest value of the others."""
        return self._sorted[1 if self._by_account[besides] == self._sorted[0] else 0]


def count(reader: StateReader, conversation_id: int, newest: Mapping[int, int]) -> tuple[SenderCounts, ...]:
    """Count for each sender in `newest` the receipts of this message; nothing for a channel that is not large."""
    columns = "account_id, first_message_id, delivered_up_to, read_up_to"
    query = f"SELECT {columns} FROM members WHERE conversation_id = ? LIMIT ?"  # noqa: S608 - constants only
    rows = reader.rows(query, (conversation_id, MAX_COUNTED + 1))
    if not MARKS_TOLD_UP_TO < len(rows) <= MAX_COUNTED:
        return ()
    first = _Values({account_id: first_id for account_id, first_id, _, _ in rows})
    # Who joined later was not sent a message, and counts as if it had come up to its joining: so it delays nothing.
    delivered = _Values({account_id: max(up_to, first_id - 1) for account_id, first_id, up_to, _ in rows})
    read = _Values({account_id: max(up_to, first_id - 1) for account_id, first_id, _, up_to in rows})
    members = {row[0] for row in rows}
    found = []
    for account_id, message_id in newest.items():
        if account_id not in members:
            continue
        later = first.at_least(message_id + 1, account_id)
        found.append(
            SenderCounts(
                conversation_id=conversation_id,
                account_id=account_id,
                message_id=message_id,
                others=len(rows) - 1 - later,
                delivered=delivered.at_least(message_id, account_id) - later,
                read=read.at_least(message_id, account_id) - later,
                delivered_to_all=delivered.lowest(account_id),
                read_by_all=read.lowest(account_id),
                sent_from=first.lowest(account_id),
            )
        )
    return tuple(found)


def newest_of_device(reader: StateReader, device_id: int) -> dict[int, int]:
    """Return the newest message of a device in each large channel, of those whose results are kept."""
    query = (
        "SELECT r.conversation_id, max(r.message_id) FROM device_results r JOIN conversations c "
        "ON c.id = r.conversation_id WHERE r.device_id = ? AND c.kind = ? AND c.member_count > ? GROUP BY 1"
    )
    return dict(reader.rows(query, (device_id, CHANNEL, MARKS_TOLD_UP_TO)))
