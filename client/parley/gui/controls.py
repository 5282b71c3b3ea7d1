"""A box to tick and a choice of several. Their marks are paths: sharp at any scale, in the right colours."""

from collections.abc import Iterable

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPalette, QPen, QPolygonF
from PySide6.QtWidgets import QCheckBox, QComboBox, QStyle, QStyleOptionButton, QWidget

ARROW_ROOM = 28
ARROW = 10.0


class CheckBox(QCheckBox):
    """A box to tick, with its text."""

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        super().paintEvent(event)
        option = QStyleOptionButton()
        self.initStyleOption(option)
        box = QRectF(self.style().subElementRect(QStyle.SubElement.SE_CheckBoxIndicator, option, self))
        if self.hasFocus():
            text = QRectF(self.style().subElementRect(QStyle.SubElement.SE_CheckBoxContents, option, self))
            width = min(text.width(), self.fontMetrics().horizontalAdvance(self.text()))
            left = text.right() - width if self.layoutDirection() == Qt.LayoutDirection.RightToLeft else text.left()
            ends = ((left + 1, self.height() - 1.5), (left + width - 1, self.height() - 1.5))
            _draw_lines(self, QRectF(0, 0, 1, 1), ends, self.palette().color(QPalette.ColorRole.Highlight), 2.0)
        if self.isChecked():
            role = QPalette.ColorRole.HighlightedText if self.isEnabled() else QPalette.ColorRole.WindowText
            _draw_lines(self, box, ((0.27, 0.52), (0.44, 0.69), (0.75, 0.33)), self.palette().color(role), 2.0)


class ChoiceBox(QComboBox):
    """A choice of several, with an arrow at its end."""

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        super().paintEvent(event)
        is_rtl = self.layoutDirection() == Qt.LayoutDirection.RightToLeft
        middle = ARROW_ROOM / 2 if is_rtl else self.width() - ARROW_ROOM / 2
        box = QRectF(middle - ARROW / 2, (self.height() - ARROW) / 2, ARROW, ARROW)
        _draw_lines(self, box, ((0.1, 0.3), (0.5, 0.7), (0.9, 0.3)), self.palette().color(self.foregroundRole()), 1.5)


def _draw_lines(
    widget: QWidget, box: QRectF, places: Iterable[tuple[float, float]], color: QColor, width: float
) -> None:
    """Draw a line from place to place. Each is given as a share of the box."""
    ends = Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap, Qt.PenJoinStyle.RoundJoin
    painter = QPainter(widget)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(QPen(color, width, *ends))
    at = [QPointF(box.left() + x * box.width(), box.top() + y * box.height()) for x, y in places]
    painter.drawPolyline(QPolygonF(at))
    painter.end()
