"""At which side texts and the window begin.

The window begins where the language of the system does. A text keeps the direction of its first letter wherever it
stands, so that no full stop or bracket of it moves to the other end. Controls of the direction do not reach this
module: safe_text.py replaces them.
"""

import unicodedata

from PySide6.QtCore import QEvent, QLocale, QRectF, Qt
from PySide6.QtGui import QFontMetricsF, QGuiApplication, QPainter
from PySide6.QtWidgets import QLabel

ROUNDING = 1.0  # a text has room where its own width was measured
FROM_LEFT = Qt.LayoutDirection.LeftToRight
FROM_RIGHT = Qt.LayoutDirection.RightToLeft
_ISOLATE_FROM_LEFT, _ISOLATE, _END = "\u2066", "\u2068", "\u2069"
_LETTERS = {"L": FROM_LEFT, "R": FROM_RIGHT, "AL": FROM_RIGHT}


def follow_system(application: QGuiApplication) -> None:
    """Let the window begin where the language of the system does. Without a translation Qt does not do that."""
    application.setLayoutDirection(QLocale.system().textDirection())


def window_direction() -> Qt.LayoutDirection:
    """Return the direction of the window."""
    return QGuiApplication.layoutDirection()


def own_direction(text: str) -> Qt.LayoutDirection | None:
    """Return the direction of the first letter, or None for a text without letters."""
    return next((_LETTERS[kind] for kind in map(unicodedata.bidirectional, text) if kind in _LETTERS), None)


def direction_of(text: str) -> Qt.LayoutDirection:
    """Return the direction of a text. One without letters has that of the window."""
    return own_direction(text) or window_direction()


def mirrored(part: QRectF, whole: QRectF, direction: Qt.LayoutDirection) -> QRectF:
    """Return where a part stands that is given for a window that begins at the left."""
    if direction == FROM_LEFT:
        return part
    return QRectF(whole.left() + whole.right() - part.right(), part.top(), part.width(), part.height())


def draw_line(painter: QPainter, area: QRectF, text: str, *, at_end: bool = False) -> float:
    """Draw a text in one line of the painter's font, with an ellipsis where it does not fit. Return its width.

    It stands where the window begins, or at its other side with `at_end`.
    """
    metrics = QFontMetricsF(painter.font())
    drawn = metrics.elidedText(text, Qt.TextElideMode.ElideRight, area.width() + ROUNDING)
    is_left = (window_direction() == FROM_LEFT) != at_end
    side = Qt.AlignmentFlag.AlignLeft if is_left else Qt.AlignmentFlag.AlignRight
    painter.setLayoutDirection(direction_of(text))
    painter.drawText(area, side | Qt.AlignmentFlag.AlignAbsolute | Qt.AlignmentFlag.AlignVCenter, drawn)
    return metrics.horizontalAdvance(drawn)


def isolated(text: str) -> str:
    """Return a text like "ann: said" so that what was said keeps its own direction."""
    name, colon, said = text.partition(": ")
    if not colon or own_direction(name) == own_direction(said):
        return text
    return f"{name}{colon}{_ISOLATE}{said}{_END}"


def apart(text: str) -> str:
    """Return a text that is written from the left, for a widget that gives its texts the window's direction."""
    return text if not text or window_direction() == FROM_LEFT else f"{_ISOLATE_FROM_LEFT}{text}{_END}"


class Sentence(QLabel):
    """A label of plain text, which keeps its own direction and stands where the window begins.

    It wraps, unless it is told not to.
    """

    def __init__(self, text: str = "", *, wraps: bool = True, is_centred: bool = False) -> None:
        super().__init__()
        self._is_centred = is_centred
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setWordWrap(wraps)
        self.setText(text)

    def setText(self, text: str) -> None:  # noqa: N802
        super().setText(text)
        self._turn()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        """Stand where the window begins, whatever direction the text has."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.LayoutDirectionChange:
            self._turn()

    def _turn(self) -> None:
        """Qt gives the text its own direction, and counts the sides from there."""
        is_against = direction_of(self.text()) != window_direction()
        side = Qt.AlignmentFlag.AlignRight if is_against else Qt.AlignmentFlag.AlignLeft
        self.setAlignment(Qt.AlignmentFlag.AlignCenter if self._is_centred else side | Qt.AlignmentFlag.AlignVCenter)
