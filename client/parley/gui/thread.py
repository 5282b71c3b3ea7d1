"""The rows of one conversation, and how they change: history, what arrives, and what this device sends, as one list.

Pure. Messages of the cluster stand in the order of their ids, each once; own ones without an id (waiting, being
sent, failed) follow in the order they were typed. Every change is told as a few edits, so that a model of ten
thousand rows changes one row when one tick changes. An own message that settles never goes back, however late an
older view of it arrives.

`verified_from` is the oldest id the cluster itself has listed without a gap up to now; rows above it come from
this device's cache and are checked as soon as somebody scrolls there.
"""

import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from parley.model import HistoryPage, Message, MessageStatus, Outgoing, Receipt

RUN_MS = 5 * 60 * 1000
MAX_ROWS = 50_000
KEEP_ROWS = 400
AHEAD_ROWS = 60


@dataclass(frozen=True, slots=True)
class Row:
    """One message as it is shown. `status` is None for those of others. `first` and `last` are of a run."""

    message_id: int
    local_id: int
    sender: str
    body: str
    at_ms: int
    status: MessageStatus | None
    detail: str
    new_day: bool
    unread_above: bool
    first: bool
    last: bool

    @property
    def mine(self) -> bool:
        """Whether the own account sent it."""
        return self.status is not None

    @property
    def editable(self) -> bool:
        """Whether it still waits here."""
        return self.status is MessageStatus.WAITING

    @property
    def cancellable(self) -> bool:
        """Whether it can be withdrawn or put out of sight."""
        return self.status in (MessageStatus.WAITING, MessageStatus.FAILED)

    @property
    def retriable(self) -> bool:
        """Whether it can be sent again."""
        return self.status is MessageStatus.FAILED


@dataclass(frozen=True, slots=True)
class RowsInserted:
    """New rows, the first of which stands at `at`."""

    at: int
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class RowsRemoved:
    """Rows that are gone."""

    at: int
    count: int


@dataclass(frozen=True, slots=True)
class RowsChanged:
    """Rows that look different now."""

    at: int
    rows: tuple[Row, ...]


Edit = RowsInserted | RowsRemoved | RowsChanged


@dataclass(frozen=True, slots=True)
class _Entry:
    message_id: int
    local_id: int
    sender: str
    body: str
    at_ms: int
    mine: bool
    status: MessageStatus
    detail: str
    number: int = 0


