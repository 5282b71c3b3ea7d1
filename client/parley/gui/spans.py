"""The parts of a message that are drawn in another way: links, and mentions. That of the own account stands out most.

A place in a text is counted in characters by the SDK and in UTF-16 units by Qt. Each part of a text is measured once,
because a message may consist of links.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from PySide6.QtGui import QFont, QTextCharFormat, QTextLayout

from parley.chat import Mention, links
from parley.gui.paragraphs import utf16_length
from parley.gui.theme import Theme


class LinkRange(NamedTuple):
    """A link in a laid out text, from `start` up to `end` in UTF-16 units."""

    start: int
    end: int
    url: str


class MentionRange(NamedTuple):
    """A mention in a laid out text, from `start` up to `end` in UTF-16 units. `me`: of the own account."""

    start: int
    end: int
    me: bool


def link_ranges(body: str) -> tuple[LinkRange, ...]:
    """Return the links of a body."""
    found = links(body)
    places = _in_units(body, ((link.start, link.end) for link in found))
    return tuple(LinkRange(start, end, link.url) for link, (start, end) in zip(found, places, strict=True))


def link_formats(found: Sequence[LinkRange], theme: Theme, *, mine: bool) -> list[QTextLayout.FormatRange]:
    """Return how links are drawn."""
    style = QTextCharFormat()
    style.setForeground(theme.color("own_link" if mine else "link"))
    style.setFontUnderline(True)
    return [_format(link.start, link.end, style) for link in found]


def mention_ranges(body: str, found: Sequence[Mention]) -> tuple[MentionRange, ...]:
    """Return the mentions of a body."""
    places = _in_units(body, ((one.start, one.end) for one in found))
    return tuple(MentionRange(start, end, one.me) for one, (start, end) in zip(found, places, strict=True))


def mention_formats(found: Sequence[MentionRange], theme: Theme, *, mine: bool) -> list[QTextLayout.FormatRange]:
    """Return how mentions are drawn: bold in the colour of links. The own one has a ground, and a colour for it."""
    other, me = QTextCharFormat(), QTextCharFormat()
    for style in (other, me):
        style.setFontWeight(QFont.Weight.DemiBold)
    other.setForeground(theme.color("own_link" if mine else "link"))
    me.setForeground(theme.color("on_accent"))
    return [_format(one.start, one.end, me if one.me else other) for one in found]


def _in_units(body: str, places: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield places of a text, which are in order, as Qt counts."""
    measured = units = 0
    for start, end in places:
        first = units + utf16_length(body[measured:start])
        units = first + utf16_length(body[start:end])
        measured = end
        yield first, units


def _format(start: int, end: int, style: QTextCharFormat) -> QTextLayout.FormatRange:
    made = QTextLayout.FormatRange()
    made.start = start
    made.length = end - start
    made.format = style
    return made
