"""Conversations, read back: a page of what an account may read below, above or around a message. Queries only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from parleyd.machine.features.memberships import read_mark, readable
from parleyd.machine.features.messages import PAGE_BYTES, SELECT, MessageRecord, Row, record, row_bytes
from parleyd.machine.limits import MAX_ID

if TYPE_CHECKING:
    from parleyd.machine.features.memberships import Interval
    from parleyd.machine.reader import StateReader

_BELOW = f"{SELECT} AND id >= ? AND id < ? ORDER BY id DESC LIMIT ?"
_ABOVE = f"{SELECT} AND id >= ? AND id < ? ORDER BY id LIMIT ?"


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Messages of a conversation, oldest first, and whether the account may read older and newer ones."""

    messages: tuple[MessageRecord, ...] = ()
    has_older: bool = False
    has_newer: bool = False


class History:
    """What one account may read of one conversation; nothing if it was never in it.

    All pages belong to one state if the caller is inside `reader.consistent`.
    """

    def __init__(self, reader: StateReader, account_id: int, conversation_id: int) -> None:
        self._reader = reader
        self.account_id = account_id
        self._conversation_id = conversation_id
        self._readable = readable(reader, conversation_id, account_id)

    def before(self, message_id: int, limit: int, max_bytes: int = PAGE_BYTES) -> HistoryPage:
        """Return the newest messages below an id; 0: the newest of all.

        A page has at most `limit` messages and `max_bytes`, but at least one message if there is one.
        """
        return self._page(self._rows_below(message_id or MAX_ID, limit, max_bytes), message_id)

    def after(self, message_id: int, limit: int, max_bytes: int = PAGE_BYTES) -> HistoryPage:
        """Return the oldest messages above an id."""
        first = min(message_id, MAX_ID - 1) + 1
        return self._page(self._rows_from(first, limit, max_bytes), first)

    def around(self, message_id: int, limit: int, max_bytes: int = PAGE_BYTES) -> HistoryPage:
        """Return messages on both sides of an id: those from it on, and older ones.

        Each side takes half of the page, or more if the other side has less.
        """
        older_bytes, newer_bytes = max_bytes // 2, max_bytes - max_bytes // 2
        newer = self._rows_from(message_id, limit - limit // 2, newer_bytes)
        older_bytes += max(0, newer_bytes - _bytes_of(newer))
        older = self._rows_below(message_id, limit - len(newer), older_bytes) if limit > len(newer) else []
        if len(older) + len(newer) < limit:
            newer = self._rows_from(message_id, limit - len(older), max(1, max_bytes - _bytes_of(older)))
        return self._page(older + newer, message_id)

    def read_up_to(self) -> int:
        """Return the account's read mark."""
        return read_mark(self._reader, self._conversation_id, self.account_id)

    def _rows_below(self, end: int, limit: int, max_bytes: int) -> list[Row]:
        return self._rows(_BELOW, self._readable, (0, end), limit, max_bytes)[::-1]

    def _rows_from(self, first: int, limit: int, max_bytes: int) -> list[Row]:
        return self._rows(_ABOVE, self._readable[::-1], (first, MAX_ID), limit, max_bytes)

    def _rows(
        self, query: str, intervals: list[Interval], within: tuple[int, int], limit: int, max_bytes: int
    ) -> list[Row]:
        """Return the first rows of the query in the intervals, until one of the bounds is reached."""
        found: list[Row] = []
        first, end = within
        left = max_bytes
        for interval in intervals:
            bounds = (max(first, interval.first), min(end, interval.last + 1, MAX_ID))
            bindings = (self._conversation_id, *bounds, limit - len(found))
            rows = self._reader.rows_within(query, bindings, left, row_bytes)
            left -= _bytes_of(rows)
            found += rows if left >= 0 or not found else ()
            if left <= 0 or len(found) >= limit:
                break
        return found

    def _page(self, rows: list[Row], place: int) -> HistoryPage:
        """Return a page. One without messages has all that there is on both sides of `place`."""
        messages = tuple(map(record, rows))
        oldest, newest = (messages[0].id, messages[-1].id + 1) if messages else (place, place)
        return HistoryPage(messages, bool(self._rows_below(oldest, 1, 1)), bool(self._rows_from(newest, 1, 1)))


def _bytes_of(rows: list[Row]) -> int:
    return sum(map(row_bytes, rows))
