"""A label of one line that ends in an ellipsis where its text does not fit."""

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QLabel, QSizePolicy, QWidget

from parley.gui.direction import draw_line

FEWEST_LETTERS = 8


class ElidedLabel(QLabel):
    """The label. text() is the whole text."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """Return the size of a few letters. A long text must not keep the window wide."""
        return QSize(min(FEWEST_LETTERS * self.fontMetrics().averageCharWidth(), self.sizeHint().width()), 0)

    @property
    def shown(self) -> str:
        """Return the text as it is drawn."""
        width = self.contentsRect().width()
        return self.fontMetrics().elidedText(self.text(), Qt.TextElideMode.ElideRight, width)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        painter = QPainter(self)
        painter.setPen(self.palette().color(self.foregroundRole()))
        draw_line(painter, self.contentsRect().toRectF(), self.text())
        painter.end()
