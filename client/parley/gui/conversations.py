"""The conversation list: a model over the items of ChatAppState, and a delegate that draws one item."""

import hashlib

from PySide6.QtCore import (
    QAbstractListModel,
    QItemSelectionModel,
    QModelIndex,
    QObject,
    QPersistentModelIndex,
    QPointF,
    QRect,
    QRectF,
    QSize,
    Qt,
)
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPen
from PySide6.QtWidgets import QListView, QStyle, QStyledItemDelegate, QStyleOptionViewItem, QWidget

from parley.chat import ConversationItem, ConversationKey, list_time, meaning, plural
from parley.gui.bubble import today
from parley.gui.direction import FROM_LEFT, draw_line, isolated, mirrored, window_direction
from parley.gui.icons import MARK_HEIGHT, MARK_WIDTH, draw_mark, mark_left
from parley.gui.theme import GRID, Theme, scaled_font

ITEM_ROLE = Qt.ItemDataRole.UserRole + 1
HEIGHT = 9 * GRID
AVATAR = 5 * GRID
HUES = (172, 196, 220, 248, 276, 304, 332, 0, 24, 44, 80, 130)

_ROOT = QModelIndex()


class ConversationModel(QAbstractListModel):
    """The items, the latest first."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._items: list[ConversationItem] = []

    def show(self, items: list[ConversationItem]) -> None:
        """Replace the items. Items that stay keep their selection, and the list does not jump."""
        before = {item.key for item in self._items}
        now = {item.key for item in items}
        if before - now:
            self.beginResetModel()
            self._items = items
            self.endResetModel()
            return
        fresh = [item for item in items if item.key not in before]
        if fresh:
            self.beginInsertRows(_ROOT, len(self._items), len(self._items) + len(fresh) - 1)
            self._items = [*self._items, *fresh]
            self.endInsertRows()
        if [item.key for item in self._items] != [item.key for item in items]:
            self._reorder(items)
        elif self._items != items:
            self._items = items
            self.dataChanged.emit(self.index(0), self.index(len(items) - 1))

    def _reorder(self, items: list[ConversationItem]) -> None:
        self.layoutAboutToBeChanged.emit()
        places = {item.key: at for at, item in enumerate(items)}
        kept = self.persistentIndexList()
        moved = [self.index(places[self._items[index.row()].key]) for index in kept]
        self._items = items
        self.changePersistentIndexList(kept, moved)
        self.layoutChanged.emit()

    def item(self, at: int) -> ConversationItem:
        return self._items[at]

    def index_of(self, key: ConversationKey | None) -> QModelIndex:
        """Return the index of a conversation, or an invalid index."""
        for at, item in enumerate(self._items):
            if item.key == key:
                return self.index(at)
        return QModelIndex()

    def rowCount(self, parent: QModelIndex | QPersistentModelIndex = _ROOT) -> int:  # noqa: N802
        return 0 if parent.isValid() else len(self._items)

    def data(self, index: QModelIndex | QPersistentModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        """Return the item itself for the delegate, and its text for screen readers."""
        if not index.isValid() or index.row() >= len(self._items):
            return None
        item = self._items[index.row()]
        match role:
            case _ if role == ITEM_ROLE:
                return item
            case Qt.ItemDataRole.DisplayRole:
                return item.title
            case Qt.ItemDataRole.AccessibleTextRole:
                return spoken_item(item)
        return None


def spoken_item(item: ConversationItem) -> str:
    """Return the text of an item for screen readers."""
    unread = f", {plural(item.unread, 'unread message')}" if item.unread else ""
    unread += f", {plural(item.mentions, 'mention')}" if item.mentions else ""
    known = f", {meaning(item.status)}" if item.status is not None else ""
    said = f"{'Draft: ' if item.draft else ''}{item.preview}"
    members = f", channel, {item.about}" if item.channel else ""
    muted = (", muted" if item.muted else "") + (", put away" if item.put_away else "")
    return f"{item.title}{members}{muted}{unread}. {said}{known}"


def initials(name: str) -> str:
    """Return one or two letters for a name."""
    parts = [part for part in name.replace(".", " ").replace("_", " ").replace("-", " ").split() if part]
    return "".join(part[0] for part in (parts[:1] + parts[-1:] if len(parts) > 1 else parts[:1])).upper()


def draw_avatar(painter: QPainter, name: str, at: QRectF, theme: Theme, font: QFont, *, channel: bool = False) -> None:
    """Draw a disc with initials, or a square for a channel. The hue depends on the name only."""
    hue = HUES[hashlib.sha256(name.casefold().encode()).digest()[1] % len(HUES)]
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor.fromHsl(hue, 60, 70) if theme.dark else QColor.fromHsl(hue, 75, 215))
    painter.drawRoundedRect(at, 1.5 * GRID, 1.5 * GRID) if channel else painter.drawEllipse(at)
    painter.setPen(QColor.fromHsl(hue, 90, 215) if theme.dark else QColor.fromHsl(hue, 90, 65))
    painter.setFont(font)
    painter.drawText(at, Qt.AlignmentFlag.AlignCenter, initials(name))


class LineDelegate(QStyledItemDelegate):
    """Draws an item: disc, name, time, preview and unread badge."""

    def __init__(self, theme: Theme, font: QFont, parent: QObject | None = None) -> None:
        """`font` is the desktop's font."""
        super().__init__(parent)
        self._direction = FROM_LEFT
        self.restyle(theme, font)

    def restyle(self, theme: Theme, font: QFont) -> None:
        self._theme = theme
        self._name_font = scaled_font(font, 1.02, bold=True)
        self._font = scaled_font(font, 0.92)
        self._small = scaled_font(font, 0.82)
        self._badge = scaled_font(font, 0.78, bold=True)

    def sizeHint(  # noqa: N802
        self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> QSize:
        """Return the size of an item. All items have the same height."""
        return QSize(24 * GRID, HEIGHT)

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        """Draw an item into option.rect."""
        item: ConversationItem = index.data(ITEM_ROLE)
        rect: QRect = option.rect
        state: QStyle.StateFlag = option.state
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._paint_ground(painter, QRectF(rect).adjusted(GRID, 2, -GRID, -2), state)
        inner = QRectF(rect).adjusted(2 * GRID, 0, -2 * GRID, 0)
        self._direction = window_direction()
        disc = QRectF(inner.left(), inner.center().y() - AVATAR / 2, AVATAR, AVATAR)
        disc = mirrored(disc, inner, self._direction)
        draw_avatar(painter, item.initials_of, disc, self._theme, self._name_font, channel=item.channel)
        text = inner.adjusted(AVATAR + 1.5 * GRID, 1.5 * GRID, -0.5 * GRID, -1.5 * GRID)
        text = mirrored(text, inner, self._direction)
        self._paint_upper(painter, item, QRectF(text.left(), text.top(), text.width(), text.height() / 2))
        self._paint_lower(painter, item, QRectF(text.left(), text.center().y(), text.width(), text.height() / 2))
        painter.restore()

    def _paint_ground(self, painter: QPainter, rect: QRectF, state: QStyle.StateFlag) -> None:
        painter.setPen(Qt.PenStyle.NoPen)
        if state & QStyle.StateFlag.State_Selected:
            painter.setBrush(self._theme.color("accent_soft"))
            painter.drawRoundedRect(rect, 1.5 * GRID, 1.5 * GRID)
        elif state & QStyle.StateFlag.State_MouseOver:
            painter.setBrush(self._theme.color("hover"))
            painter.drawRoundedRect(rect, 1.5 * GRID, 1.5 * GRID)
        if state & QStyle.StateFlag.State_HasFocus:
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(self._theme.color("accent"), 2))
            painter.drawRoundedRect(rect.adjusted(1, 1, -1, -1), 1.5 * GRID, 1.5 * GRID)

    def _paint_upper(self, painter: QPainter, item: ConversationItem, rect: QRectF) -> None:
        time = list_time(item.at_ms, today()) if item.at_ms else ""
        metrics = QFontMetricsF(self._small)
        time_width = metrics.horizontalAdvance(time)
        painter.setFont(self._small)
        painter.setPen(self._theme.color("accent" if item.mentions or (item.unread and not item.is_quiet) else "quiet"))
        draw_line(painter, rect, time, at_end=True)
        painter.setFont(self._name_font)
        painter.setPen(self._theme.color("quiet" if item.put_away else "text"))
        members = item.about
        members_width = metrics.horizontalAdvance(members) + GRID if members else 0
        name = item.title + (" (deleted)" if item.deleted else "")
        room = rect.adjusted(0, 0, -time_width - GRID - members_width, 0)
        name_width = draw_line(painter, mirrored(room, rect, self._direction), name)
        if members:
            painter.setFont(self._small)
            painter.setPen(self._theme.color("quiet"))
            beside = rect.adjusted(name_width + GRID, 0, 0, 0)
            draw_line(painter, mirrored(beside, rect, self._direction), members)

    def _paint_lower(self, painter: QPainter, item: ConversationItem, rect: QRectF) -> None:
        room = QRectF(rect)  # as in a window that begins at the left
        room.setRight(self._paint_badges(painter, item, rect))
        if item.status is not None:
            empty = mark_left(item.status)  # narrow marks begin where the text does
            left = rect.left() - empty if self._direction == FROM_LEFT else rect.right() - MARK_WIDTH
            at = QRectF(left, rect.center().y() - MARK_HEIGHT / 2, MARK_WIDTH, MARK_HEIGHT)
            draw_mark(painter, item.status, at, self._theme.color("quiet"), self._theme.color("side"))
            room.setLeft(room.left() - empty + MARK_WIDTH + 6)
        painter.setFont(self._font)
        painter.setPen(self._theme.color("warn_text" if item.draft else "quiet"))
        said = f"Draft: {item.preview}" if item.draft else item.preview
        draw_line(painter, mirrored(room, rect, self._direction), isolated(said))

    def _paint_badges(self, painter: QPainter, item: ConversationItem, rect: QRectF) -> float:
        """Draw how much is unread, and before it how many mentions. Return the end of the room beside them.

        The number of a quiet conversation has no ground. Mentions always have one.
        """
        badges = [(_counted(item.unread), not item.is_quiet)] if item.unread else []
        badges += [(f"@{_counted(item.mentions)}", True)] if item.mentions else []
        metrics, end = QFontMetricsF(self._badge), rect.right()
        painter.setFont(self._badge)
        for text, filled in badges:
            width = max(20.0, metrics.horizontalAdvance(text) + 12)
            badge = mirrored(QRectF(end - width, rect.center().y() - 10, width, 20), rect, self._direction)
            if filled:
                painter.setPen(Qt.PenStyle.NoPen)
                painter.setBrush(self._theme.color("accent"))
                painter.drawRoundedRect(badge, 10, 10)
            painter.setPen(self._theme.color("on_accent" if filled else "quiet"))
            painter.drawText(badge, Qt.AlignmentFlag.AlignCenter, text)
            end -= width + GRID / 2
        return end - GRID / 2 if badges else end


