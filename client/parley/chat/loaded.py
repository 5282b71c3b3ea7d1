"""Which part of a thread is loaded, and between which of its rows none is missing.

Three sources prove that nothing is missing. A page of the cluster has everything between its ends. A page of this
device says which part of it has. Messages that arrive follow each other. Own messages prove nothing: this device knows
its own ones also where it does not know what others wrote between them.

`verified_from` is the oldest id that the cluster itself has listed without a gap, up to the end. `shown_from` is the
oldest id of all that is loaded up to the end, with gaps or without. What is older waits until its page is loaded.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from parley.model import HistoryPage, Message

END = 2**63
"""An id above all ids of messages."""


class Loaded:
    """What was loaded of one thread."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.verified_from: int | None = None
        self.shown_from: int | None = None
        self.more = True
        self.kept_more = False
        self._parts: list[tuple[int, int]] = []  # from an id on, below another one: in order, and apart
        self._arriving_from: int | None = None

    @property
    def starts(self) -> tuple[int, ...]:
        """Return the ids before which messages may be missing, in order: the first ones of parts without a gap."""
        return tuple(first for first, _ in self._parts if first)

    @property
    def ends_here(self) -> bool:
        """Return true if neither this device has older messages, nor did the cluster say that there are none."""
        return not self.kept_more and self.shown_from is not None and self.shown_from > 0

    def shows(self, message_id: int) -> bool:
        """Return true if a message with this id belongs to what is loaded."""
        return self.shown_from is not None and message_id >= self.shown_from

    def take_page(self, page: HistoryPage, before_id: int) -> None:
        """Record a page of history. `before_id` is the requested place, 0 for the end."""
        oldest = page.messages[0].id if page.messages else before_id
        oldest = oldest if page.has_older or page.cached else 0
        if not page.cached:
            self._add(oldest, before_id or END)
            if before_id == (self.verified_from or 0):
                self.verified_from, self.more = oldest, page.has_older
        elif page.gapless_from and page.gapless_from == page.gapless_below:
            self._add(page.gapless_from, page.gapless_from + 1)  # messages may be missing before it and after it
        elif page.gapless_from:
            self._add(page.gapless_from, page.gapless_below)
            if not before_id:
                self._arriving_from = min(self._arriving_from or END, page.gapless_from)
        shown_from = END if self.shown_from is None else self.shown_from
        if oldest <= shown_from <= (before_id or END):
            self.shown_from, self.kept_more = oldest, page.has_older

    def take_arrived(self, messages: Sequence[Message]) -> None:
        """Record messages that are new on this device, in order. What arrives later is newer.

        Own messages of this device are not among them. So what is older than all that is loaded waits for its page.
        """
        if not messages:
            return
        first, last = messages[0].id, messages[-1].id
        self._arriving_from = first if self._arriving_from is None else min(self._arriving_from, first)
        if self.shown_from is not None:
            self.kept_more = self.kept_more or first < self.shown_from
            self._add(max(self._arriving_from, self.shown_from), last + 1)

    def cut(self, first: int) -> None:
        """Record that all rows before this id were removed."""
        self.more = self.kept_more = True
        for name in ("verified_from", "shown_from", "_arriving_from"):
            value = getattr(self, name)
            setattr(self, name, value if value is None else max(value, first))
        self._parts = [(max(start, first), end) for start, end in self._parts if end > first]

    def remove_up_to(self, message_id: int) -> None:
        """Record that there is nothing up to this id any more, because the account has removed it."""
        self._add(0, message_id + 1)
        if self.verified_from is not None and self.verified_from <= message_id + 1:
            self.verified_from, self.more = message_id + 1, False
        if self.shows(message_id + 1):
            self.shown_from, self.kept_more = 0, False

    def absorb(self, other: "Loaded") -> None:
        """Add what was loaded of another thread of the same conversation."""
        for first, below in other._parts:
            self._add(first, below)
        if self.verified_from is None:
            self.verified_from, self.more = other.verified_from, other.more
        if other.shown_from is not None and not self.shows(other.shown_from):
            self.shown_from, self.kept_more = other.shown_from, other.kept_more
        self._arriving_from = min(_known((self._arriving_from, other._arriving_from)), default=None)

    def _add(self, first: int, below: int) -> None:
        """Add a part. Parts that overlap or touch become one."""
        if first >= below:
            return
        apart = [part for part in self._parts if part[1] < first or part[0] > below]
        joined = [part for part in self._parts if part[1] >= first and part[0] <= below]
        part = (min([first, *(one for one, _ in joined)]), max([below, *(one for _, one in joined)]))
        at = bisect_right(apart, part)
        self._parts = [*apart[:at], part, *apart[at:]]


def _known(values: Iterable[int | None]) -> list[int]:
    return [value for value in values if value is not None]
