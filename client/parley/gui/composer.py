"""The field in which messages are written. Enter sends, Shift+Enter begins a line. No method blocks.

While a waiting message is edited, the draft is kept aside. It returns afterwards.
"""

from PySide6.QtCore import QEvent, QSize, Qt, Signal
from PySide6.QtGui import QFocusEvent, QInputMethodEvent, QKeyEvent, QResizeEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPlainTextEdit, QPushButton, QVBoxLayout, QWidget

from parley.chat import Standing, plural
from parley.gui.direction import FROM_RIGHT, Sentence, apart, direction_of, window_direction
from parley.gui.paragraphs import TAB_WIDTH, side_of
from parley.gui.theme import COLUMN_WIDTH, GRID, Theme, scaled_font

MAX_LINES = 8
SCROLL_BAR = 12  # the messages above leave this much to their scroll bar
WARN_BELOW_BYTES = 500
ERASING = (Qt.Key.Key_Backspace, Qt.Key.Key_Delete)


class _Editor(QPlainTextEdit):
    """A text field that grows with its text up to MAX_LINES."""

    entered = Signal()
    escaped = Signal()
    went_up = Signal()
    focused = Signal(bool)
    paged = Signal(int)
    written = Signal()
    """The person wrote or removed a letter."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setTabChangesFocus(True)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setAccessibleName("Message")
        self.setAccessibleDescription("Enter sends, Shift+Enter begins a new line")
        self.document().setDocumentMargin(0)
        self._hint = ""
        self.textChanged.connect(self.turn)
        self.textChanged.connect(self.fit)
        self.turn()

    def turn(self) -> None:
        """Begin at the side of the first letter, or of the window. Each paragraph keeps its own direction."""
        option = self.document().defaultTextOption()
        side = side_of(direction_of(self.toPlainText()))
        if option.alignment() != side:
            option.setAlignment(side)
            self.document().setDefaultTextOption(option)

    def show_hint(self, text: str) -> None:
        """Show a text in the empty field, in one line."""
        self._hint = text
        room = self.viewport().width() - 1
        self.setPlaceholderText(apart(self.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, room)))

    def fit(self) -> None:
        """Set the height that the text needs."""
        lines = max(1, min(MAX_LINES, int(self.document().size().height())))
        self.setFixedHeight(lines * self.fontMetrics().lineSpacing() + 4)

    def sizeHint(self) -> QSize:  # noqa: N802
        return QSize(40 * GRID, self.fontMetrics().lineSpacing() + 4)

    def resizeEvent(self, event: object) -> None:  # noqa: N802
        super().resizeEvent(event)  # type: ignore[arg-type]
        self.fit()
        self.show_hint(self._hint)

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        plain = not event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and plain:
            self.entered.emit()
        elif event.key() == Qt.Key.Key_Escape:
            self.escaped.emit()
        elif event.key() in (Qt.Key.Key_PageUp, Qt.Key.Key_PageDown):
            self.paged.emit(-1 if event.key() == Qt.Key.Key_PageUp else 1)
        elif event.key() == Qt.Key.Key_Up and plain and not self.toPlainText():
            self.went_up.emit()
        else:
            super().keyPressEvent(event)
            is_letter = event.text() != "" and event.text().isprintable()
            with_control = event.modifiers() & ~Qt.KeyboardModifier.ShiftModifier == Qt.KeyboardModifier.ControlModifier
            if event.key() in ERASING or (is_letter and not with_control):  # Ctrl and Alt together may be AltGr
                self.written.emit()

    def inputMethodEvent(self, event: QInputMethodEvent) -> None:  # noqa: N802
        super().inputMethodEvent(event)
        self.written.emit()

    @property
    def is_composing(self) -> bool:
        """Return true while the input method has text that it has not committed."""
        return bool(self.textCursor().block().layout().preeditAreaText())

    def focusInEvent(self, event: QFocusEvent) -> None:  # noqa: N802
        super().focusInEvent(event)
        self.focused.emit(True)

    def focusOutEvent(self, event: QFocusEvent) -> None:  # noqa: N802
        super().focusOutEvent(event)
        self.focused.emit(False)


class Composer(QFrame):
    """The field, its button, and a line above it for editing and errors."""

    send_asked = Signal(str, bool)  # the text, and whether it is urgent
    edit_asked = Signal(int, str)
    typed = Signal(str)
    edit_last_asked = Signal()
    paged = Signal(int)

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme = theme
        self._editing: int | None = None
        self._aside = ""
        self._limit_bytes = 65536
        self.note = Sentence()
        self.note.hide()
        self.standing = Sentence()
        self.standing.hide()
        self.editor = _Editor()
        self.button = QPushButton("Send")
        self.button.setProperty("primary", True)
        self.button.setStyleSheet(f"min-height: {3 * GRID + 2}px;")  # as high as the field with one line
        self.button.setAccessibleName("Send message")
        self.urgent = QPushButton("Urgent")
        self.urgent.setCheckable(True)
        self.urgent.setStyleSheet(f"min-height: {3 * GRID + 2}px;")
        self.urgent.setToolTip("Send the next message as urgent. It comes first in notifications.")
        self.field = QFrame()
        self.field.setObjectName("field")
        inside = QHBoxLayout(self.field)
        inside.setContentsMargins(2 * GRID, GRID + 3, GRID, GRID + 1)
        inside.addWidget(self.editor)
        row = QHBoxLayout()
        row.setSpacing(GRID)
        row.addWidget(self.field, 1)
        row.addWidget(self.urgent, 0, Qt.AlignmentFlag.AlignBottom)
        row.addWidget(self.button, 0, Qt.AlignmentFlag.AlignBottom)
        column = self._column = QVBoxLayout(self)
        column.setSpacing(GRID)
        column.addWidget(self.standing)
        column.addWidget(self.note)
        column.addLayout(row)
        self.editor.entered.connect(self._submit)
        self.button.clicked.connect(self._submit)
        self.editor.escaped.connect(self._escape)
        self.editor.went_up.connect(self.edit_last_asked)
        self.editor.paged.connect(self.paged)
        self.editor.textChanged.connect(self._changed)
        self.editor.focused.connect(self._draw_edge)
        self.restyle(theme)
        self._changed()

    # ---- from outside

    @property
    def text(self) -> str:
        """Return the draft, without the text of a message that is being edited."""
        return self._aside if self._editing is not None else self.editor.toPlainText()

    @property
    def editing(self) -> int | None:
        """Return the local id of the message that is being edited, or None."""
        return self._editing

    def begin(self, title: str, draft: str, limit_bytes: int) -> None:
        """Show the draft of another conversation."""
        self._editing = None
        self.urgent.setChecked(False)
        self._limit_bytes = limit_bytes
        self.tell("")
        self.editor.show_hint(f"Message {title}")
        self._put(draft)
        self._name_button()

    def show_draft(self, draft: str) -> None:
        """Show another text as the draft of the same conversation."""
        if self._editing is None:
            self._put(draft)
        else:
            self._aside = draft

    def show_standing(self, standing: Standing) -> None:
        """Show the field only where the person can write, and a sentence about who is there."""
        self.standing.setText(standing.text)
        self.standing.setVisible(bool(standing.text))
        self.field.setVisible(standing.takes_messages)
        self.button.setVisible(standing.takes_messages)
        self.urgent.setVisible(standing.takes_messages)

    def edit(self, local_id: int, body: str) -> None:
        """Begin to edit a waiting message, where the person can write."""
        if self.field.isHidden():
            return
        if self._editing is None:
            self._aside = self.editor.toPlainText()
        self._editing = local_id
        self.tell("You are editing a waiting message. Enter keeps the change, Esc discards it.")
        self._put(body)
        self._name_button()
        self.editor.setFocus()

    def stop_editing(self) -> None:
        """Return to the draft."""
        if self._editing is not None:
            self._editing = None
            self.tell("")
            self._put(self._aside)
            self._name_button()

    def give_back(self, body: str, why: str) -> None:
        """Put a text that was not sent before the present text, and show the reason."""
        self.stop_editing()
        typed = self.editor.toPlainText()
        self._put(f"{body}\n{typed}" if typed else body)
        self.tell(why)

    def tell(self, text: str) -> None:
        """Show a text above the field. An empty text hides the line."""
        self.note.setText(text)
        self.note.setVisible(bool(text))

    def restyle(self, theme: Theme) -> None:
        self._theme = theme
        self.editor.setFont(scaled_font(self.font(), 1.05))
        self.editor.setTabStopDistance(TAB_WIDTH * self.editor.fontMetrics().horizontalAdvance(" "))
        self.editor.fit()
        self.editor.setStyleSheet("background: transparent;")
        self.note.setStyleSheet(f"color: {theme.warn_text};")
        self.note.setFont(scaled_font(self.font(), 0.9))
        self.standing.setStyleSheet(f"color: {theme.quiet};")
        self._draw_edge(self.editor.hasFocus())

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        """Stay below the messages."""
        super().resizeEvent(event)
        self._fit()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        """Leave room for the scroll bar at its side."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.LayoutDirectionChange:
            self._fit()
            self.editor.turn()

    # ---- inside

    def _fit(self) -> None:
        side = 3 * GRID + max(0, (self.width() - SCROLL_BAR - COLUMN_WIDTH) // 2)
        left, right = side, side + SCROLL_BAR
        if window_direction() == FROM_RIGHT:
            left, right = right, left
        self._column.setContentsMargins(left, GRID, right, 2 * GRID)

    def _draw_edge(self, focused: bool) -> None:
        edge = self._theme.accent if focused else self._theme.edge
        self.field.setStyleSheet(
            f"#field {{ background: {self._theme.raised}; border: 1px solid {edge}; border-radius: 12px; }}"
        )

    def _put(self, text: str) -> None:
        self.editor.setPlainText(text)
        cursor = self.editor.textCursor()
        cursor.movePosition(cursor.MoveOperation.End)
        self.editor.setTextCursor(cursor)

    def _name_button(self) -> None:
        self.urgent.setEnabled(self._editing is None)
        self.button.setText("Send" if self._editing is None else "Keep")
        self.button.setAccessibleName("Send message" if self._editing is None else "Keep the change")

    def _changed(self) -> None:
        text = self.editor.toPlainText()
        over = len(text.encode("utf-8", "surrogatepass")) - self._limit_bytes
        self.button.setEnabled(bool(text.strip()) and over <= 0)
        if over > -WARN_BELOW_BYTES:
            self.tell(f"{plural(over, 'byte')} too long to send." if over > 0 else f"Room for {plural(-over, 'byte')}.")
        elif self._editing is None and self.note.isVisibleTo(self):
            self.tell("")
        if self._editing is None:
            self.typed.emit(text)

    def _submit(self) -> None:
        if not self.button.isEnabled():
            return
        text = self.editor.toPlainText().strip("\n")
        if self._editing is not None:
            local_id = self._editing
            self.stop_editing()
            self.edit_asked.emit(local_id, text)
        else:
            self._put("")
            self.send_asked.emit(text, self.urgent.isChecked())
            self.urgent.setChecked(False)
        self.editor.setFocus()

    def _escape(self) -> None:
        if self._editing is not None:
            self.stop_editing()
        else:
            self.tell("")
