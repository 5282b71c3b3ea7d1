"""The status bar: a shape and a sentence. Its height is the same for all texts, so nothing jumps."""

import time
from collections.abc import Callable

from PySide6.QtCore import QRectF, Qt, QTimer, Signal
from PySide6.QtGui import QMouseEvent, QPainter, QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QWidget

from parley import ClientState
from parley.chat import StatusLevel, StatusLine, status_line
from parley.gui.elided_label import ElidedLabel
from parley.gui.icons import draw_status_level
from parley.gui.theme import GRID, Theme, scaled_font

REDRAW_INTERVAL_MS = 1000


class _Shape(QWidget):
    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.theme = theme
        self.level = StatusLevel.BUSY
        self.setFixedSize(12, 12)

    def paintEvent(self, event: object) -> None:  # noqa: N802
        color = {StatusLevel.GOOD: "accent", StatusLevel.BUSY: "warn", StatusLevel.BAD: "bad"}[self.level]
        painter = QPainter(self)
        draw_status_level(painter, self.level, QRectF(0, 0, 12, 12), self.theme.color(color))
        painter.end()


class StatusBar(QWidget):
    """The bar at the bottom of the window. A click asks for more."""

    asked = Signal()

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("status")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setFixedHeight(4 * GRID)
        self._theme = theme
        self._line = StatusLine(StatusLevel.BUSY, "")
        self._read_state: Callable[[], ClientState] = ClientState
        self._read_note: Callable[[], str] = str
        self._waiting_since = 0.0
        self.shape = _Shape(theme)
        self.label = ElidedLabel()
        self.label.setAccessibleName("State of the cluster")
        row = QHBoxLayout(self)
        row.setContentsMargins(2 * GRID, 0, 2 * GRID, 0)
        row.setSpacing(GRID)
        row.addWidget(self.shape)
        row.addWidget(self.label, 1)
        self.restyle(theme)

    @property
    def text(self) -> str:
        """Return the text that is shown."""
        return self._line.text

    def follow(self, read_state: Callable[[], ClientState], read_note: Callable[[], str]) -> None:
        """Draw the state that `read_state` returns and what is to be noted, from now on once a second."""
        self._read_state, self._read_note = read_state, read_note
        clock = QTimer(self)
        clock.setInterval(REDRAW_INTERVAL_MS)
        clock.timeout.connect(self.draw)
        clock.start()

    def draw(self) -> None:
        """Draw the present state."""
        state, now = self._read_state(), time.monotonic()
        if not state.waiting:
            self._waiting_since = now
        waited_s = now - self._waiting_since
        self._show_line(status_line(state, state.last_heard, now, waited_s, note=self._read_note()))

    def _show_line(self, line: StatusLine) -> None:
        if line == self._line:
            return
        level_changed = line.level is not self._line.level
        self._line = line
        self.label.setText(line.text)
        self._name_details()
        self.setAccessibleName(line.text)
        if level_changed:
            self.restyle(self._theme)

    def _name_details(self) -> None:
        """Offer the details, and before them the text if it is cut off."""
        cut = self.label.shown != self._line.text
        self.setToolTip("\n".join(part for part in (self._line.text if cut else "", self._line.detail) if part))

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        """Offer the whole text where it does not fit."""
        super().resizeEvent(event)
        self._name_details()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Ask for the panel of the cluster."""
        if event.button() is Qt.MouseButton.LeftButton:
            self.asked.emit()

    def restyle(self, theme: Theme) -> None:
        self._theme = theme
        self.shape.theme, self.shape.level = theme, self._line.level
        self.shape.update()
        self.label.setFont(scaled_font(self.font(), 0.9))
        ground, text = {
            StatusLevel.GOOD: (theme.side, theme.quiet),
            StatusLevel.BUSY: (theme.warn_soft, theme.warn_text),
            StatusLevel.BAD: (theme.bad_soft, theme.bad_text),
        }[self._line.level]
        self.setStyleSheet(
            f"#status {{ background: {ground}; border-top: 1px solid {theme.border}; }} QLabel {{ color: {text}; }}"
        )
