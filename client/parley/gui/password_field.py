"""A field for a password that can be looked at, and, for a new account, asks for it a second time."""

from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from parley import BadInputError
from parley.gui.theme import GRID

MIN_PASSWORD = 8


class PasswordField(QLineEdit):
    """The field. `row` is what the page shows: the field, a button to look at it, and below it the second field."""

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("Password")
        self.repeated = QLineEdit()
        self.repeated.setAccessibleName("Password once more")
        self.repeated.setPlaceholderText("The new password once more")
        self.repeated.hide()
        self.look = QPushButton("Show")
        self.look.setCheckable(True)
        self.look.setProperty("flat", True)
        self.look.setAccessibleName("Show the password")
        self.look.toggled.connect(self._show)
        self.row = QWidget()
        self.row.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)  # never less than both fields
        first = QHBoxLayout()
        first.setSpacing(GRID)
        first.addWidget(self, 1)
        first.addWidget(self.look)
        column = QVBoxLayout(self.row)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(GRID)
        column.addLayout(first)
        column.addWidget(self.repeated)
        self._show(False)

    def forget(self) -> None:
        """Empty both fields and hide what they hold from now on."""
        self.clear()
        self.repeated.clear()
        self.repeated.hide()
        self.look.setChecked(False)

    def ask_for_new(self) -> None:
        """Show the second field at once, because a new password is asked for."""
        self.setPlaceholderText(f"a new one, at least {MIN_PASSWORD} characters")
        self.repeated.show()

    def check_new(self) -> None:
        """Raise BadInputError unless the person surely knows the new password: seen, or typed twice the same."""
        if len(self.text()) < MIN_PASSWORD:
            raise BadInputError(f"A password needs at least {MIN_PASSWORD} characters.")
        if self.look.isChecked() or self.repeated.text() == self.text():
            return
        is_first_try = self.repeated.isHidden() or not self.repeated.text()
        self.repeated.show()
        self.repeated.selectAll()
        if is_first_try:
            raise BadInputError("Type the new password once more, or show it. Then create the account.")
        raise BadInputError("The two passwords differ. Nothing was sent. Type the second one again, or show them.")

    def focus_wrong(self) -> None:
        """Focus the field that has to be typed next."""
        field = self.repeated if self.repeated.isVisible() else self
        field.selectAll()
        field.setFocus()

    def _show(self, shown: bool) -> None:
        mode = QLineEdit.EchoMode.Normal if shown else QLineEdit.EchoMode.Password
        self.setEchoMode(mode)
        self.repeated.setEchoMode(mode)
        self.look.setText("Hide" if shown else "Show")
