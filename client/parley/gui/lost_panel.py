"""The bar about messages that a restored cluster does not have any more, and the dialog that lists them."""

import time
from collections.abc import Callable, Sequence

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QFrame,
    QHBoxLayout,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from parley import LostMessage
from parley.chat import NOT_IN_CLUSTER, line_time, local_date, lost_notice, lost_parties, preview
from parley.gui.commands import Commands
from parley.gui.direction import Sentence, apart
from parley.gui.theme import GRID, Theme, scaled_font

PREVIEW = 80


class LostBar(QFrame):
    """A line above the status bar. It is visible while sent messages are lost."""

    asked = Signal()

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("lost")
        self.label = Sentence()
        self.label.setAccessibleName("Lost messages")
        self.button = QPushButton("Show them")
        self.button.setAccessibleName("Show lost messages")
        self.button.clicked.connect(self.asked)
        row = QHBoxLayout(self)
        row.setContentsMargins(2 * GRID, GRID // 2, 2 * GRID, GRID // 2)
        row.addWidget(self.label, 1)
        row.addWidget(self.button)
        self.hide()
        self.restyle(theme)

    def show_count(self, sent: int) -> None:
        """Show how many sent messages are lost. None: the bar is hidden."""
        self.label.setText(lost_notice(sent) if sent else "")
        self.setVisible(sent > 0)

    def restyle(self, theme: Theme) -> None:
        self.setStyleSheet(
            f"#lost {{ background: {theme.warn_soft}; border-top: 1px solid {theme.border}; }}"
            f" #lost QLabel {{ color: {theme.warn_text}; }}"
        )


class LostDialog(QDialog):
    """The lost messages. Chosen ones are sent again or discarded."""

    resend_asked = Signal(list)
    discard_asked = Signal(list)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Lost messages")
        self.setMinimumSize(64 * GRID, 48 * GRID)
        heading = Sentence(f"{NOT_IN_CLUSTER[0].upper()}{NOT_IN_CLUSTER[1:]}", wraps=False)
        heading.setFont(scaled_font(self.font(), 1.2, bold=True))
        self.list = QListWidget()
        self.list.setAccessibleName("Lost messages, the oldest first")
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.list.setWordWrap(True)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.itemSelectionChanged.connect(self._choose)
        self.note = Sentence()
        self.note.setAccessibleName("What can be done")
        self.resend = QPushButton("Send again")
        self.discard = QPushButton("Discard")
        self.discard.setToolTip("Remove the chosen messages from this device")
        self.all = QPushButton("Choose all")
        self.all.clicked.connect(self._choose_all)
        self.resend.clicked.connect(lambda: self.resend_asked.emit(self._ids(self._sendable())))
        self.discard.clicked.connect(lambda: self.discard_asked.emit(self._ids(self._chosen())))
        row = QHBoxLayout()
        row.addWidget(self.all)
        row.addStretch(1)
        row.addWidget(self.discard)
        row.addWidget(self.resend)
        column = QVBoxLayout(self)
        column.setContentsMargins(3 * GRID, 3 * GRID, 3 * GRID, 2 * GRID)
        column.setSpacing(GRID)
        column.addWidget(heading)
        column.addWidget(self.list, 1)
        column.addWidget(self.note)
        column.addLayout(row)
        self._choose()

    def show_messages(self, messages: Sequence[LostMessage]) -> None:
        """Show the messages as they are now. What was chosen stays chosen."""
        chosen = set(self._ids(self._chosen()))
        self.list.clear()
        for message in messages:
            item = QListWidgetItem(apart(_line(message)))
            item.setData(Qt.ItemDataRole.UserRole, message)
            item.setToolTip(preview(message.body, 10 * PREVIEW))
            self.list.addItem(item)
            item.setSelected(message.id in chosen)
        self._choose()

    def tell(self, text: str) -> None:
        """Say why something was not done."""
        self.note.setText(text)

    def _chosen(self) -> list[LostMessage]:
        found = (item.data(Qt.ItemDataRole.UserRole) for item in self.list.selectedItems())
        return [one for one in found if isinstance(one, LostMessage)]

    def _sendable(self) -> list[LostMessage]:
        return [one for one in self._chosen() if one.can_be_resent]

    @staticmethod
    def _ids(messages: Sequence[LostMessage]) -> list[int]:
        return sorted(one.id for one in messages)

    def _choose_all(self) -> None:
        self.list.selectAll()
        self.list.setFocus()

    def _choose(self) -> None:
        chosen, sendable = len(self._chosen()), len(self._sendable())
        self.resend.setEnabled(sendable > 0)
        self.discard.setEnabled(chosen > 0)
        self.all.setEnabled(self.list.count() > 0)
        self.note.setText(
            f"{sendable} of the {chosen} chosen messages can be sent again: those that this device sent, and whose "
            "recipient the cluster has."
            if chosen > sendable
            else "Choose messages. They are sent again as new ones, or discarded from this device."
        )


def _line(message: LostMessage) -> str:
    today = local_date(time.time_ns() // 1_000_000)
    at = line_time(message.sent_at_ms, today)
    return f"{at}  {lost_parties(message)}: {preview(message.body, PREVIEW)}"


class LostPanel(QObject):
    """Shows the bar, opens the dialog, and passes on what it asks for."""

    def __init__(self, parent: QWidget, theme: Theme, commands: Callable[[], Commands]) -> None:
        super().__init__(parent)
        self._window = parent
        self._commands = commands
        self._messages: tuple[LostMessage, ...] = ()
        self.bar = LostBar(theme)
        self.bar.asked.connect(self.open)
        self.dialog: LostDialog | None = None

    def show_count(self, sent: int) -> None:
        """Show how many sent messages are lost."""
        self.bar.show_count(sent)

    def show_messages(self, messages: tuple[LostMessage, ...]) -> None:
        """Show the list as it is now. An empty one closes the dialog."""
        self._messages = messages
        if self.dialog is not None and messages:
            self.dialog.show_messages(messages)
        elif self.dialog is not None:
            self.dialog.accept()

    def open(self) -> None:
        """Show the list."""
        if self.dialog is None:
            dialog = self.dialog = LostDialog(self._window)
            dialog.resend_asked.connect(self._commands().resend_lost)
            dialog.discard_asked.connect(self._commands().discard_lost)
            dialog.finished.connect(self._closed)
            dialog.show_messages(self._messages)
            dialog.open()

    def refused(self, text: str) -> bool:
        """Show why something was not done. Return false if the dialog is closed."""
        if self.dialog is not None:
            self.dialog.tell(text)
        return self.dialog is not None

    def close(self) -> None:
        """Close the dialog and hide the bar, because nobody is signed in any more."""
        self.bar.show_count(0)
        if self.dialog is not None:
            self.dialog.reject()

    def _closed(self) -> None:
        dialog, self.dialog = self.dialog, None
        if dialog is not None:
            dialog.deleteLater()
