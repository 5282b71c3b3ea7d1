"""A command for a terminal, as a dialog shows it."""

from PySide6.QtCore import QObject
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QGridLayout, QLineEdit, QPushButton

from parley.gui.direction import Sentence


class CommandLine(QObject):
    """A command for a terminal: its purpose, its text, and a button that copies it."""

    def __init__(self, grid: QGridLayout, row: int) -> None:
        super().__init__()
        self.label, self.field, self.copy = Sentence(wraps=False), QLineEdit(), QPushButton("Copy")
        self.label.setBuddy(self.field)
        self.field.setReadOnly(True)
        self.copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(self.field.text()))
        for column, widget in enumerate((self.label, self.field, self.copy)):
            grid.addWidget(widget, row, column)

    def show_command(self, purpose: str, command: str) -> None:
        """Show a command. Without one, nothing is visible."""
        self.label.setText(purpose)
        self.field.setAccessibleName(f"{purpose}: command for a terminal")
        self.copy.setAccessibleName(f"Copy the command: {purpose}")
        if command != self.field.text():
            self.field.setText(command)
            self.field.setCursorPosition(0)
        for widget in (self.label, self.field, self.copy):
            widget.setVisible(bool(command))