def _counted(number: int) -> str:
    return str(number) if number < 1000 else "999+"


class ConversationList(QListView):
    """The list at the left. The open conversation is selected. The keyboard's cursor may be at another one."""

    def __init__(self, model: ConversationModel, delegate: LineDelegate, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setModel(model)
        self.setItemDelegate(delegate)
        self.setFrameShape(QListView.Shape.NoFrame)
        self.setUniformItemSizes(True)
        self.setVerticalScrollMode(QListView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMouseTracking(True)
        self.setTabKeyNavigation(False)
        self.setAccessibleName("Conversations")
        self.setSelectionMode(QListView.SelectionMode.NoSelection)  # keys and focus select nothing: selected is open

    def mark_open(self, index: QModelIndex) -> None:
        """Select the conversation that is open. The cursor goes there when another one was opened."""
        if not index.isValid():
            self.clearSelection()
        elif self.selectedIndexes() != [index]:
            self.selectionModel().select(index, QItemSelectionModel.SelectionFlag.ClearAndSelect)
            self.setCurrentIndex(index)


class Avatar(QWidget):
    """A disc beside a name."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme = theme
        self._name = ""
        self._channel = False
        self.setFixedSize(AVATAR, AVATAR)

    def show_name(self, name: str, *, channel: bool = False) -> None:
        """Show the disc of this name."""
        self._name, self._channel = name, channel
        self.update()

    def restyle(self, theme: Theme) -> None:
        self._theme = theme
        self.update()

    def paintEvent(self, event: object) -> None:  # noqa: N802
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self._name:
            whole = QRectF(QPointF(0, 0), self.size().toSizeF())
            font = scaled_font(self.font(), 1.02, bold=True)
            draw_avatar(painter, self._name, whole, self._theme, font, channel=self._channel)
        painter.end()
