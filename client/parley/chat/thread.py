"""The rows of one conversation: history, arrived messages and own messages as one list.

Rows of the cluster are in the order of their ids, each once. What a restored cluster lost stands where it stood. Own
messages without an id (waiting, sending, failed) follow in the order in which they were typed. Each change is a few
edits, so a model of ten thousand rows changes one row when one mark moves. An own message with a final result keeps it,
even if an older state of it arrives later.

`verified_from` is the oldest id that the cluster itself has listed without a gap. Rows above it come from this device's
cache. They are checked as soon as somebody scrolls there.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise

from parley.chat.accounts import AccountBook
from parley.chat.rows import Edit, Row, RowsChanged, RowsInserted, RowsRemoved
from parley.chat.thread_entries import SHIFT, Entry, are_one_run, day, key_of_id, lost_entry
from parley.chat.titles import row_text
from parley.model import (
    Conversation,
    ConversationKind,
    HistoryPage,
    LostMessage,
    Message,
    MessageStatus,
    Outgoing,
)
from parley.receipts import Progress, progress

MAX_ROWS = 50_000
KEEP_ROWS = 400
AHEAD_ROWS = 60
NOBODY = Progress()


class Thread:
    """The rows of one conversation."""

    def __init__(self, book: AccountBook, conversation: Conversation | None = None) -> None:
        """Begin empty. `conversation` holds the kind and the marks of the members, once they are known."""
        self.rows: list[Row] = []
        self.verified_from: int | None = None
        self.more = True
        self._book = book
        self._conversation = conversation
        self._keys: list[int] = []  # of all entries but the open ones, which are the last
        self._entries: list[Entry] = []
        self._settled: dict[int, int] = {}
        self._numbers: dict[int, int] = {}
        self._gone: set[int] = set()
        self._divider_after: int | None = None
        self._divider_id = 0

    # ---- what the person may want

    @property
    def last_message_id(self) -> int:
        """Return the id of the newest row of the cluster."""
        return self._keys[-1] >> SHIFT if self._keys else 0

    @property
    def divider_row(self) -> int | None:
        """Return the row below the unread divider, or None."""
        return self._index_of(self._divider_id) if self._divider_id else None

    @property
    def has_first_unread(self) -> bool:
        """Return true if no unread message is missing above the divider."""
        return self._divider_after is None or self.reaches(self._divider_after)

    def reaches(self, message_id: int) -> bool:
        """Return true if the cluster has listed all rows above this id."""
        return self.verified_from is not None and (not self.more or self.verified_from <= message_id)

    def rows_above(self, message_id: int) -> Iterator[Row]:
        """Return the rows of the cluster above this id, oldest first."""
        rows = islice(self.rows, bisect_right(self._keys, key_of_id(message_id)), len(self._keys))
        return (row for row in rows if not row.lost)

    def count_unread(self, above: int, up_to: int | None = None) -> int:
        """Count what others wrote above an id, up to another one."""
        rows = self.rows_above(above)
        return sum(row.counts_as_unread for row in rows if up_to is None or row.message_id <= up_to)

    def wants_before(self, first_visible_row: int) -> int | None:
        """Return the page to request now that this row is the topmost visible one, or None."""
        if self.verified_from is None or not self.more or len(self.rows) >= MAX_ROWS:
            return None
        verified_row = bisect_left(self._keys, key_of_id(self.verified_from))
        return self.verified_from if first_visible_row - AHEAD_ROWS < verified_row else None

    def last_waiting(self) -> Row | None:
        """Return the newest message that can still be edited, or None."""
        return next((row for row in reversed(self.rows[len(self._keys) :]) if row.editable), None)

    # ---- what happens

    def load(self, page: HistoryPage, before_id: int) -> list[Edit]:
        """Add a page of history. Only a page of the cluster proves that nothing is missing."""
        edits = self._merge(map(self._entry, page.messages))
        if not page.cached:
            oldest = page.messages[0].id if page.messages else before_id or None
            contiguous = self.verified_from is None or before_id == self.verified_from
            if contiguous and oldest is not None:
                self.verified_from, self.more = oldest, page.has_older
            elif contiguous:
                self.verified_from, self.more = 0, False
        return edits

    def arrive(self, messages: Iterable[Message]) -> list[Edit]:
        """Add messages that are new on this device."""
        return self._merge(map(self._entry, messages)) + self._bound()

    def absorb(self, other: "Thread") -> list[Edit]:
        """Add the rows of another thread that belongs to the same conversation."""
        edits = self._merge(other._entries[: len(other._keys)])
        return edits + self.update(entry.own for entry in other._entries if entry.own is not None)

    def update(self, outgoing: Iterable[Outgoing]) -> list[Edit]:
        """Record newer states of own messages of this device."""
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

    def set_lost(self, messages: Sequence[LostMessage]) -> list[Edit]:
        """Show exactly these lost messages of the conversation."""
        entries = {entry.key: entry for entry in map(lost_entry, messages)}
        edits: list[Edit] = []
        for at in range(len(self._keys) - 1, -1, -1):
            if self._entries[at].lost is not None and self._keys[at] not in entries:
                del self._keys[at]
                edits += self._remove(at)
        return edits + self._merge(entries.values())

    def withdraw(self, local_ids: Iterable[int]) -> list[Edit]:
        """Remove own messages that were cancelled."""
        edits: list[Edit] = []
        for local_id in local_ids:
            self._gone.add(local_id)
            edits += self._drop_open(local_id)
        return edits

    def set_conversation(self, conversation: Conversation) -> list[Edit]:
        """Record new marks, other members, or the kind of the conversation, and up to where it was removed."""
        former, self._conversation = self._conversation, conversation
        return self._forget_removed() + self._show_marks(former, conversation)

    def _forget_removed(self) -> list[Edit]:
        """Remove the rows up to the message up to which the account has removed the conversation."""
        removed = self._removed_up_to
        end = bisect_left(self._keys, key_of_id(removed + 1))
        kept = [at for at in range(end) if not self._entries[at].is_removed(removed)]
        if len(kept) == end:
            return []
        if self.verified_from is not None and self.verified_from <= removed + 1:
            self.verified_from, self.more = removed + 1, False
        edits: list[Edit] = []
        for before, after in reversed(list(pairwise([-1, *kept, end]))):
            if after - before > 1:
                del self._keys[before + 1 : after], self._entries[before + 1 : after], self.rows[before + 1 : after]
                edits.append(RowsRemoved(before + 1, after - before - 1))
        return [*edits, *self._redraw(0, len(kept) + 1), *self._place_divider()]

    @property
    def _removed_up_to(self) -> int:
        return 0 if self._conversation is None else self._conversation.removed_up_to

    def _show_marks(self, former: Conversation | None, conversation: Conversation) -> list[Edit]:
        if former is None or not _same_members(former, conversation) or former.counts != conversation.counts:
            return self.redraw()
        moved = [(old, new) for old, new in zip(former.members, conversation.members, strict=True) if old != new]
        if not moved:
            return []
        first = bisect_right(self._keys, key_of_id(min(min(old.delivered_up_to, old.read_up_to) for old, _ in moved)))
        last = bisect_right(self._keys, key_of_id(max(max(new.delivered_up_to, new.read_up_to) for _, new in moved)))
        return self._redraw(first, last)

    def redraw(self) -> list[Edit]:
        """Make all rows again after names have changed."""
        return self._redraw(0, len(self._entries))

    def set_divider(self, after: int | None) -> list[Edit]:
        """Put the unread divider above the first message of others with a higher id than `after`."""
        self._divider_after = after
        return self._place_divider()

    def trim(self) -> None:
        """Remove all rows but the last ones, while nobody looks."""
        surplus = len(self._keys) - KEEP_ROWS
        if surplus > 0:
            self._drop_oldest(surplus)

    # ---- inside

    def _merge(self, entries: Iterable[Entry]) -> list[Edit]:
        known = set(self._keys)
        removed = self._removed_up_to
        found = {entry.key: entry for entry in entries if entry.key not in known and not entry.is_removed(removed)}
        fresh = sorted(found.values(), key=lambda entry: entry.key)
        edits = self._settle_numbered(fresh)
        position = 0
        while position < len(fresh):
            at = bisect_left(self._keys, fresh[position].key)
            limit = self._keys[at] if at < len(self._keys) else None
            end = position + 1
            while end < len(fresh) and (limit is None or fresh[end].key < limit):
                end += 1
            run = fresh[position:end]
            self._keys[at:at] = [entry.key for entry in run]
            edits += self._insert(at, run)
            position = end
        return edits + self._place_divider() if fresh else edits

    def _settle_numbered(self, run: Sequence[Entry]) -> list[Edit]:
        """Remove open messages that history lists already, before the outbox records that they were accepted."""
        numbers = {e.message.number: e.message_id for e in run if e.message is not None and e.message.number}
        self._numbers.update(numbers)
        edits: list[Edit] = []
        for entry in self._entries[len(self._keys) :] if numbers else ():
            if entry.own is not None and entry.own.number in numbers:
                self._settled[entry.local_id] = numbers[entry.own.number]
                edits += self._drop_open(entry.local_id)
        return edits

    @staticmethod
    def _entry(message: Message) -> Entry:
        return Entry(message.id, 0, message.sent_at_ms, message.sender_id, message.mine, message)

    def _settle(self, one: Outgoing) -> list[Edit]:
        """Put an own message at its place in the order. If its row is there already, only the row changes."""
        self._settled[one.local_id] = one.message_id
        if one.message_id <= self._removed_up_to:
            return self._drop_open(one.local_id)
        entry = Entry(one.message_id, one.local_id, one.sent_at_ms, self._book.own_id, True, own=one)
        place = bisect_left(self._keys, entry.key)
        known = place < len(self._keys) and self._keys[place] == entry.key
        at = self._open_index(one.local_id)
        if at == place and not known:
            self._keys.insert(place, entry.key)
            self._entries[at] = entry
            return self._redraw(at - 1, at + 2)
        edits = self._remove(at) if at is not None else []
        if not known:
            self._keys.insert(place, entry.key)
            edits += self._insert(place, [entry])
        return edits

    def _keep_open(self, one: Outgoing) -> list[Edit]:
        entry = Entry(0, one.local_id, one.created_at_ms, self._book.own_id, True, own=one)
        at = self._open_index(one.local_id)
        if at is None:
            tail = [open_entry.local_id for open_entry in self._entries[len(self._keys) :]]
            return self._insert(len(self._keys) + bisect_left(tail, one.local_id), [entry])
        if self._entries[at] == entry:
            return []
        self._entries[at] = entry
        return self._redraw(at, at + 1)

    def _drop_open(self, local_id: int) -> list[Edit]:
        at = self._open_index(local_id)
        return self._remove(at) if at is not None else []

    def _open_index(self, local_id: int) -> int | None:
        for at in range(len(self._keys), len(self._entries)):
            if self._entries[at].local_id == local_id:
                return at
        return None

    def _index_of(self, message_id: int) -> int | None:
        at = bisect_left(self._keys, key_of_id(message_id))
        return at if at < len(self._keys) and self._keys[at] == key_of_id(message_id) else None

    def _insert(self, at: int, entries: Sequence[Entry]) -> list[Edit]:
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
        """Make rows again. Return those that differ, as runs."""
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
        new_day = before is None or day(before.at_ms) != day(entry.at_ms)
        divided = entry.message_id != 0 and entry.message_id == self._divider_id
        first = before is None or new_day or divided or not are_one_run(before, entry)
        channel = self._conversation is not None and self._conversation.kind is ConversationKind.CHANNEL
        status, counts = self._known(entry)
        if not channel:
            counts = NOBODY
        return Row(
            entry.message_id,
            entry.local_id,
            self._sender(entry),
            row_text(entry.message, self._book) if entry.message is not None else entry.body,
            entry.at_ms,
            status,
            entry.own.detail if entry.own is not None and not entry.message_id else "",
            new_day,
            divided,
            first,
            last=after is None
            or not are_one_run(entry, after)
            or day(entry.at_ms) != day(after.at_ms)
            or (after.message_id != 0 and after.message_id == self._divider_id),
            shows_sender=channel and first and not entry.mine and not entry.event,
            event=entry.event,
            delivered=counts.delivered,
            read=counts.read,
            others=counts.others,
            urgent=entry.urgent,
            lost=entry.lost is not None,
        )

    def _sender(self, entry: Entry) -> str:
        if entry.lost is not None and not entry.mine:
            return self._book.label_of_name(entry.lost.sender)
        return self._book.label(entry.sender_id) if entry.sender_id else self._book.label_of_name(self._book.own_name)

    def _known(self, entry: Entry) -> tuple[MessageStatus | None, Progress]:
        """Return the status of an own message, or no status for other rows."""
        if not entry.mine or entry.event:
            return None, NOBODY
        if entry.lost is not None:
            return MessageStatus.FAILED, NOBODY
        if not entry.message_id:
            return entry.own.status if entry.own is not None else MessageStatus.SENDING, NOBODY
        if self._conversation is None:
            return MessageStatus.ACCEPTED, NOBODY
        counts = progress(entry.message_id, self._conversation, self._book.own_id)
        return counts.status, counts

    def _place_divider(self) -> list[Edit]:
        wanted = 0
        if self._divider_after is not None:
            start = bisect_right(self._keys, key_of_id(self._divider_after))
            unread = (e for e in self._entries[start : len(self._keys)] if e.message_id and not e.mine and not e.event)
            wanted = next((e.message_id for e in unread), 0)
        if wanted == self._divider_id:
            return []
        places = [self._index_of(self._divider_id), self._index_of(wanted)]
        self._divider_id = wanted
        return [edit for at in places if at is not None for edit in self._redraw(at - 1, at + 1)]

    def _bound(self) -> list[Edit]:
        surplus = len(self._keys) - MAX_ROWS
        return self._drop_oldest(surplus + MAX_ROWS // 4) if surplus > 0 else []

    def _drop_oldest(self, count: int) -> list[Edit]:
        del self._keys[:count], self._entries[:count], self.rows[:count]
        self.more = True
        if self.verified_from is not None and self._keys:
            first = self._entries[0]  # a lost row is not the message after which it stood, which may be dropped
            above = first.message_id if first.lost is None else first.lost.after_id + 1
            self.verified_from = max(self.verified_from, above)
        return [RowsRemoved(0, count), *self._redraw(0, 1)]


def _same_members(one: Conversation, other: Conversation) -> bool:
    """Return true if at most marks and titles differ."""
    return (one.kind, one.member_count, [m.account_id for m in one.members]) == (
        other.kind,
        other.member_count,
        [m.account_id for m in other.members],
    )
