"""Which part of a thread is on the screen, and what of it was seen. Pure.

The place is the row at the top of the screen, so that what is read stays where it is while rows come above or below.
Without a place the end is shown. A conversation opens at its first unread message. A read mark covers every message
below it, so it moves only over messages that were on the screen, without a gap.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

from parley.chat import Chats, ConversationKey, Row, Seen, Thread
from parley.terminal.messenger_lines import Line

LinesOf = Callable[[Row], Sequence[Line]]
Place = tuple[int, int]
"""A row and a line in it."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What is on the screen: its lines, the first row, and the rows whose last line is there."""

    lines: tuple[Line, ...] = ()
    first: int = 0
    rows: tuple[Row, ...] = ()


class Viewport:
    """The place in a thread."""

    def __init__(self) -> None:
        """Begin at the end."""
        self._id: tuple[int, int] | None = None
        self._line = 0
        self._guess = 0

    @property
    def at_end(self) -> bool:
        """Return true if new rows are shown as they come."""
        return self._id is None

    def to_end(self) -> None:
        """Show the end from now on."""
        self._id = None

    def to_row(self, rows: Sequence[Row], at: int, line: int = 0) -> None:
        """Put a row at the top."""
        self._id, self._line, self._guess = (rows[at].message_id, rows[at].local_id), line, at

    def show(self, rows: Sequence[Row], lines_of: LinesOf, height: int) -> Shown:
        """Return what is on a screen of `height` lines."""
        if not rows or height <= 0:
            return Shown()
        index, line = self._top(rows, lines_of, height)
        first = index
        lines: list[Line] = []
        seen: list[Row] = []
        while index < len(rows) and len(lines) < height:
            own = lines_of(rows[index])[line:]
            lines += own
            if len(lines) <= height:
                seen.append(rows[index])
            index, line = index + 1, 0
        return Shown(tuple(lines[:height]), first, tuple(seen))

    def scroll(self, rows: Sequence[Row], lines_of: LinesOf, height: int, by: int) -> None:
        """Move the place by a number of lines, up if it is negative."""
        if not rows or height <= 0:
            return
        place = _moved(rows, lines_of, self._top(rows, lines_of, height), by)
        if place >= _top_of_end(rows, lines_of, height):
            self.to_end()
        else:
            self.to_row(rows, *place)

    def _top(self, rows: Sequence[Row], lines_of: LinesOf, height: int) -> Place:
        end = _top_of_end(rows, lines_of, height)
        at = self._find(rows)
        if at is None:
            self.to_end()
            return end
        place = (at, min(self._line, len(lines_of(rows[at])) - 1))
        if place >= end:
            self.to_end()
            return end
        return place

    def _find(self, rows: Sequence[Row]) -> int | None:
        """Return the row of the place. It may have moved, and an own message may have got its id."""
        if self._id is None:
            return None
        for at in chain((min(self._guess, len(rows) - 1),), range(len(rows))):
            if _is_row(rows[at], self._id):
                self._guess = at
                return at
        return None


def _is_row(row: Row, named: tuple[int, int]) -> bool:
    message_id, local_id = named
    if message_id and row.message_id:
        return row.message_id == message_id
    return bool(local_id) and row.local_id == local_id


def _top_of_end(rows: Sequence[Row], lines_of: LinesOf, height: int) -> Place:
    """Return the place from which the rest fills the screen."""
    return _moved(rows, lines_of, (len(rows), 0), -height)


def _moved(rows: Sequence[Row], lines_of: LinesOf, place: Place, by: int) -> Place:
    index, line = place
    line += by
    while line < 0 and index > 0:
        index -= 1
        line += len(lines_of(rows[index]))
    while index < len(rows) and line >= len(lines_of(rows[index])):
        line -= len(lines_of(rows[index]))
        index += 1
    return (index, max(0, line) if index < len(rows) else 0)


class Reading:
    """The place in the open conversation, and what of it the person has seen."""

    def __init__(self, chats: Chats) -> None:
        self._chats = chats
        self._seen = Seen()
        self._settling = False
        self._place = Viewport()
        self._shown = Shown()
        self._height = 0
        self._lines_of: LinesOf = lambda row: ()

    @property
    def at_end(self) -> bool:
        """Return true if new messages are shown as they come."""
        return self._place.at_end

    def begin(self) -> None:
        """Begin to read another conversation, at its first unread message."""
        self._seen, self._place, self._shown = Seen(), Viewport(), Shown()
        self._settling = True

    def draw(self, lines_of: LinesOf, height: int, *, answering: bool) -> Shown:
        """Return what is on the screen. `answering`: the cluster can be asked for what is missing."""
        self._lines_of, self._height = lines_of, height
        thread = self._thread()
        if thread is None:
            self._shown = Shown()
        else:
            self._settle(answering=answering)
            self._shown = self._place.show(thread.rows, lines_of, height)
        return self._shown

    def hide(self) -> None:
        """Record that the thread is not on the screen."""
        self._shown = Shown()

    def scroll(self, screens: int) -> None:
        """Move by screens, up if it is negative. One line stays in sight."""
        self._settling = False
        thread = self._thread()
        if thread is not None:
            by = screens * max(1, self._height - 1)
            self._place.scroll(thread.rows, self._lines_of, self._height, by)

    def to_end(self) -> None:
        """Show the latest messages."""
        self._settling = False
        self._place.to_end()

    def to_beginning(self) -> None:
        """Show the first unread message, or the oldest one that is loaded."""
        self._settling = False
        thread = self._thread()
        if thread is not None and thread.rows:
            self._place.to_row(thread.rows, thread.divider_row or 0)

    def after_drawing(self) -> tuple[tuple[int, int] | None, int | None]:
        """Return the conversation and the message up to which it is read now, and the page to ask for."""
        key, thread = self._chats.open_key, self._thread()
        self._chats.attentive = bool(self._shown.rows) and self.at_end
        if key is None or thread is None:
            return None, None
        read = None
        if not self._settling and self._shown.rows:
            self._seen.add(self._shown.rows)
            read = self._mark(key)
        before_id = self._chats.wants_history(key, self._shown.first)
        if self._settling and not self._chats.paging.is_pending(key) and thread.verified_from is not None:
            self._settling = False  # no page comes
        return read, before_id

    def _mark(self, key: ConversationKey) -> tuple[int, int] | None:
        thread = self._thread()
        if thread is None:
            return None
        up_to = self._seen.up_to(thread, self._chats.read_up_to(key), self._chats.unread_in(key))
        conversation_id, _ = self._chats.saw(key, up_to)
        return (conversation_id, up_to) if conversation_id else None

    def _settle(self, *, answering: bool) -> None:
        thread = self._thread()
        if not self._settling or thread is None:
            return
        row = thread.divider_row
        if row is not None:
            self._place.to_row(thread.rows, row)
        if thread.verified_from is not None:
            self._settling = row is not None and not thread.has_first_unread
        elif thread.rows and not answering:
            self._settling = False  # what this device has is all there is for now

    def _thread(self) -> Thread | None:
        key = self._chats.open_key
        return None if key is None else self._chats.thread(key)
