"""The dialog in which a person changes the name that others see beside the account name."""

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QLineEdit, QPushButton, QWidget

from parley.gui.direction import Sentence
from parley.gui.plain_dialog import PlainDialog

MEANING = "Others see it beside {account}, which stays as it is. Leave it empty to have none."


class NameDialog(PlainDialog):
    """One field. It can be changed once the cluster has told the present name."""

    asked = Signal(str)

    def __init__(self, account: str, parent: QWidget | None = None) -> None:
        super().__init__("Display name", parent)
        label, self.field = Sentence("Display name", wraps=False), QLineEdit()
        self.field.setAccessibleName("Display name")
        self.field.setEnabled(False)
        label.setBuddy(self.field)
        self.column.addWidget(label)
        self.column.addWidget(self.field)
        self.submit = QPushButton("Change")
        self.submit.setDefault(True)
        self.submit.setEnabled(False)
        self.submit.clicked.connect(self._ask)
        self._is_shown = False
        self.note.setText(MEANING.format(account=account))
        self.end_with(self.submit)

    def show_name(self, name: str) -> None:
        """Show the present name, to be changed."""
        self._is_shown = True
        self.field.setText(name)
        self._enable()
        self.field.selectAll()

    def tell(self, text: str) -> None:
        """Say why the name was not told or not changed. A name that was shown can be changed again."""
        self.note.setText(text)
        if self._is_shown:
            self._enable()

    def _enable(self) -> None:
        self.field.setEnabled(True)
        self.submit.setEnabled(True)
        self.field.setFocus()

    def _ask(self) -> None:
        self.submit.setEnabled(False)
        self.note.setText("Changing…")
        self.asked.emit(self.field.text().strip())
