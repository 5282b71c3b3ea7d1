"""The lines of the messenger's screen as styled pieces: a row of a thread, an entry of the list. Pure.

Texts are those of `parley.chat`. Here they get colours and a width.
"""

from bisect import bisect_right
from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from itertools import accumulate

from parley.chat import (
    NOT_IN_CLUSTER,
    ConversationItem,
    Row,
    clock_time,
    counts_text,
    day_label,
    list_time,
    marked,
    safe_body,
)
from parley.terminal.cells import cells, cut, padded, wrap
from parley.terminal.text import MARKS

Piece = tuple[str, str]
Line = tuple[Piece, ...]
Styles = Sequence[tuple[int, int, str]]
"""Parts of a text, from a place up to another one, with their style. They are in order."""

UNREAD = "not read yet"
_INDENT = 6
_NARROW = 30
_TITLE = 12


@lru_cache(maxsize=4096)
def row_lines(row: Row, room: int, today: date) -> tuple[Line, ...]:
    """Return a row of a thread, below what is missing, the day and the divider if they belong there."""
    lines: list[Line] = []
    if row.gap_above:
        lines.append((("class:quiet", _ruled(row.gap_above, room)),))
    if row.new_day:
        lines.append((("class:quiet", _ruled(day_label(row.at_ms, today), room)),))
    if row.unread_above:
        lines.append((("class:divider", _ruled(UNREAD, room)),))
    at = f"{clock_time(row.at_ms)} "
    if row.event:
        lines += _paragraph((("class:quiet", at),), "class:quiet", row.shown, "", room)
        return tuple(lines)
    who = f"{'you' if row.mine else row.sender}: "
    begin = (("class:quiet", at), ("class:own" if row.mine else "class:sender", cut(who, max(1, room // 2)) + " "))
    style = "class:urgent" if row.urgent else ""
    body = marked(row.shown, urgent=row.urgent)
    lines += _paragraph(begin, style, body, _known(row), room, _styles(row, body))
    if row.retriable:
        hint = f"{safe_body(row.detail)} /retry {row.local_id} sends it again, /cancel {row.local_id} removes it."
        lines += [(("class:bad", " " * _indent(room) + line),) for line in wrap(hint.strip(), room - _indent(room))]
    return tuple(lines)


def _styles(row: Row, body: str) -> Styles:
    """Return the mentions of a text as places among its characters that are no spaces. Wrapping keeps these places."""
    before = len(body) - len(row.shown)
    found = []
    counted = letters = 0
    for one in row.mentions:
        letters += _letters(body[counted : before + one.start])
        counted = before + one.start
        style = "class:mentions-me" if one.me and not row.mine else "class:mention"
        found.append((letters, letters + one.end - one.start, style))
    return found


def _letters(text: str) -> int:
    return sum(not char.isspace() for char in text)


def _pieces(text: str, first: int, style: str, styles: Styles) -> Line:
    """Return a wrapped line of a text in its styles. `first` is the place of its first character."""
    at = bisect_right(styles, first, key=lambda part: part[1])  # what ends before the line is not in it
    if at == len(styles) or styles[at][0] >= first + len(text):
        return ((style, text),) if text else ()
    pieces: list[Piece] = []
    place, start, now = first, 0, style
    for end, char in enumerate(text):
        is_space = char.isspace()  # no mention has one
        if at < len(styles) and place >= styles[at][1]:
            at += 1
        wanted = styles[at][2] if at < len(styles) and not is_space and styles[at][0] <= place else style
        if wanted != now:
            pieces.append((now, text[start:end]))
            start, now = end, wanted
        place += not is_space
    pieces.append((now, text[start:]))
    return tuple(piece for piece in pieces if piece[1])


def _known(row: Row) -> str:
    """Return the mark behind an own message or a lost one."""
    if row.lost:
        return f"({NOT_IN_CLUSTER})"
    if row.status is None:
        return ""
    if row.others and not row.status.needs_person:
        return f"{MARKS[row.status].split()[0]} {counts_text(row.delivered, row.read, row.others)}".rstrip()
    return MARKS[row.status]


def _indent(room: int) -> int:
    return _INDENT if room >= _NARROW else 0


def _paragraph(begin: Line, style: str, body: str, known: str, room: int, styles: Styles = ()) -> list[Line]:
    """Return a text behind its beginning, with the mark after its last word if there is room, else below."""

    def styled(texts: list[str]) -> list[Line]:
        if not styles:
            return [((style, text),) for text in texts]
        places = accumulate(map(_letters, texts), initial=0)
        return [_pieces(text, first, style, styles) for text, first in zip(texts, places, strict=False)]

    taken, indent = sum(cells(text) for _, text in begin), _indent(room)
    first_room = room - taken
    if first_room < min(8, room):  # too narrow for both
        lines: list[Line] = [((piece, cut(text, room)),) for piece, text in begin]
        lines += [(("", " " * indent), *line) for line in styled(wrap(body, room - indent))]
    else:
        head, *rest = styled(wrap(body, room - indent, first_room))
        lines = [(*begin, *head), *((("", " " * indent), *line) for line in rest)]
    if known:
        used = sum(cells(text) for _, text in lines[-1])
        if used + 1 + cells(known) <= room:
            lines[-1] = (*lines[-1], ("class:known", f" {known}"))
        else:
            lines += [(("class:known", " " * indent + part),) for part in wrap(known, room - indent)]
    return lines


def _ruled(text: str, room: int) -> str:
    """Return a text in the middle of a line."""
    text = cut(text, max(0, room - 4))
    left = max(0, (room - cells(text) - 2) // 2)
    right = max(0, room - cells(text) - 2 - left)
    return cut(f"{'─' * left} {text} {'─' * right}", room)


def item_lines(item: ConversationItem, room: int, today: date, *, chosen: bool, open_: bool) -> tuple[Line, Line]:
    """Return an entry of the list: title with unread count and time, and below it the latest text.

    A `!` before the count says that an urgent message is among the unread ones, `@2` behind it that two of them name
    the own account.
    """
    count = f"{'!' if item.urgent else ''}{item.unread}" if item.unread else ""
    named = f" @{item.mentions}" if item.mentions else ""
    at = f" {list_time(item.at_ms, today)}" if item.at_ms else ""
    if room - cells(count + named + at) < _TITLE:
        at = ""
    marks = ((item.deleted, "account deleted"), (item.muted, "muted"), (item.put_away, "put away"))
    title = item.title + "".join(f" ({mark})" for is_so, mark in marks if is_so)
    head = f"{'▸' if open_ else ' '} {'#' if item.channel else ''}{title}"
    unread = "class:unread" if item.unread and not item.muted else ""
    you = "you: " if item.status is not None else "draft: " if item.draft else ""
    style = " class:chosen" if chosen else ""
    behind = f" {count}" if count else ""
    left = max(1, room - cells(behind + named + at))
    return (
        (
            (unread + style, head[:1] + padded(head[2:], left - 2, indent=1)),
            (("class:urgent" if item.urgent else unread) + style, behind),
            ("class:mentions-me" + style, named),
            ("class:quiet" + style, at),
        ),
        (("class:quiet" + style, padded(f"{you}{item.preview}", room - 2, indent=2)),),
    )
