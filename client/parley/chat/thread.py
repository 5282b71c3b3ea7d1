"""The rows of one conversation: history, arrived messages and own messages as one list.

Rows of the cluster are in the order of their ids, each once. What a restored cluster lost stands where it stood. Own
messages without an id (waiting, sending, failed) follow in the order in which they were typed. Each change is a few
edits, so a model of ten thousand rows changes one row when one mark moves. An own message with a final result keeps it,
even if an older state of it arrives later.

`loaded` says which part the rows are. What comes from this device only is checked as soon as somebody scrolls there. An
own message that is older than what is loaded has no row until its page is loaded: this device may not know what others
wrote after it. Where rows have a gap above them, they say so.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise

from parley.chat.accounts import AccountBook
from parley.chat.loaded import Loaded
from parley.chat.rows import Edit, Row, RowsChanged, RowsInserted, RowsRemoved
from parley.chat.thread_entries import SHIFT, Entry, key_of_id, lost_entry
from parley.chat.thread_rows import BETWEEN_TEXT, EARLIER_TEXT, row_of
from parley.model import Conversation, HistoryPage, LostMessage, Message, Outgoing

MAX_ROWS = 50_000
KEEP_ROWS = 400
AHEAD_ROWS = 60


class Thread:
    """The rows of one conversation."""

    def __init__(self, book: AccountBook, conversation: Conversation | None = None) -> None:
        """Begin empty. `conversation` holds the kind and the marks of the members, once they are known."""
        self.rows: list[Row] = []
        self.loaded = Loaded()
        self._book = book
        self._conversation = conversation
        self._keys: list[int] = []  # of all entries but the open ones, which are the last
        self._entries: list[Entry] = []
        self._settled: dict[int, int] = {}
        self._numbers: dict[int, int] = {}
        self._early: dict[int, Outgoing] = {}  # own messages by id that are older than what is loaded
        self._gaps: dict[int, str] = {}  # what is missing above a row, by its key
        self._stuck = False
        self._gone: set[int] = set()
        self._divider_after: int | None = None
        self._divider_id = 0

    # ---- what the person may want

    @property
    def verified_from(self) -> int | None:
        """Return the oldest id that the cluster has listed without a gap, None before its first page."""
        return self.loaded.verified_from

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
        return self.verified_from is not None and (not self.loaded.more or self.verified_from <= message_id)

    def rows_above(self, message_id: int) -> Iterator[Row]:
        """Return the rows of the cluster above this id, oldest first."""
        rows = islice(self.rows, bisect_right(self._keys, key_of_id(message_id)), len(self._keys))
        return (row for row in rows if not row.lost)

    def count_unread(self, above: int, up_to: int | None = None) -> int:
        """Count what others wrote above an id, up to another one."""
        rows = self.rows_above(above)
        return sum(row.counts_as_unread for row in rows if up_to is None or row.message_id <= up_to)

    def wants_before(self, first_visible_row: int) -> int | None:
        """Return the page to request of the cluster now that this row is the topmost visible one, or None."""
        return self._wanted(first_visible_row, self.verified_from) if self.loaded.more else None

    def wants_kept_before(self, first_visible_row: int) -> int | None:
        """Return the page to read from this device while the cluster cannot be asked, or None."""
        return self._wanted(first_visible_row, self.loaded.shown_from) if self.loaded.kept_more else None

    def _wanted(self, first_visible_row: int, first_id: int | None) -> int | None:
        if first_id is None or len(self.rows) >= MAX_ROWS:
            return None
        return first_id if first_visible_row - AHEAD_ROWS < bisect_left(self._keys, key_of_id(first_id)) else None

    def last_waiting(self) -> Row | None:
        """Return the newest message that can still be edited, or None."""
        return next((row for row in reversed(self.rows[len(self._keys) :]) if row.editable), None)

    # ---- what happens

    def load(self, page: HistoryPage, before_id: int) -> list[Edit]:
        """Add a page of history. Only a page of the cluster proves that nothing is missing."""
        self.loaded.take_page(page, before_id)
        return self._merge([*map(self._entry, page.messages), *self._take_early()]) + self._place_gaps()

    def arrive(self, messages: Iterable[Message]) -> list[Edit]:
        """Add messages that are new on this device."""
        ordered = sorted(messages, key=lambda message: message.id)
        self.loaded.take_arrived(ordered)
        found = [one for one in ordered if self.loaded.shown_from is None or self.loaded.shows(one.id)]
        return self._merge(map(self._entry, found)) + self._bound() + self._place_gaps()

    def absorb(self, other: "Thread") -> list[Edit]:
        """Add the rows of another thread that belongs to the same conversation."""
        self.loaded.absorb(other.loaded)
        edits = self._merge([*other._entries[: len(other._keys)], *self._take_early()])
        own = [*other._early.values(), *(entry.own for entry in other._entries if entry.own is not None)]
        return edits + self.update(own) + self._place_gaps()

    def update(self, outgoing: Iterable[Outgoing]) -> list[Edit]:
        """Record newer states of own messages of this device."""
        edits: list[Edit] = []
        for one in outgoing:
            if one.local_id in self._gone:
                continue
            if one.message_id:
                edits += self._settle(one)
            elif one.number and one.number in self._numbers:
                self._settled[one.local_id] = self._numbers[one.number]
                edits += self._drop_open(one.local_id)
            elif one.local_id not in self._settled:
                edits += self._keep_open(one)
        return edits + self._place_gaps() if edits else edits

    def set_lost(self, messages: Sequence[LostMessage]) -> list[Edit]:
        """Show exactly these lost messages of the conversation."""
        entries = {entry.key: entry for entry in map(lost_entry, messages)}
        edits: list[Edit] = []
        for at in range(len(self._keys) - 1, -1, -1):
            if self._entries[at].lost is not None and self._keys[at] not in entries:
                del self._keys[at]
                edits += self._remove(at)
        return edits + self._merge(entries.values()) + self._place_gaps()

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
        self.loaded.remove_up_to(removed)
        edits: list[Edit] = []
        for before, after in reversed(list(pairwise([-1, *kept, end]))):
            if after - before > 1:
                del self._keys[before + 1 : after], self._entries[before + 1 : after], self.rows[before + 1 : after]
                edits.append(RowsRemoved(before + 1, after - before - 1))
        return [*edits, *self._redraw(0, len(kept) + 1), *self._place_divider(), *self._place_gaps()]

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

    def set_stuck(self, *, stuck: bool) -> list[Edit]:
        """Record whether the cluster cannot be asked for older messages."""
        self._stuck = stuck
        return self._place_gaps()

    def set_divider(self, after: int | None) -> list[Edit]:
        """Put the unread divider above the first message of others with a higher id than `after`."""
        self._divider_after = after
        return self._place_divider()

    def trim(self) -> None:
        """Remove all rows but the last ones, while nobody looks."""
        surplus = len(self._keys) - KEEP_ROWS
        if surplus > 0:
            self._drop_oldest(surplus)
            self._place_gaps()

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

    def _own_entry(self, one: Outgoing) -> Entry:
        return Entry(one.message_id, one.local_id, one.sent_at_ms, self._book.own_id, True, own=one)

    def _take_early(self) -> list[Entry]:
        """Return own messages that are no longer older than what is loaded. They are not early any more."""
        taken = [one for message_id, one in self._early.items() if self.loaded.shows(message_id)]
        for one in taken:
            del self._early[one.message_id]
        return [self._own_entry(one) for one in taken]

    def _settle(self, one: Outgoing) -> list[Edit]:
        """Put an own message at its place in the order. If its row is there already, only the row changes."""
        self._settled[one.local_id] = one.message_id
        if one.message_id <= self._removed_up_to:
            return self._drop_open(one.local_id)
        entry = self._own_entry(one)
        place = bisect_left(self._keys, entry.key)
        known = place < len(self._keys) and self._keys[place] == entry.key
        at = self._open_index(one.local_id)
        if not self.loaded.shows(one.message_id) and (at is None or self.loaded.shown_from is not None):
            self._early[one.message_id] = one
            return self._remove(at) if at is not None else []
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
        return row_of(
            self._entries[at],
            self._entries[at - 1] if at else None,
            self._entries[at + 1] if at + 1 < len(self._entries) else None,
            book=self._book,
            conversation=self._conversation,
            divided=self._is_divided(at),
            gap=self._gap(at),
            ends=self._is_divided(at + 1) or bool(self._gap(at + 1)),
        )

    def _is_divided(self, at: int) -> bool:
        return self._divider_id != 0 and at < len(self._keys) and self._entries[at].message_id == self._divider_id

    def _gap(self, at: int) -> str:
        return self._gaps.get(self._keys[at], "") if at < len(self._keys) else ""

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

    def _place_gaps(self) -> list[Edit]:
        """Mark the rows above which messages are missing."""
        places = (bisect_left(self._keys, key_of_id(first)) for first in self.loaded.starts)
        wanted = {self._keys[at]: BETWEEN_TEXT for at in places if 0 < at < len(self._keys)}
        if self._keys and self._stuck and self.loaded.ends_here:
            wanted[self._keys[0]] = EARLIER_TEXT
        changed = wanted.items() ^ self._gaps.items()
        self._gaps = wanted
        at = [bisect_left(self._keys, key) for key in sorted({key for key, _ in changed})]
        return [edit for place in at for edit in self._redraw(place - 1, place + 1)]

    def _bound(self) -> list[Edit]:
        surplus = len(self._keys) - MAX_ROWS
        return self._drop_oldest(surplus + MAX_ROWS // 4) if surplus > 0 else []

    def _drop_oldest(self, count: int) -> list[Edit]:
        del self._keys[:count], self._entries[:count], self.rows[:count]
        if self._keys:
            first = self._entries[0]  # a lost row is not the message after which it stood, which may be dropped
            self.loaded.cut(first.message_id if first.lost is None else first.lost.after_id + 1)
        return [RowsRemoved(0, count), *self._redraw(0, 1)]


def _same_members(one: Conversation, other: Conversation) -> bool:
    """Return true if at most marks and titles differ."""
    return (one.kind, one.member_count, [m.account_id for m in one.members]) == (
        other.kind,
        other.member_count,
        [m.account_id for m in other.members],
    )
