"""How many messages a member has not read: texts of others above its read mark, among those that it may read.

The rows are counted when they are added (messages.py). So a count takes a few rows, however many messages it is about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from parleyd.machine.features.memberships import readable
from parleyd.machine.features.messages import COUNTED_LEVEL, TEXT

if TYPE_CHECKING:
    from parleyd.machine.reader import StateReader

SCANNED = 100
"""Below COUNTED_LEVEL rows are read to count them: so many at most, and a count ends there."""

_COLUMNS = "ordinal, sender_ordinal, sender_id, kind, channel_sender_id IS NOT NULL"
_WITHIN = "conversation_id = ?1 AND id > ?2 AND id <= ?3"


def _ends(rows: str) -> str:
    """Return SQL for the first and the last of these rows."""
    first, last = (
        f"SELECT * FROM (SELECT {_COLUMNS} FROM {rows} ORDER BY id {order} LIMIT 1)"  # noqa: S608 - constants only
        for order in ("", "DESC")
    )
    return f"{first} UNION ALL {last}"


_ENDS = _ends(f"messages WHERE {_WITHIN}")
_ENDS_OF_SENDER = _ends(f"messages INDEXED BY messages_sender WHERE {_WITHIN} AND channel_sender_id = ?4")
_SCAN = (
    f"SELECT coalesce(sum(sender_id <> ?4 AND kind = {TEXT}), 0) FROM "  # noqa: S608 - constants only
    f"(SELECT sender_id, kind FROM messages WHERE {_WITHIN} ORDER BY id LIMIT {SCANNED})"
)


class _Counted(NamedTuple):
    """A row of a conversation, and the counts up to it."""

    ordinal: int
    sender_ordinal: int
    sender_id: int
    kind: int
    is_in_channel: int

    def of_others(self, account_id: int) -> int:
        """Return how many texts of a direct conversation up to this row the account did not write."""
        return self.ordinal - self.sender_ordinal if self.sender_id == account_id else self.sender_ordinal


def count(reader: StateReader, conversation_id: int, account_id: int, read_up_to: int) -> int:
    """Return the number of unread messages. Below COUNTED_LEVEL those beyond SCANNED rows are left out."""
    of_range = _difference if reader.level() >= COUNTED_LEVEL else _scan
    total = 0
    for interval in readable(reader, conversation_id, account_id):
        after = max(read_up_to, interval.first - 1)
        total += of_range(reader, (conversation_id, after, interval.last, account_id))
        if interval.first <= read_up_to:
            break
    return total


def _scan(reader: StateReader, bindings: tuple[int, int, int, int]) -> int:
    [(unread,)] = reader.rows(_SCAN, bindings)
    return int(unread)


def _difference(reader: StateReader, bindings: tuple[int, int, int, int]) -> int:
    """Return the number of texts of others in a range: the count at its last row, without that before its first one."""
    ends = [_Counted(*row) for row in reader.rows(_ENDS, bindings[:3])]
    account_id = bindings[-1]
    if not ends:
        return 0
    first, last = ends
    if not first.is_in_channel:
        is_first = first.kind == TEXT and first.sender_id != account_id
        return last.of_others(account_id) - first.of_others(account_id) + is_first
    own = [_Counted(*row) for row in reader.rows(_ENDS_OF_SENDER, bindings)]
    of_all = last.ordinal - first.ordinal + (first.kind == TEXT)
    return of_all - (own[1].sender_ordinal - own[0].sender_ordinal + (own[0].kind == TEXT) if own else 0)
