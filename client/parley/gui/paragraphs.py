"""Lays out a message as plain text, never as markup. Each paragraph has the direction of its first letter.

Paragraphs that follow each other in one direction are one layout of Qt. There are at most MOST_LAYOUTS of them. What
follows then keeps the direction of the last one, because a body of letters in turn would take seconds otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QFont, QFontMetricsF, QPainter, QTextLayout, QTextOption

from parley.gui.direction import FROM_RIGHT, own_direction, window_direction

LONGEST_WORD = 4096
TAB_WIDTH = 4
LINE_SEPARATOR = "\u2028"
MOST_LAYOUTS = 64


def utf16_length(text: str) -> int:
    """Return the length of a text in UTF-16 units, as Qt counts."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _wrap_mode(body: str) -> QTextOption.WrapMode:
    """Return how lines are broken. For each line of a word, Qt looks at all of the word that follows."""
    longest = max(map(len, body.split()), default=0)
    modes = QTextOption.WrapMode
    return modes.WrapAnywhere if longest > LONGEST_WORD else modes.WrapAtWordBoundaryOrAnywhere


def directed(body: str) -> list[tuple[str, Qt.LayoutDirection]]:
    """Return a body in parts of one direction. A paragraph without letters goes with the one before it."""
    parts: list[tuple[list[str], Qt.LayoutDirection | None]] = []
    for line in body.split("\n"):
        direction = own_direction(line) if len(parts) < MOST_LAYOUTS else None
        if parts and (direction is None or parts[-1][1] in (direction, None)):
            lines, before = parts[-1]
            lines.append(line)
            parts[-1] = (lines, before or direction)
        else:
            parts.append(([line], direction))
    return [("\n".join(lines), direction or window_direction()) for lines, direction in parts]


@dataclass(frozen=True, slots=True)
class _Part:
    """A layout, the place of its first character in UTF-16 units, and its upper edge."""

    layout: QTextLayout
    start: int
    top: float
    direction: Qt.LayoutDirection

    @property
    def last_line_width(self) -> float:
        return self.layout.lineAt(self.layout.lineCount() - 1).naturalTextWidth()


class Paragraphs:
    """A text that is broken into lines of at most `limit`."""

    def __init__(
        self,
        body: str,
        font: QFont,
        limit: float,
        formats: Sequence[QTextLayout.FormatRange] = (),
        direction: Qt.LayoutDirection | None = None,
    ) -> None:
        """A `direction` is that of the whole text. It is for sentences of the window that begin with a name."""
        self._limit = limit
        self._parts: list[_Part] = []
        self._lefts: list[float] = []
        option = QTextOption()
        option.setWrapMode(_wrap_mode(body))
        option.setTabStopDistance(TAB_WIDTH * QFontMetricsF(font).horizontalAdvance(" "))
        self.width = self.height = 0.0
        start = 0
        for text, own in [(body, direction)] if direction else directed(body):
            length = utf16_length(text)
            option.setTextDirection(own)
            option.setAlignment(side_of(own))
            layout = QTextLayout(text.replace("\n", LINE_SEPARATOR), font)
            layout.setTextOption(option)
            layout.setCacheEnabled(True)
            layout.setFormats([_moved(one, start) for one in formats if start <= one.start < start + length])
            self._parts.append(_Part(layout, start, self.height, own))
            self._lefts.append(0.0)
            self._break_lines(layout)
            start += length + 1
        self.place(0.0, self.width)

    @property
    def text(self) -> str:
        """Return the text as it is drawn, with line breaks."""
        return "\n".join(part.layout.text().replace(LINE_SEPARATOR, "\n") for part in self._parts)

    @property
    def line_count(self) -> int:
        """Return the number of lines."""
        return sum(part.layout.lineCount() for part in self._parts)

    @property
    def last_line(self) -> tuple[float, Qt.LayoutDirection]:
        """Return the width of the last line, and its direction."""
        last = self._parts[-1]
        return last.last_line_width, last.direction

    def place(self, left: float, width: float) -> None:
        """Give the text this place: its lines begin at the side of their direction."""
        for at, part in enumerate(self._parts):
            x = left + width - self._limit if part.direction == FROM_RIGHT else left
            if self._lefts[at] != x:
                self._lefts[at] = x
                for number in range(part.layout.lineCount()):
                    line = part.layout.lineAt(number)
                    line.setPosition(QPointF(x, line.position().y()))

    def draw(self, painter: QPainter, at: QPointF) -> None:
        """Draw the text."""
        for part in self._parts:
            part.layout.draw(painter, at + QPointF(0, part.top))

    def character_at(self, point: QPointF) -> int | None:
        """Return the place of the character at a point, in UTF-16 units, or None beside the text."""
        for part in self._parts:
            inside = point - QPointF(0, part.top)
            for number in range(part.layout.lineCount()):
                line = part.layout.lineAt(number)
                if line.naturalTextRect().contains(inside):
                    return part.start + int(line.xToCursor(inside.x()))
        return None

    def boxes(self, start: int, end: int) -> list[QRectF]:
        """Return where the characters from `start` up to `end` are drawn, one box for each line. In UTF-16 units."""
        found: list[QRectF] = []
        for part in self._parts:
            first, last = max(0, start - part.start), end - part.start
            line = part.layout.lineForTextPosition(first)  # a text may have a great many lines
            while first < last and line.isValid() and line.textStart() < last:
                first, behind = max(first, line.textStart()), line.textStart() + line.textLength()
                box = QRectF()
                for run in line.glyphRuns(first, min(last, behind) - first):
                    box = box.united(run.boundingRect())  # a line of two directions has several
                if not box.isEmpty():
                    found.append(box.translated(0, part.top))
                line = part.layout.lineAt(line.lineNumber() + 1)
        return found

    def _break_lines(self, layout: QTextLayout) -> None:
        y = 0.0
        layout.beginLayout()
        while (line := layout.createLine()).isValid():
            line.setLineWidth(self._limit)
            line.setPosition(QPointF(0, y))
            y += line.height()
        layout.endLayout()
        widths = (layout.lineAt(number).naturalTextWidth() for number in range(layout.lineCount()))
        self.width = max(self.width, max(widths, default=0.0))
        self.height += y


def side_of(direction: Qt.LayoutDirection) -> Qt.AlignmentFlag:
    """Return the side at which lines of a direction begin."""
    return Qt.AlignmentFlag.AlignRight if direction == FROM_RIGHT else Qt.AlignmentFlag.AlignLeft


def _moved(one: QTextLayout.FormatRange, start: int) -> QTextLayout.FormatRange:
    """Return a format for a layout that begins at `start`."""
    made = QTextLayout.FormatRange()
    made.start = one.start - start
    made.length = one.length
    made.format = one.format
    return made
