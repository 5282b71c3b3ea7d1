"""The keys of the window: the shortcuts of the whole window, and the list of all keys on F1."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtWidgets import QGridLayout, QPushButton, QWidget

from parley.gui.direction import Sentence
from parley.gui.plain_dialog import PlainDialog
from parley.gui.theme import GRID

if TYPE_CHECKING:
    from parley.gui.main_window import MainWindow

IN_WINDOW = (
    ("F1", "Show this list"),
    ("Ctrl+,", "Settings"),
    ("Ctrl+N", "New conversation"),
    ("Ctrl+K", "Go to a conversation"),
    ("Ctrl+L", "To the list of conversations"),
    ("Alt+Up", "The conversation above"),
    ("Alt+Down", "The conversation below"),
    ("Ctrl+Shift+A", "Put away or bring back the open conversation"),
    ("Ctrl+Shift+Del", "Remove the open conversation, after a question"),
    ("Ctrl+R", "Try again to send what failed"),
    ("Ctrl+Q", "Close the window"),
)
ELSEWHERE = (
    ("Ctrl+Shift+L", "Lock the window"),
    ("Alt+Left", "In a narrow window: back to the list"),
    ("Enter", "Send, or open the chosen conversation"),
    ("Shift+Enter", "A new line in the message"),
    ("@", "In a channel: mention a member"),
    ("Up", "In an empty field: edit the last waiting message"),
    ("F2", "Edit the chosen message"),
    ("Delete", "Do not send the chosen message"),
    ("Ctrl+C", "Copy the chosen message"),
    ("Esc", "Back to the field"),
)


def make_shortcuts(window: "MainWindow", step: Callable[[int], None]) -> None:
    """Give the window its keys. `step` opens the conversation above or below."""
    doing: dict[str, Callable[[], object]] = {
        "F1": lambda: show_shortcuts(window),
        "Ctrl+,": lambda: show_settings(window),
        "Ctrl+N": window.conversation_finder.begin_conversation,
        "Ctrl+K": window.conversation_finder.switch_conversation,
        "Ctrl+L": window.chat.list.setFocus,
        "Alt+Up": lambda: step(-1),
        "Alt+Down": lambda: step(1),
        "Ctrl+Shift+A": window.row_actions.put_away.change_open,
        "Ctrl+Shift+Del": window.row_actions.removal.ask_open,
        "Ctrl+R": window.row_actions.retry,
        "Ctrl+Q": window.close,
    }
    for keys, _ in IN_WINDOW:
        QShortcut(QKeySequence(keys), window).activated.connect(doing[keys])


def show_shortcuts(window: QWidget) -> None:
    """Show the list of keys, unless it is open."""
    if window.findChild(ShortcutsDialog) is None:
        ShortcutsDialog(window).open()


def show_settings(window: "MainWindow") -> None:
    """Show the settings. They need somebody who is signed in, because they hold the presence of the account."""
    if window.chat.isVisible():
        window.account_dialogs.show_settings(window.settings, window.colours)


class ShortcutsDialog(PlainDialog):
    """All keys and what they do."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Shortcuts", parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        grid = QGridLayout()
        grid.setHorizontalSpacing(2 * GRID)
        for at, (keys, words) in enumerate((*IN_WINDOW, *ELSEWHERE)):
            grid.addWidget(Sentence(keys, wraps=False), at, 0)
            grid.addWidget(Sentence(words, wraps=False), at, 1)
        grid.setColumnStretch(1, 1)
        self.column.addLayout(grid)
        close = QPushButton("Close")
        close.setDefault(True)
        close.clicked.connect(self.accept)
        self.end_with(close)
        self.setMinimumSize(
            self.minimumSize().expandedTo(self.column.minimumSize())
        )  # with large text, more than usual
