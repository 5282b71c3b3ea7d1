"""What a locked window shows: whose it is, and the field for the password."""

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QPushButton, QWidget

from parley.gui.card import Card, problem_label, problem_style
from parley.gui.direction import Sentence
from parley.gui.icons import AppMark
from parley.gui.password_field import PasswordField
from parley.gui.theme import GRID, Theme, scaled_font


class LockPage(QWidget):
    """The page. It knows nothing of the cluster."""

    unlock_asked = Signal(str)
    change_asked = Signal()

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.title = Sentence(wraps=False)
        self.title.setFont(scaled_font(self.font(), 1.4, bold=True))
        self.note = Sentence(
            "Messages still arrive, and what you sent still goes out. Nothing is shown or marked as read."
        )
        self.password = PasswordField()
        self.password.setPlaceholderText("Password")
        self.password.returnPressed.connect(self._ask)
        self.problem = problem_label()
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
        self.card.reveal(self.problem if text else self.password)
        self.password.selectAll()
        self.password.setFocus()

    def restyle(self, theme: Theme) -> None:
        self.card.restyle(theme)
        self.note.setStyleSheet(f"color: {theme.quiet};")
        self.problem.setStyleSheet(problem_style(theme))

    def _ask(self) -> None:
        password = self.password.text()
        if password and self.unlock.isEnabled():
            self.show_problem("")
            self.unlock.setEnabled(False)
            self.unlock.setText("Checking…")
            self.unlock_asked.emit(password)

    def _compose(self) -> None:
        self.card = Card(self)
        heading = QHBoxLayout()
        heading.setSpacing(2 * GRID)
        heading.addWidget(AppMark())
        heading.addWidget(self.title, 1)
        buttons = QHBoxLayout()
        buttons.addWidget(self.change)
        buttons.addStretch(1)
        buttons.addWidget(self.unlock)
        inner = self.card.rows()
        inner.addLayout(heading)
        for part in (self.note, self.password.row, self.problem):
            inner.addWidget(part)
        inner.addLayout(buttons)
