"""The part of the panel of the cluster in which an administrator suspends an account, or releases it."""

from collections.abc import Callable

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QMessageBox, QPushButton

from parley.chat import safe_name
from parley.gui.commands import Commands
from parley.gui.field_row import FieldRow, named_field

SUSPENDED_TEXT = (
    "{name} is suspended and signed out everywhere. Nothing of it is deleted. What others send to it waits until it is "
    "released."
)
RELEASED_TEXT = "{name} is not suspended, and can sign in."


def question_text(name: str) -> str:
    """Return what is asked before an account is suspended."""
    return (
        f"Suspend {name}? It is signed out everywhere, and cannot sign in until an administrator releases it. Nothing "
        "of it is deleted. Others may still write to it. What waits on its devices stays there."
    )


class SuspensionRow(FieldRow):
    """The name of an account, a reason, and the two buttons."""

    def __init__(self, commands: Callable[[], Commands], tell: Callable[[str], None]) -> None:
        """`commands` returns the object that carries out the commands, `tell` says what is under way."""
        super().__init__()
        self.name, self.reason = named_field("Account"), named_field("Reason, for other administrators")
        self.suspend, self.release = QPushButton("Suspend"), QPushButton("Release")
        self.fill(self.name, self.reason, self.suspend, self.release)
        self._commands = commands
        self._tell = tell
        self.question: QMessageBox | None = None
        self.suspend.clicked.connect(self._confirm)
        self.release.clicked.connect(lambda: self._do(suspended=False))
        self.name.textChanged.connect(self._enable)
        self._enable()

    def _enable(self) -> None:
        for button in (self.suspend, self.release):
            button.setEnabled(bool(self.name.text().strip()))

    def _confirm(self) -> None:
        if self.question is not None:
            return
        text = question_text(safe_name(self.name.text()))
        box = self.question = QMessageBox(QMessageBox.Icon.Question, "Suspend an account", text, parent=self)
        box.setTextFormat(Qt.TextFormat.PlainText)
        yes = box.addButton("Suspend", QMessageBox.ButtonRole.AcceptRole)
        no = box.addButton(QMessageBox.StandardButton.Cancel)
        box.setDefaultButton(no)
        box.setEscapeButton(no)
        box.finished.connect(lambda: self._answered(is_yes=box.clickedButton() is yes))
        box.open()

    def _answered(self, *, is_yes: bool) -> None:
        box, self.question = self.question, None
        if box is not None:
            box.deleteLater()
        if is_yes:
            self._do(suspended=True)

    def _do(self, *, suspended: bool) -> None:
        name = self.name.text().strip()
        self._tell(f"{'Suspending' if suspended else 'Releasing'} {safe_name(name)}…")
        self._commands().set_suspended(name, self.reason.text().strip(), suspended=suspended)
