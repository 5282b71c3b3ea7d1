"""The quiet line: a shape and a sentence, of one height whatever they say, so that nothing jumps."""

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QPainter
from PySide6.QtWidgets import QHBoxLayout, QLabel, QWidget

from parley.gui.icons import draw_mood
from parley.gui.theme import GRID, Theme, scaled_font
from parley.gui.words import Mood, StatusLine


class _Shape(QWidget):
    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.theme = theme
        self.mood = Mood.BUSY
        self.setFixedSize(12, 12)

    def paintEvent(self, event: object) -> None:  # noqa: N802
        color = {Mood.GOOD: "accent", Mood.BUSY: "warn", Mood.BAD: "bad"}[self.mood]
        painter = QPainter(self)
        draw_mood(painter, self.mood, QRectF(0, 0, 12, 12), self.theme.color(color))
        painter.end()


class StatusBar(QWidget):
    """At the foot of the window."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        """Says nothing."""
        super().__init__(parent)
        self.setObjectName("status")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setFixedHeight(4 * GRID)
        self._theme = theme
        self._line = StatusLine(Mood.BUSY, "")
        self.shape = _Shape(theme)
        self.label = QLabel()
        self.label.setTextFormat(Qt.TextFormat.PlainText)
        self.label.setAccessibleName("State of the cluster")
        row = QHBoxLayout(self)
        row.setContentsMargins(2 * GRID, 0, 2 * GRID, 0)
        row.setSpacing(GRID)
        row.addWidget(self.shape)
        row.addWidget(self.label, 1)
        self.restyle(theme)

    @property
    def text(self) -> str:
        """What it says."""
        return self._line.text

    def show_line(self, line: StatusLine) -> None:
        """Says something else."""
        if line == self._line:
            return
        mood_changed = line.mood is not self._line.mood
        self._line = line
        self.label.setText(line.text)
        self.setToolTip(line.detail)
        self.setAccessibleName(line.text)
        if mood_changed:
            self.restyle(self._theme)

    def restyle(self, theme: Theme) -> None:
        """Other colours."""
        self._theme = theme
        self.shape.theme, self.shape.mood = theme, self._line.mood
        self.shape.update()
        self.label.setFont(scaled_font(self.font(), 0.9))
        ground, text = {
            Mood.GOOD: (theme.side, theme.quiet),
            Mood.BUSY: (theme.warn_soft, theme.warn_text),
            Mood.BAD: (theme.bad_soft, theme.bad_text),
        }[self._line.mood]
        self.setStyleSheet(
            f"#status {{ background: {ground}; border-top: 1px solid {theme.border}; }} QLabel {{ color: {text}; }}"
        )
