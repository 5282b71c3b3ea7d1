"""A dialog that finds conversations by name, and accounts of the cluster by the beginning of their name."""

from collections.abc import Iterable
from dataclasses import dataclass

from PySide6.QtCore import QEvent, QObject, QStringListModel, Qt, QTimer, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QAbstractItemView, QDialog, QLineEdit, QListView, QVBoxLayout, QWidget

from parley import EVERYONE, Target
from parley.chat import EVERYONE_TITLE, ConversationKey, conversation_key
from parley.gui.direction import Sentence
from parley.gui.theme import GRID, scaled_font

ASK_AFTER_MS = 120


@dataclass(frozen=True, slots=True)
class Choice:
    """An entry that can be opened, and its title."""

    label: str
    opens: ConversationKey | Target


class Finder(QDialog):
    """A field and a list. Arrow keys select, Enter opens, Esc closes."""

    asked = Signal(str)
    chosen = Signal(object)

    def __init__(self, title: str, known: Iterable[Choice], *, anybody: bool, parent: QWidget | None = None) -> None:
        """`known` are conversations. With `anybody` the dialog also searches the accounts of the cluster."""
        super().__init__(parent)
        self._known = tuple(known)
        everyone = conversation_key(EVERYONE.conversation_id)
        if anybody and all(choice.opens != everyone for choice in self._known):
            self._known += (Choice(EVERYONE_TITLE, everyone),)
        self._others: tuple[Choice, ...] = ()
        self._shown: list[Choice] = []
        self._anybody = anybody
        self.setWindowTitle(title)
        self.setMinimumWidth(52 * GRID)
        heading = Sentence(title, wraps=False)
        heading.setFont(scaled_font(self.font(), 1.2, bold=True))
        self.field = QLineEdit()
        self.field.setPlaceholderText("Name of an account" if anybody else "Name")
        self.field.setAccessibleName("Name")
        self.names = QStringListModel(self)
        self.list = QListView()
        self.list.setModel(self.names)
        self.list.setFrameShape(QListView.Shape.NoFrame)
        self.list.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.list.setAccessibleName("Names found")
        self.list.setSpacing(2)
        self.list.setWordWrap(True)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.hint = Sentence()
        column = QVBoxLayout(self)
        column.setContentsMargins(3 * GRID, 3 * GRID, 3 * GRID, 2 * GRID)
        column.setSpacing(1 * GRID)
        for widget in (heading, self.field, self.list, self.hint):
            column.addWidget(widget)
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(ASK_AFTER_MS)
        self._pause.timeout.connect(self._ask)
        self.field.textChanged.connect(self._narrow)
        self.field.installEventFilter(self)
        self.field.returnPressed.connect(self._choose)
        self.list.clicked.connect(lambda index: self._open(self._shown[index.row()].opens))
        self._narrow("")

    def found(self, prefix: str, others: Iterable[Choice]) -> None:
        """Show the accounts found. An answer for an older text is ignored."""
        if prefix == self.field.text().strip():
            self._others = tuple(others)
            self._show()

    def _narrow(self, _text: str) -> None:
        self._show()
        if self._anybody:
            self._pause.start()

    def _ask(self) -> None:
        self.asked.emit(self.field.text().strip())

    def _show(self) -> None:
        typed = self.field.text().strip().casefold()
        known = [choice for choice in self._known if typed in choice.label.casefold()]
        others = [choice for choice in self._others if typed in choice.label.casefold()]
        self._shown = [*known, *others]
        self.names.setStringList([choice.label for choice in self._shown])
        if self._shown:
            self.list.setCurrentIndex(self.names.index(0))
        nothing = bool(typed) and not self._shown
        unknown = "There is no account of this name. Enter begins a conversation with it anyway."
        self.hint.setText(
            (unknown if self._anybody else "There is no conversation of this name.")
            if nothing
            else "Arrow keys select, Enter opens"
        )

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Move through the list with the arrow keys while the person types."""
        if isinstance(event, QKeyEvent) and event.type() == QEvent.Type.KeyPress:
            step = {Qt.Key.Key_Down: 1, Qt.Key.Key_Up: -1}.get(Qt.Key(event.key()))
            if step is not None and self.names.rowCount():
                row = min(max(0, self.list.currentIndex().row() + step), self.names.rowCount() - 1)
                self.list.setCurrentIndex(self.names.index(row))
                return True
        return super().eventFilter(watched, event)

    def _choose(self) -> None:
        index = self.list.currentIndex()
        typed = self.field.text().strip()
        if index.isValid() and self.names.rowCount():
            self._open(self._shown[index.row()].opens)
        elif typed and self._anybody:
            self._open(Target(account=typed))

    def _open(self, opens: ConversationKey | Target) -> None:
        self.accept()
        self.chosen.emit(opens)
