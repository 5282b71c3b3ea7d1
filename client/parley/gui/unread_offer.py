"""A bar above a conversation with many unread messages: to the first of them, to the latest, or mark all as read."""

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPushButton, QWidget

from parley.chat import plural
from parley.gui.direction import Sentence
from parley.gui.theme import GRID

OFFER_FROM = 100


class UnreadOffer(QFrame):
    """The bar. It is hidden while fewer than OFFER_FROM messages are unread."""

    first_asked = Signal()
    latest_asked = Signal()
    all_read = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName("Unread messages")
        self._count = Sentence(wraps=False)
        row = QHBoxLayout(self)
        row.setContentsMargins(3 * GRID, 0, 3 * GRID, 0)
        row.setSpacing(GRID)
        row.addWidget(self._count, 1)
        for name, text, asked in (
            ("first_unread", "First unread", self.first_asked),
            ("to_latest", "Latest", self.latest_asked),
            ("all_read", "Mark all as read", self.all_read),
        ):
            button = QPushButton(text)
            button.setObjectName(name)
            button.setProperty("flat", True)
            button.clicked.connect(asked)
            row.addWidget(button)
        self.hide()

    def draw(self, unread: int) -> None:
        """Show how many messages are unread."""
        self._count.setText(plural(unread, "new message"))
        self.setVisible(unread >= OFFER_FROM)
