"""The chat page: the conversations at the left and the open one at the right.

It arranges and styles, and decides nothing.
"""

from itertools import pairwise

from PySide6.QtCore import QPoint, QRect, Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSplitter,
    QStackedWidget,
    QStyle,
    QVBoxLayout,
    QWidget,
)

from parley.chat import ConversationItem, plural
from parley.gui.bubble import BubbleDelegate
from parley.gui.composer import Composer
from parley.gui.conversations import Avatar, ConversationList, ConversationModel, LineDelegate
from parley.gui.direction import Sentence, apart
from parley.gui.elided_label import ElidedLabel
from parley.gui.theme import GRID, Theme, scaled_font
from parley.gui.thread_model import ThreadModel
from parley.gui.thread_view import ThreadView

HEADER = 8 * GRID
LIST_WIDTH = 38 * GRID
CHOOSE = "Choose a conversation, or begin one with Ctrl+N."


class ChatPage(QWidget):
    """The widgets of the page, by name."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.items = ConversationModel(self)
        self.item_delegate = LineDelegate(theme, self.font(), self)
        self.list = ConversationList(self.items, self.item_delegate)
        self.rows = ThreadModel(self)
        self.bubbles = BubbleDelegate(theme, self.font(), self)
        self.view = ThreadView(self.rows, self.bubbles)
        self.composer = Composer(theme)
        self.me = QPushButton()
        self.me.setProperty("flat", True)
        self.me.setAccessibleName("Account")
        self.new_button = QPushButton("New")
        self.new_button.setToolTip("Begin a conversation (Ctrl+N)")
        self.new_button.setAccessibleName("New conversation")
        self.avatar = Avatar(theme)
        self.title = ElidedLabel()
        self.members = Sentence(wraps=False)
        self.topic = ElidedLabel()
        self.topic.setAccessibleName("About this conversation")
        self.topic.hide()
        self.latest = QPushButton(self.view)
        self.latest.setAccessibleName("To the latest message")
        self.latest.hide()
        self.loading = QLabel("Loading earlier messages…", self.view)
        self.loading.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.loading.hide()
        self.empty = Sentence(is_centred=True)
        self.above_list = Sentence()
        self.above_list.setMargin(2 * GRID)
        self.right = QStackedWidget()
        self._compose()
        self.restyle(theme)

    def show_nothing(self) -> None:
        """Show that no conversation is open."""
        self.right.setCurrentIndex(0)
        self._tell_beside(CHOOSE)

    def show_title(self, item: ConversationItem) -> None:
        """Show which conversation is open."""
        self.title.setText(item.title + (" (deleted)" if item.deleted else ""))
        self.members.setText(item.about)
        self.composer.show_standing(item.standing)
        self.avatar.show_name(item.initials_of, channel=item.channel)
        self.view.setAccessibleName(f"Messages {'in' if item.channel else 'with'} {item.title}")
        self.right.setCurrentIndex(1)

    def show_below_title(self, text: str) -> None:
        """Show a text below the title of the open conversation. An empty one hides the line."""
        self.topic.setText(text)
        self.topic.setVisible(bool(text))

    def add_above_messages(self, bar: QWidget) -> None:
        """Put a bar between the title and the messages."""
        column = self._thread.layout()
        if isinstance(column, QVBoxLayout):
            column.insertWidget(1, bar)

    def add_below_list(self, widget: QWidget) -> None:
        """Put a widget below the list of conversations."""
        column = self._left.layout()
        if column is not None:
            column.addWidget(widget)

    def add_before_title(self, button: QWidget) -> None:
        """Put a button before the picture of the open conversation."""
        head = self._header.layout()
        if isinstance(head, QHBoxLayout):
            head.insertWidget(0, button)

    def set_list_width(self, width: int) -> None:
        """Make the list this wide, as far as both columns have room."""
        self.split.setSizes([width, max(1, self.split.width() - width)])

    def show_columns(self, *, left: bool, right: bool) -> None:
        """Show the list, the open conversation, or both."""
        self._left.setVisible(left)
        self.right.setVisible(right)
        self._draw_above_list()

    def tell(self, text: str) -> None:
        """Show a text above the field, or in the middle while no conversation is open."""
        if self.right.currentIndex():
            self.composer.tell(text)
        else:
            self._tell_beside(text)

    def show_latest_button(self, unread: int) -> None:
        """Show the button that leads to the latest message while the person reads further up."""
        self.latest.setText(apart(f"↓  {plural(unread, 'new message')}" if unread else "↓  Latest"))
        self.latest.setVisible(not self.view.is_at_bottom())
        self._place_overlays()

    def show_loading(self, loading: bool) -> None:
        """Show that older messages are loading, if there is nothing else to show."""
        self.loading.setVisible(loading and self.view.first_visible() == 0)
        self._place_overlays()

    def restyle(self, theme: Theme) -> None:
        self.item_delegate.restyle(theme, self.font())
        self.bubbles.restyle(theme, self.font())
        self.composer.restyle(theme)
        self.avatar.restyle(theme)
        self.empty.setStyleSheet(f"color: {theme.quiet};")
        self.above_list.setStyleSheet(f"color: {theme.quiet};")
        self._left.setStyleSheet(f"#left {{ background: {theme.side}; }}")
        self.list.setStyleSheet(f"QListView {{ background: {theme.side}; outline: 0; }}")
        self.view.setStyleSheet(f"QAbstractItemView {{ background: {theme.window}; }}")
        self._thread.setStyleSheet(f"#thread {{ background: {theme.window}; }}")
        self._header.setStyleSheet(
            f"#header {{ background: {theme.window}; border-bottom: 1px solid {theme.border}; }}"
        )
        self.latest.setStyleSheet(
            f"QPushButton {{ background: {theme.raised}; border: 1px solid {theme.border}; border-radius: 18px;"
            f" padding: 8px 16px; color: {theme.link}; }}"
            f" QPushButton:focus {{ border: 1px solid {theme.accent}; }}"
        )
        self.loading.setStyleSheet(f"color: {theme.quiet}; background: {theme.window}; border-radius: 8px;")
        self.title.setFont(scaled_font(self.font(), 1.15, bold=True))
        self.members.setStyleSheet(f"color: {theme.quiet};")
        self.topic.setStyleSheet(f"color: {theme.quiet};")
        self.view.remeasure()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        """Move the widgets above the messages to their places."""
        super().resizeEvent(event)
        self._place_overlays()

    def _tell_beside(self, text: str) -> None:
        self.empty.setText(text)
        self._draw_above_list()

    def _draw_above_list(self) -> None:
        """Say above the list what stands beside it while there is room, if it matters."""
        text = self.empty.text()
        self.above_list.setText(text)
        matters = text != CHOOSE or not self.items.rowCount()
        self.above_list.setVisible(self.right.isHidden() and matters)

    def _compose(self) -> None:
        self._left = QFrame()
        self._left.setObjectName("left")
        self._left.setMinimumWidth(26 * GRID)
        top = QHBoxLayout()
        top.setContentsMargins(2 * GRID, 0, 2 * GRID, 0)
        top.addWidget(self.me)
        top.addStretch(1)
        top.addWidget(self.new_button)
        top_bar = QWidget()
        top_bar.setFixedHeight(HEADER)
        top_bar.setLayout(top)
        left = QVBoxLayout(self._left)
        left.setContentsMargins(0, 0, 0, 0)
        left.setSpacing(0)
        left.addWidget(top_bar)
        left.addWidget(self.above_list)
        left.addWidget(self.list, 1)
        for changed in (self.items.rowsInserted, self.items.modelReset):
            changed.connect(self._draw_above_list)
        self._compose_header()
        self._thread = QFrame()
        self._thread.setObjectName("thread")
        column = QVBoxLayout(self._thread)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self._header)
        column.addWidget(self.view, 1)
        column.addWidget(self.composer)
        self.right.addWidget(self.empty)
        self.right.addWidget(self._thread)
        split = self.split = QSplitter(Qt.Orientation.Horizontal)
        split.setHandleWidth(1)
        split.setChildrenCollapsible(False)
        split.addWidget(self._left)
        split.addWidget(self.right)
        split.setStretchFactor(1, 1)
        split.setSizes([LIST_WIDTH, 3 * LIST_WIDTH])
        split.splitterMoved.connect(self._place_overlays)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(split)
        order = (self.me, self.new_button, self.list, self.view, self.composer.editor, self.composer.button)
        for earlier, later in pairwise(order):
            QWidget.setTabOrder(earlier, later)

    def _compose_header(self) -> None:
        self._header = QFrame()
        self._header.setObjectName("header")
        self._header.setFixedHeight(HEADER)
        head = QHBoxLayout(self._header)
        head.setContentsMargins(3 * GRID, 0, 3 * GRID, 0)
        head.setSpacing(1 * GRID + 4)
        head.addWidget(self.avatar)
        first = QHBoxLayout()
        first.setSpacing(1 * GRID + 4)
        first.addWidget(self.title)
        first.addWidget(self.members)
        first.addStretch(1)
        texts = QVBoxLayout()
        texts.setSpacing(0)
        texts.addStretch(1)
        texts.addLayout(first)
        texts.addWidget(self.topic)
        texts.addStretch(1)
        head.addLayout(texts, 1)

    def _place_overlays(self) -> None:
        area = self.view.viewport().geometry()
        self.latest.adjustSize()
        corner = QRect(QPoint(), self.latest.size())
        corner.moveBottomRight(area.bottomRight() - QPoint(2 * GRID, 2 * GRID))
        self.latest.move(QStyle.visualRect(self.layoutDirection(), area, corner).topLeft())
        words = self.loading.sizeHint()
        self.loading.resize(words.width() + 4 * GRID, max(4 * GRID, words.height()))
        self.loading.move(area.left() + (area.width() - self.loading.width()) // 2, GRID)
