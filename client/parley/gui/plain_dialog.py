"""The frame of a dialog: a heading, a text below that says how it went, and buttons."""

from PySide6.QtWidgets import QDialog, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from parley.gui.direction import Sentence
from parley.gui.theme import GRID, scaled_font


class PlainDialog(QDialog):
    """A dialog whose parts stand in one column, in the order in which they are added."""

    def __init__(self, title: str, parent: QWidget | None) -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self.setMinimumWidth(52 * GRID)
        heading = Sentence(title, wraps=False)
        heading.setFont(scaled_font(self.font(), 1.2, bold=True))
        self.note = Sentence()
        self.note.setAccessibleName("How it went")
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(3 * GRID, 3 * GRID, 3 * GRID, 2 * GRID)
        self.column.setSpacing(GRID)
        self.column.addWidget(heading)

    def end_with(self, *buttons: QPushButton) -> None:
        """Add the note and the buttons."""
        self.column.addWidget(self.note)
        row = QHBoxLayout()
        row.addStretch(1)
        for button in buttons:
            row.addWidget(button)
        self.column.addLayout(row)