class Thread:
    """One conversation."""

    def __init__(self, account: str, peer: str) -> None:
        """Empty, and nothing known of what the cluster has."""
        self.account = account
        self.peer = peer
        self.conversation_id = 0
        self.rows: list[Row] = []
        self.verified_from: int | None = None
        self.more = True
        self._ids: list[int] = []
        self._entries: list[_Entry] = []
        self._settled: dict[int, int] = {}
        self._numbers: dict[int, int] = {}
        self._gone: set[int] = set()
        self._receipt = Receipt(0, 0, 0)
        self._divider_after: int | None = None
        self._divider_id = 0

    # ---- what the person may want

    @property
    def last_message_id(self) -> int:
        """The newest message of the cluster shown here."""
        return self._ids[-1] if self._ids else 0

    @property
    def divider_row(self) -> int | None:
        """The row the unread divider stands above."""
        return self._index_of(self._divider_id) if self._divider_id else None

    def wants_before(self, first_visible_row: int) -> int | None:
        """The page to ask for now that this row is the topmost one in sight, or None."""
        if self.verified_from is None or not self.more or len(self.rows) >= MAX_ROWS:
            return None
        verified_row = bisect_left(self._ids, self.verified_from)
        return self.verified_from if first_visible_row - AHEAD_ROWS < verified_row else None

    def last_waiting(self) -> Row | None:
        """The newest message that can still be edited."""
        return next((row for row in reversed(self.rows[len(self._ids) :]) if row.editable), None)

    # ---- what happens

    def load(self, page: HistoryPage, before: int) -> list[Edit]:
        """Takes in a page of history. Only the cluster's own pages tell what is complete."""
        self.conversation_id = self.conversation_id or page.conversation_id
        edits = self._merge(page.messages)
        if not page.cached:
            oldest = page.messages[0].id if page.messages else before or None
            contiguous = self.verified_from is None or before == self.verified_from
            if contiguous and oldest is not None:
                self.verified_from, self.more = oldest, page.more
            elif contiguous:
                self.verified_from, self.more = 0, False
        return edits

    def arrive(self, messages: Sequence[Message]) -> list[Edit]:
        """Messages that are new on this device."""
        return self._merge(messages) + self._bound()

    def update(self, outgoing: Iterable[Outgoing]) -> list[Edit]:
        """Own messages of this device in newer states."""
        edits: list[Edit] = []
        for one in outgoing:
            if one.local_id in self._settled or one.local_id in self._gone:
                continue
            if one.number and one.number in self._numbers:
                self._settled[one.local_id] = self._numbers[one.number]
                edits += self._drop_open(one.local_id)
                continue
            edits += self._settle(one) if one.message_id else self._keep_open(one)
        return edits

    def withdraw(self, local_ids: Iterable[int]) -> list[Edit]:
        """Own messages that were cancelled."""
        edits: list[Edit] = []
        for local_id in local_ids:
            self._gone.add(local_id)
            edits += self._drop_open(local_id)
        return edits

    def move_receipts(self, receipt: Receipt) -> list[Edit]:
        """The other party has received or read more."""
        before = self._receipt
        self._receipt = Receipt(
            receipt.conversation_id,
            max(before.delivered_up_to, receipt.delivered_up_to),
            max(before.read_up_to, receipt.read_up_to),
        )
        if (self._receipt.delivered_up_to, self._receipt.read_up_to) == (before.delivered_up_to, before.read_up_to):
            return []
        first = bisect_right(self._ids, min(before.delivered_up_to, before.read_up_to))
        last = bisect_right(self._ids, max(self._receipt.delivered_up_to, self._receipt.read_up_to))
        return self._redraw(first, last)

    def set_divider(self, after: int | None) -> list[Edit]:
        """Marks where unread messages begin: above the first of others with a higher id than `after`."""
        self._divider_after = after
        return self._place_divider()

    def trim(self) -> None:
        """Forgets all but the end, when nobody looks."""
        surplus = len(self._ids) - KEEP_ROWS
        if surplus > 0:
            self._drop_oldest(surplus)

    # ---- inside

    def _merge(self, messages: Sequence[Message]) -> list[Edit]:
        known = set(self._ids)
        fresh = sorted({m.id: m for m in messages if m.id not in known}.values(), key=lambda m: m.id)
        if fresh and not self.conversation_id:
            self.conversation_id = fresh[0].conversation_id
        edits = self._settle_numbered(fresh)
        position = 0
        while position < len(fresh):
            at = bisect_left(self._ids, fresh[position].id)
            limit = self._ids[at] if at < len(self._ids) else None
            end = position + 1
            while end < len(fresh) and (limit is None or fresh[end].id < limit):
                end += 1
            run = fresh[position:end]
            self._ids[at:at] = [m.id for m in run]
            edits += self._insert(at, [self._entry(m) for m in run])
            position = end
        return edits + self._place_divider() if fresh else edits

    def _settle_numbered(self, run: Sequence[Message]) -> list[Edit]:
        """History may know of an own message before the outbox does: it is the same one, and is shown once."""
        numbers = {m.number: m.id for m in run if m.number}
        self._numbers.update(numbers)
        edits: list[Edit] = []
        for entry in self._entries[len(self._ids) :] if numbers else ():
            if entry.number in numbers:
                self._settled[entry.local_id] = numbers[entry.number]
                edits += self._drop_open(entry.local_id)
        return edits

    def _entry(self, message: Message) -> _Entry:
        return _Entry(
            message.id, 0, message.sender, message.body, message.sent_at_ms, message.mine, MessageStatus.ACCEPTED, ""
        )

    def _settle(self, one: Outgoing) -> list[Edit]:
        """An own message got its place in the order: where that is its row already, only the row changes."""
        self._settled[one.local_id] = one.message_id
        self.conversation_id = self.conversation_id or one.conversation_id
        entry = _Entry(
            one.message_id, one.local_id, self.account, one.body, one.sent_at_ms, True, MessageStatus.ACCEPTED, ""
        )
        place = bisect_left(self._ids, one.message_id)
        known = place < len(self._ids) and self._ids[place] == one.message_id
        at = self._open_index(one.local_id)
        if at == place and not known:
            self._ids.insert(place, one.message_id)
            self._entries[at] = entry
            return self._redraw(at - 1, at + 2)
        edits = self._remove(at) if at is not None else []
        if not known:
            self._ids.insert(place, one.message_id)
            edits += self._insert(place, [entry])
        return edits

    def _keep_open(self, one: Outgoing) -> list[Edit]:
        entry = _Entry(
            0, one.local_id, self.account, one.body, one.created_at_ms, True, one.status, one.detail, one.number
        )
        at = self._open_index(one.local_id)
        if at is None:
            tail = [open_entry.local_id for open_entry in self._entries[len(self._ids) :]]
            return self._insert(len(self._ids) + bisect_left(tail, one.local_id), [entry])
        if self._entries[at] == entry:
            return []
        self._entries[at] = entry
        return self._redraw(at, at + 1)

    def _drop_open(self, local_id: int) -> list[Edit]:
        at = self._open_index(local_id)
        return self._remove(at) if at is not None else []

    def _open_index(self, local_id: int) -> int | None:
        for at in range(len(self._ids), len(self._entries)):
            if self._entries[at].local_id == local_id:
                return at
        return None

    def _index_of(self, message_id: int) -> int | None:
        at = bisect_left(self._ids, message_id)
        return at if at < len(self._ids) and self._ids[at] == message_id else None

    def _insert(self, at: int, entries: list[_Entry]) -> list[Edit]:
        self._entries[at:at] = entries
        end = at + len(entries)
        rows = [self._row(i) for i in range(at, end)]
        self.rows[at:at] = rows
        return [RowsInserted(at, tuple(rows)), *self._redraw(at - 1, at), *self._redraw(end, end + 1)]

    def _remove(self, at: int) -> list[Edit]:
        del self._entries[at]
        del self.rows[at]
        return [RowsRemoved(at, 1), *self._redraw(at - 1, at + 1)]

    def _redraw(self, first: int, last: int) -> list[Edit]:
        """Makes rows anew and tells those that differ, as runs."""
        edits: list[Edit] = []
        for at in range(max(0, first), min(last, len(self._entries))):
            row = self._row(at)
            if row == self.rows[at]:
                continue
            self.rows[at] = row
            previous = edits[-1] if edits else None
            if isinstance(previous, RowsChanged) and previous.at + len(previous.rows) == at:
                edits[-1] = RowsChanged(previous.at, (*previous.rows, row))
            else:
                edits.append(RowsChanged(at, (row,)))
        return edits

    def _row(self, at: int) -> Row:
        entry = self._entries[at]
        before = self._entries[at - 1] if at else None
        after = self._entries[at + 1] if at + 1 < len(self._entries) else None
        new_day = before is None or _day(before.at_ms) != _day(entry.at_ms)
        divided = entry.message_id != 0 and entry.message_id == self._divider_id
        return Row(
            entry.message_id,
            entry.local_id,
            entry.sender,
            entry.body,
            entry.at_ms,
            self._status(entry) if entry.mine else None,
            entry.detail,
            new_day,
            divided,
            first=before is None or new_day or divided or not _one_run(before, entry),
            last=after is None
            or not _one_run(entry, after)
            or _day(entry.at_ms) != _day(after.at_ms)
            or (after.message_id != 0 and after.message_id == self._divider_id),
        )

    def _status(self, entry: _Entry) -> MessageStatus:
        if not entry.message_id:
            return entry.status
        if entry.message_id <= self._receipt.read_up_to:
            return MessageStatus.READ
        return MessageStatus.DELIVERED if entry.message_id <= self._receipt.delivered_up_to else MessageStatus.ACCEPTED

    def _place_divider(self) -> list[Edit]:
        wanted = 0
        if self._divider_after is not None:
            start = bisect_right(self._ids, self._divider_after)
            wanted = next((e.message_id for e in self._entries[start : len(self._ids)] if not e.mine), 0)
        if wanted == self._divider_id:
            return []
        places = [self._index_of(self._divider_id), self._index_of(wanted)]
        self._divider_id = wanted
        return [edit for at in places if at is not None for edit in self._redraw(at - 1, at + 1)]

    def _bound(self) -> list[Edit]:
        surplus = len(self._ids) - MAX_ROWS
        return self._drop_oldest(surplus + MAX_ROWS // 4) if surplus > 0 else []

    def _drop_oldest(self, count: int) -> list[Edit]:
        del self._ids[:count], self._entries[:count], self.rows[:count]
        self.more = True
        if self.verified_from is not None and self._ids:
            self.verified_from = max(self.verified_from, self._ids[0])
        return [RowsRemoved(0, count), *self._redraw(0, 1)]


def _one_run(earlier: _Entry, later: _Entry) -> bool:
    return earlier.sender == later.sender and later.at_ms - earlier.at_ms < RUN_MS


def _day(at_ms: int) -> tuple[int, int]:
    local = time.localtime(at_ms / 1000)
    return local.tm_year, local.tm_yday
