"""What a locked window shows: whose it is, and the field for the password."""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from parley.gui.icons import app_icon
from parley.gui.password_field import PasswordField
from parley.gui.theme import GRID, Theme, scaled_font

CARD_WIDTH = 56 * GRID


class LockPage(QWidget):
    """The page. It knows nothing of the cluster."""

    unlock_asked = Signal(str)
    change_asked = Signal()

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.title = QLabel()
        self.title.setTextFormat(Qt.TextFormat.PlainText)
        self.title.setFont(scaled_font(self.font(), 1.4, bold=True))
        self.note = QLabel(
            "Messages still arrive, and what you sent still goes out. Nothing is shown or marked as read."
        )
        self.note.setWordWrap(True)
        self.password = PasswordField()
        self.password.setPlaceholderText("Password")
        self.password.returnPressed.connect(self._ask)
        self.problem = QLabel()
        self.problem.setTextFormat(Qt.TextFormat.PlainText)
        self.problem.setWordWrap(True)
        self.problem.setAccessibleName("What went wrong")
        self.problem.hide()
        self.unlock = QPushButton("Unlock")
        self.unlock.setProperty("primary", True)
        self.unlock.clicked.connect(self._ask)
        self.change = QPushButton("Use another account")
        self.change.clicked.connect(self.change_asked)
        self._compose()
        self.restyle(theme)

    def begin(self, account: str) -> None:
        """Show that the window of this account is locked."""
        self.title.setText(f"Locked: {account}")
        self.show_problem("")
        self.password.forget()
        self.password.setFocus()

    def show_problem(self, text: str) -> None:
        """Show why the window stays locked, and take another password."""
        self.unlock.setEnabled(True)
        self.unlock.setText("Unlock")
        self.problem.setText(text)
        self.problem.setVisible(bool(text))
        self.password.selectAll()
        self.password.setFocus()

    def restyle(self, theme: Theme) -> None:
        self.card.setStyleSheet(
            f"#card {{ background: {theme.raised}; border: 1px solid {theme.border}; border-radius: 16px; }}"
        )
        self.note.setStyleSheet(f"color: {theme.quiet};")
        self.problem.setStyleSheet(
            f"color: {theme.bad_text}; background: {theme.bad_soft}; border-radius: 8px; padding: 12px;"
        )

    def _ask(self) -> None:
        password = self.password.text()
        if password and self.unlock.isEnabled():
            self.show_problem("")
            self.unlock.setEnabled(False)
            self.unlock.setText("Checking…")
            self.unlock_asked.emit(password)

    def _compose(self) -> None:
        self.card = QFrame()
        self.card.setObjectName("card")
        self.card.setFixedWidth(CARD_WIDTH)
        icon = QLabel()
        icon.setPixmap(app_icon().pixmap(48, 48))
        heading = QHBoxLayout()
        heading.setSpacing(2 * GRID)
        heading.addWidget(icon)
        heading.addWidget(self.title, 1)
        buttons = QHBoxLayout()
        buttons.addWidget(self.change)
        buttons.addStretch(1)
        buttons.addWidget(self.unlock)
        inner = QVBoxLayout(self.card)
        inner.setContentsMargins(4 * GRID, 4 * GRID, 4 * GRID, 4 * GRID)
        inner.setSpacing(2 * GRID)
        inner.addLayout(heading)
        for part in (self.note, self.password.row, self.problem):
            inner.addWidget(part)
        inner.addLayout(buttons)
        row = QHBoxLayout()
        row.addStretch(1)
        row.addWidget(self.card)
        row.addStretch(1)
        outer = QVBoxLayout(self)
        outer.addStretch(1)
        outer.addLayout(row)
        outer.addStretch(1)
