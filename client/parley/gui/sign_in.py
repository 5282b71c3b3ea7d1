"""The sign-in page: cluster, account, and what went wrong."""

import os
from itertools import pairwise
from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from parley import BadInputError, check_account_name, parse_endpoints
from parley.gui.card import Card, problem_label, problem_style
from parley.gui.commands import ClusterAddress, SignInForm
from parley.gui.controls import CheckBox
from parley.gui.direction import Sentence, apart
from parley.gui.icons import AppMark
from parley.gui.password_field import PasswordField
from parley.gui.theme import GRID, Theme, scaled_font


class SignInPage(QWidget):
    """The fields for hosts, certificate, account and password."""

    asked = Signal(object)
    cancelled = Signal()
    settled = Signal()  # it waits for the person

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme = theme
        self._busy = False
        self.hosts = self._field("Hosts", "localhost:7600, or 10.0.0.5:7601-7603")
        self.ca = self._field("Certificate of the cluster", "ca.pem, from the operator of the cluster")
        self.account = self._field("Account", "your name, for example ann")
        self.password = PasswordField()
        self.insecure = CheckBox("Test cluster without encryption (--insecure)")
        self.insecure.hide()
        self.end_oldest = CheckBox("Sign out the device that signed in longest ago")
        self.end_oldest.hide()
        self.invitation = self._field("Invitation", "the code of your invitation")
        self.invited = self._invitation_row()
        self.browse = QPushButton(apart("Choose…"))
        self.browse.setAccessibleName("Choose the certificate file")
        self.submit = QPushButton("Sign in")
        self.submit.setProperty("primary", True)
        self.submit.setDefault(True)
        self.create_button = QPushButton("Create account")
        self.cancel = QPushButton("Cancel")
        self.cancel.setShortcut(QKeySequence("Escape"))
        self.cancel.hide()
        self.problem = problem_label()
        self._compose()
        self.browse.clicked.connect(self._choose_ca)
        self.submit.clicked.connect(lambda: self._ask(register=False))
        self.create_button.clicked.connect(lambda: self._ask(register=True))
        self.cancel.clicked.connect(self._cancel)
        for field in (self.hosts, self.ca, self.account, self.password):
            field.returnPressed.connect(lambda: self._ask(register=bool(self.create_button.property("primary"))))
        for field in (self.invitation, self.password.repeated):
            field.returnPressed.connect(lambda: self._ask(register=True))
        self.restyle(theme)

    # ---- from outside

    def fill(self, address: ClusterAddress, account: str) -> None:
        """Fill in the last sign-in and focus the first empty field."""
        self.hosts.setText(address.hosts)
        self.ca.setText(str(address.ca) if address.ca is not None else "")
        self.insecure.setChecked(address.insecure and (address.insecure_network or _is_this_machine(address.hosts)))
        self.insecure.setVisible(address.insecure)
        self.account.setText(account)
        self.focus_first()

    def focus_first(self) -> None:
        """Focus the first empty field."""
        fields = (self.hosts, self.account, self.password)
        next((field for field in fields if not field.text()), self.password).setFocus()

    def offer_to_end_oldest(self, text: str) -> None:
        """Show that the account has no device to spare, and offer to sign one out."""
        self.show_problem(text)
        self.end_oldest.show()

    def ask_for_invitation(self, text: str) -> None:
        """Show that the cluster creates accounts by invitation, and the field for the code."""
        self.show_problem(text)
        self.invited.show()
        self.invitation.selectAll()
        self.invitation.setFocus()

    def prefer_new_account(self, preferred: bool) -> None:
        """Make it the main button, and what Enter does, to create an account; or to sign in."""
        for button, is_main in ((self.submit, not preferred), (self.create_button, preferred)):
            button.setProperty("primary", is_main)
            button.setDefault(is_main)
            button.style().polish(button)

    def forget_secrets(self) -> None:
        """Empty the fields that nobody has to see again."""
        self.password.forget()
        self.invitation.clear()
        self.invited.hide()

    def show_problem(self, text: str) -> None:
        """Show what went wrong. An empty text hides it."""
        self.set_busy(False)
        self.problem.setText(text)
        self.problem.setVisible(bool(text))
        if text:
            self.password.focus_wrong()
            self.card.reveal(self.problem)
        self.settled.emit()

    def set_busy(self, busy: bool) -> None:
        """Disable the page while the cluster is asked."""
        self._busy = busy
        self.submit.setText("Signing in…" if busy else "Sign in")
        for widget in (self.submit, self.create_button):
            widget.setEnabled(not busy)
        self.cancel.setVisible(busy)

    def restyle(self, theme: Theme) -> None:
        self._theme = theme
        self.card.restyle(theme)
        self.subtitle.setStyleSheet(f"color: {theme.quiet};")
        self.problem.setStyleSheet(problem_style(theme))

    # ---- inside

    @staticmethod
    def _field(name: str, example: str) -> QLineEdit:
        field = QLineEdit()
        field.setAccessibleName(name)
        field.setPlaceholderText(example)
        return field

    def _compose(self) -> None:
        self.card = Card(self)
        title = Sentence("Parley", wraps=False)
        title.setFont(scaled_font(self.font(), 1.7, bold=True))
        self.subtitle = Sentence("Sign in to your cluster. One of its hosts is enough. Parley learns the others.")
        heading = QHBoxLayout()
        heading.setSpacing(2 * GRID)
        heading.addWidget(AppMark())
        heading.addWidget(title, 1)
        ca_row = QHBoxLayout()
        ca_row.setContentsMargins(0, 0, 0, 0)
        ca_row.setSpacing(GRID)
        ca_row.addWidget(self.ca, 1)
        ca_row.addWidget(self.browse)
        form = QVBoxLayout()
        form.setSpacing(2 * GRID)
        form.addLayout(self._labelled("Hosts", self.hosts))
        ca = QWidget()
        ca.setLayout(ca_row)
        ca.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        form.addLayout(self._labelled("Certificate (CA)", self.ca, ca))
        form.addWidget(self.insecure)
        form.addLayout(self._labelled("Account", self.account))
        form.addLayout(self._labelled("Password", self.password, self.password.row))
        form.addWidget(self.end_oldest)
        form.addWidget(self.invited)
        inner = self.card.rows()
        inner.addLayout(heading)
        inner.addWidget(self.subtitle)
        inner.addLayout(form)
        inner.addWidget(self.problem)
        inner.addSpacing(GRID)
        inner.addLayout(self._buttons())
        about_cluster = (self.hosts, self.ca, self.browse, self.insecure)
        secrets = (self.password, self.password.look, self.password.repeated, self.end_oldest, self.invitation)
        chain = (*about_cluster, self.account, *secrets, self.cancel, self.submit, self.create_button)
        for earlier, later in pairwise(chain):
            QWidget.setTabOrder(earlier, later)

    def _buttons(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setSpacing(GRID)
        row.addWidget(self.create_button)
        row.addStretch(1)
        row.addWidget(self.cancel)
        row.addWidget(self.submit)
        return row

    def _labelled(self, text: str, field: QWidget, row: QWidget | None = None) -> QVBoxLayout:
        label = Sentence(text, wraps=False)
        label.setBuddy(field)
        label.setFont(scaled_font(self.font(), 0.92, bold=True))
        column = QVBoxLayout()
        column.setSpacing(GRID // 2)
        column.addWidget(label)
        column.addWidget(row or field)
        return column

    def _invitation_row(self) -> QWidget:
        """Return the field of the invitation with its label, hidden until the cluster asks for one."""
        column = self._labelled("Invitation", self.invitation)
        column.setContentsMargins(0, 0, 0, 0)
        row = QWidget()
        row.setLayout(column)
        row.hide()
        return row

    def _choose_ca(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(self, "Certificate of the cluster", self.ca.text(), "*.pem *.crt (*)")
        if chosen:
            self.ca.setText(chosen)

    def _ask(self, *, register: bool) -> None:
        if self._busy:
            return
        try:
            form = self._checked(register=register)
        except BadInputError as error:
            self.show_problem(str(error))
            return
        self.show_problem("")
        self.set_busy(True)
        self.end_oldest.setChecked(False)
        self.end_oldest.hide()
        self.asked.emit(form)

    def _cancel(self) -> None:
        self.set_busy(False)
        self.cancelled.emit()

    def _checked(self, *, register: bool) -> SignInForm:
        """Return the input, or raise BadInputError that names what is wrong."""
        hosts, ca = self.hosts.text().strip(), self.ca.text().strip()
        if not parse_endpoints([hosts]):
            raise BadInputError("Name a node, for example localhost:7600.")
        ca_file = os.path.expanduser(ca)
        if ca and not os.path.isfile(ca_file):
            raise BadInputError(f"There is no file {ca}. Choose the ca.pem of the cluster.")
        account = check_account_name(self.account.text().strip())
        password = self.password.text()
        if not password:
            raise BadInputError("The password is missing.")
        if register:
            self.password.check_new()
        insecure = self.insecure.isChecked()
        address = ClusterAddress(hosts, Path(ca_file) if ca else None, insecure, insecure)
        code = self.invitation.text().strip()
        return SignInForm(address, account, password, register, self.end_oldest.isChecked(), code)


def _is_this_machine(hosts: str) -> bool:
    try:
        return all(endpoint.is_loopback for endpoint in parse_endpoints([hosts]))
    except BadInputError:
        return False
