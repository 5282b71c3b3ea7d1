"""How an administrator invites somebody in the panel of the cluster, and what that person is to be sent."""

import time
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtGui import QFontDatabase, QGuiApplication
from PySide6.QtWidgets import QFileDialog, QLabel, QLineEdit, QPushButton, QWidget

from parley import ParleyError
from parley.chat import line_time, local_date, safe_name
from parley.gui.commands import Commands
from parley.gui.direction import Sentence
from parley.gui.field_row import FieldRow, named_field
from parley.gui.invitation import in_lines
from parley.gui.plain_dialog import PlainDialog
from parley.gui.theme import GRID
from parley.inviting import SUFFIX, InvitationFile, new_file

ABOUT = (
    "This link is an invitation for {name}. It works once, until {end}. Who has it can join: send it where only {name} "
    "reads it. It is opened with Parley, or with: parley join"
)
FINGERPRINT = "Tell {name} the fingerprint of the CA in another way (SHA-256):"
STAYS = "The link stays valid."
WITHDRAWN = "The invitation is taken back. Nobody can join with it any more, unless somebody has already."


class InviteRow(FieldRow):
    """The name for a new person, and the button."""

    def __init__(self, commands: Callable[[], Commands], tell: Callable[[str], None]) -> None:
        """`commands` returns the object that carries out the commands, `tell` says what is under way."""
        super().__init__()
        self.name, self.invite = named_field("Account of a new person"), QPushButton("Invite")
        self.fill(self.name, self.invite, on_enter=self.invite)
        self._commands = commands
        self._tell = tell
        self.invite.clicked.connect(self._ask)
        self.name.textChanged.connect(lambda: self.invite.setEnabled(bool(self.name.text().strip())))
        self.invite.setEnabled(False)

    def _ask(self) -> None:
        name = self.name.text().strip()
        self._tell(f"Inviting {safe_name(name)}…")
        self._commands().invite(name)


class InvitationDialog(PlainDialog):
    """The link, to be copied or saved as a file, or taken back."""

    def __init__(self, invitation: InvitationFile, withdraw: Callable[[], None], parent: QWidget | None) -> None:
        super().__init__(f"Invitation for {safe_name(invitation.account)}", parent)
        self._invitation = invitation
        self._withdraw = withdraw
        self.is_withdrawing = False
        name, today = safe_name(invitation.account), local_date(time.time_ns() // 1_000_000)
        self.about = Sentence(ABOUT.format(name=name, end=line_time(invitation.expires_at_ms, today)))
        self.link = QLineEdit(invitation.to_link())
        self.link.setReadOnly(True)
        self.link.setCursorPosition(0)
        self.link.setAccessibleName("Link of the invitation")
        self.column.addWidget(self.about)
        self.column.addWidget(self.link)
        self._add_fingerprints(name)
        self.take_back, self.save, self.copy, leave = (
            QPushButton(words) for words in ("Take back", "Save as a file…", "Copy", "Close")
        )
        self.take_back.clicked.connect(self._take_back)
        self.save.clicked.connect(self._save)
        self.copy.clicked.connect(self._copy)
        leave.clicked.connect(self.accept)
        self.copy.setDefault(True)
        self.setMinimumWidth(60 * GRID)
        self.end_with(self.take_back, self.save, self.copy, leave)

    def _add_fingerprints(self, name: str) -> None:
        self.fingerprints = QLabel("\n".join(map(in_lines, self._invitation.fingerprints)))
        if self._invitation.fingerprints:
            self.column.addWidget(Sentence(FINGERPRINT.format(name=name)))
            self.fingerprints.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
            self.fingerprints.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            self.fingerprints.setAccessibleName("Fingerprint of the CA")
            self.column.addWidget(self.fingerprints)

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(self.link.text())
        self.note.setText("The link is in the clipboard.")

    def _save(self) -> None:
        name = f"{self._invitation.account}{SUFFIX}"
        chosen, _ = QFileDialog.getSaveFileName(
            self, "Save the invitation", name, f"*{SUFFIX}", options=QFileDialog.Option.DontConfirmOverwrite
        )
        if not chosen:
            return
        path = Path(chosen if chosen.lower().endswith(SUFFIX) else chosen + SUFFIX)
        try:
            with new_file(path, STAYS) as fill:
                fill(self._invitation)
        except ParleyError as error:
            self.note.setText(error.text)
        else:
            self.note.setText(f"{path} was written. Only you can read it.")

    def _take_back(self) -> None:
        self.is_withdrawing = True
        self.take_back.setEnabled(False)
        self.note.setText("Taking back…")
        self._withdraw()

    def withdrawn(self) -> None:
        """Show that nobody can join any more."""
        self.is_withdrawing = False
        for widget in (self.link, self.copy, self.save):
            widget.setEnabled(False)
        self.note.setText(WITHDRAWN)

    def tell(self, text: str) -> None:
        """Say why it was not taken back."""
        self.is_withdrawing = False
        self.take_back.setEnabled(True)
        self.note.setText(text)
