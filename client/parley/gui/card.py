"""The card in the middle of a page that asks for a password. A page that is too small for it scrolls."""

from PySide6.QtCore import QEvent, Qt, QTimer
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QScrollArea, QVBoxLayout, QWidget

from parley.gui.direction import Sentence
from parley.gui.theme import GRID, Theme

CARD_WIDTH = 56 * GRID
WIDEST = 72 * GRID  # it fits the narrowest window
LINES_WIDE = 26


class Card(QFrame):
    """A frame of a fixed width in the middle of `page`, which has nothing else."""

    def __init__(self, page: QWidget) -> None:
        super().__init__()
        self.setObjectName("card")
        self._fit()
        row = QHBoxLayout()  # an alignment would compute the height for the width of the page
        row.addStretch(1)
        row.addWidget(self)
        row.addStretch(1)
        middle = QWidget()
        outer = QVBoxLayout(middle)
        outer.addStretch(1)
        outer.addLayout(row)
        outer.addStretch(1)
        self._area = QScrollArea()
        self._area.setFrameShape(QFrame.Shape.NoFrame)
        self._area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._area.setWidgetResizable(True)
        self._area.setWidget(middle)
        whole = QVBoxLayout(page)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(self._area)

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        """Become wider with the text."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self._fit()

    def _fit(self) -> None:
        self.setFixedWidth(min(WIDEST, max(CARD_WIDTH, LINES_WIDE * self.fontMetrics().height())))

    def rows(self) -> QVBoxLayout:
        """Return the layout for what the card holds, from top to bottom."""
        inner = QVBoxLayout(self)
        inner.setContentsMargins(4 * GRID, 4 * GRID, 4 * GRID, 4 * GRID)
        inner.setSpacing(2 * GRID)
        return inner

    def reveal(self, part: QWidget) -> None:
        """Scroll to a part of the card, once it has its place."""
        QTimer.singleShot(0, part, lambda: self._area.ensureWidgetVisible(part, 0, GRID))

    def restyle(self, theme: Theme) -> None:
        self.setStyleSheet(
            f"#card {{ background: {theme.raised}; border: 1px solid {theme.border}; border-radius: 16px; }}"
        )


def problem_label() -> QLabel:
    """Return the text that says what went wrong, hidden until something did."""
    label = Sentence()
    label.setAccessibleName("What went wrong")
    label.hide()
    return label


def problem_style(theme: Theme) -> str:
    """Return the style of the text that says what went wrong."""
    return f"color: {theme.bad_text}; background: {theme.bad_soft}; border-radius: 8px; padding: 12px;"
