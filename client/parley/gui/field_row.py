"""Fields and buttons in one row of a dialog."""

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QPushButton, QWidget


def named_field(words: str) -> QLineEdit:
    """Return a field that says what belongs into it."""
    field = QLineEdit()
    field.setPlaceholderText(words)
    field.setAccessibleName(words)
    return field


class FieldRow(QWidget):
    """A row. Enter in a field closes no dialog."""

    def __init__(self) -> None:
        super().__init__()
        self._on_enter: QPushButton | None = None

    def fill(self, *parts: QLineEdit | QPushButton, on_enter: QPushButton | None = None) -> None:
        """Add the parts, in their order. Enter presses `on_enter`, if there is such a button."""
        self._on_enter = on_enter
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        for part in parts:
            row.addWidget(part)
            if isinstance(part, QPushButton):
                part.setAutoDefault(False)

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """Take Enter."""
        if event.key() not in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            super().keyPressEvent(event)
        elif self._on_enter is not None:
            self._on_enter.click()
