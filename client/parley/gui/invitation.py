"""The sign-in page for somebody who opened an invitation: all is filled in but the password.

Hosts and CA cannot be typed over, because the code is meant for this cluster alone. No context is stored before the
person has asked for the account.
"""

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt, QTimer
from PySide6.QtGui import QFontDatabase
from PySide6.QtWidgets import QLabel, QVBoxLayout

from parley import ParleyError
from parley.gui.commands import ClusterAddress, Invited, SignInForm

if TYPE_CHECKING:
    from parley.gui.main_window import MainWindow

PAIRS_IN_LINE = 16
BELOW_SUBTITLE = 2


class InvitationOnPage(QObject):
    """Fills the page in, and stores the cluster when the person goes on."""

    def __init__(self, window: "MainWindow", address: ClusterAddress, invited: Invited) -> None:
        page = window.sign_in
        super().__init__(page)
        self._window = window
        self._invited = invited
        self._trouble = ""
        self._usual = page.subtitle.text()
        page.fill(address, invited.account)
        page.subtitle.setTextFormat(Qt.TextFormat.PlainText)
        page.subtitle.setText(invited.about)
        self._fingerprint = QLabel("\n".join(in_lines(one) for one in invited.fingerprints))
        self._fingerprint.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self._fingerprint.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._fingerprint.setAccessibleName("Fingerprint of the CA")
        layout = page.card.layout()
        if isinstance(layout, QVBoxLayout):
            layout.insertWidget(BELOW_SUBTITLE, self._fingerprint)
        self._fingerprint.setVisible(bool(invited.fingerprints))
        self._fix(True)
        page.invitation.setText(invited.code)
        page.password.ask_for_new()
        page.asked.connect(self._keep)
        window.pages.currentChanged.connect(self._signed_in)

    def _fix(self, is_invited: bool) -> None:
        page = self._window.sign_in
        labels = [label for label in page.card.findChildren(QLabel) if label.buddy() in (page.hosts, page.ca)]
        for part in (page.hosts, page.ca.parentWidget(), *labels):
            if part is not None:
                part.setVisible(not is_invited)
        page.prefer_new_account(is_invited)

    def _keep(self, form: SignInForm) -> None:
        try:
            self._invited.keep(form.account)
        except ParleyError as error:
            self._trouble = str(error)

    def _signed_in(self) -> None:
        """Make the page the usual one again. The next person who signs in here was not invited."""
        page = self._window.sign_in
        if self._window.pages.currentWidget() is page:
            return
        self._window.pages.currentChanged.disconnect(self._signed_in)
        page.asked.disconnect(self._keep)
        page.subtitle.setText(self._usual)
        self._fingerprint.setParent(None)
        self._fix(False)
        if self._trouble:
            QTimer.singleShot(0, lambda: self._window.chat.tell(self._trouble))  # the page is still being drawn
        self.deleteLater()


def in_lines(fingerprint: str) -> str:
    """Return a fingerprint in two lines, as it is compared."""
    pairs = fingerprint.split(":")
    return ":\n".join(":".join(pairs[at : at + PAIRS_IN_LINE]) for at in range(0, len(pairs), PAIRS_IN_LINE))


def show_invitation(window: "MainWindow", address: ClusterAddress, invited: Invited) -> None:
    """Show the sign-in page with an invitation."""
    InvitationOnPage(window, address, invited)
