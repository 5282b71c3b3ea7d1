"""Shows one column while the page is narrow: the list, or the open conversation with a way back to the list."""

from collections.abc import Callable

from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import QPushButton

from parley.gui.chat import ChatPage
from parley.gui.direction import FROM_RIGHT, window_direction
from parley.gui.theme import GRID

NARROW_BELOW = 90 * GRID


class OneColumn(QObject):
    """Follows the width of the page, and whether a conversation is open."""

    def __init__(self, chat: ChatPage, close_conversation: Callable[[], None]) -> None:
        """`close_conversation` goes back to the list. What nobody sees must not count as read."""
        super().__init__(chat)
        self._chat = chat
        self._back = QPushButton()
        self._back.setObjectName("back")
        self._back.setProperty("flat", True)
        self._back.setAccessibleName("Back to the conversations")
        self._back.setToolTip("Back to the conversations (Alt+Left)")
        self._point()
        self._back.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self._back.clicked.connect(close_conversation)
        chat.add_before_title(self._back)
        chat.right.currentChanged.connect(self._arrange)
        chat.installEventFilter(self)
        self._arrange()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Arrange again when the page gets another width or direction."""
        if event.type() in (QEvent.Type.Resize, QEvent.Type.LayoutDirectionChange):
            self._arrange()
        return super().eventFilter(watched, event)

    def _arrange(self) -> None:
        narrow, is_open = self._chat.width() < NARROW_BELOW, self._chat.right.currentIndex() > 0
        self._point()
        self._back.setVisible(narrow)
        self._chat.show_columns(left=not (narrow and is_open), right=not narrow or is_open)

    def _point(self) -> None:
        """Show an arrow to where the list is."""
        arrow = "→" if window_direction() == FROM_RIGHT else "←"
        if self._back.text() != arrow:
            self._back.setText(arrow)
            self._back.setShortcut(QKeySequence("Alt+Left"))  # a text takes it away
