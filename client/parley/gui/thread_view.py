"""A view of a thread of any length. It measures and draws only visible rows, and visible rows do not jump.

The state is an anchor: a row, and the position of its top in the viewport. The scroll bar follows the anchor. If rows
above the anchor are added, removed or resized, the visible rows do not move. At the bottom, the view stays at the
bottom.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from PySide6.QtCore import QEvent, QModelIndex, QPersistentModelIndex, QPoint, QRect, Qt, Signal
from PySide6.QtGui import QCursor, QHelpEvent, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QRegion, QResizeEvent
from PySide6.QtWidgets import QAbstractItemView, QStyle, QStyleOptionViewItem, QToolTip, QWidget

from parley.chat import Row, tip
from parley.gui.bubble import BubbleDelegate
from parley.gui.theme import GRID
from parley.gui.thread_model import ThreadModel

BOTTOM_PAD = 2 * GRID
STEP = 6 * GRID


class ThreadView(QAbstractItemView):
    """The rows of the open conversation."""

    moved = Signal()
    link_clicked = Signal(str)

    def __init__(self, model: ThreadModel, bubbles: BubbleDelegate, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._thread = model
        self._bubbles = bubbles
        self._heights: list[int] = []
        self._exact: list[bool] = []
        self._offsets: list[int] | None = None
        self._width = 0
        self._anchor = 0
        self._anchor_y = 0
        self._at_bottom = True
        self._following_bar = True
        self.setModel(model)
        model.rowsRemoved.connect(self._arrange)
        self.setItemDelegate(bubbles)
        self.setFrameShape(QAbstractItemView.Shape.NoFrame)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOn)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setTabKeyNavigation(False)
        self.setMouseTracking(True)
        self.viewport().setMouseTracking(True)
        self.setAccessibleName("Messages")

    # ---- what others ask

    def is_at_bottom(self) -> bool:
        """Return true if the newest message is visible."""
        return self._at_bottom

    def first_visible(self) -> int:
        """Return the topmost visible row."""
        return self._anchor

    def last_visible(self) -> int:
        """Return the lowest visible row, or -1."""
        rows = self._rows_in_sight()
        return rows[-1][0] if rows else -1

    def current_row(self) -> Row | None:
        """Return the row with the keyboard cursor, or None."""
        index = self.currentIndex()
        return self._thread.row(index.row()) if index.isValid() else None

    def to_bottom(self) -> None:
        """Scroll to the newest message."""
        self._at_bottom = True
        self._arrange()

    def show_from(self, row: int) -> None:
        """Scroll a row into the upper part of the view."""
        self._at_bottom = False
        self._anchor, self._anchor_y = row, self.viewport().height() // 5
        self._arrange()

    def remeasure(self) -> None:
        """Measure all rows again after a change of font or width."""
        self._forget_heights()
        self._arrange()

    # ---- the model changes

    def reset(self) -> None:
        """Show another conversation, from its end."""
        super().reset()
        self._anchor = self._anchor_y = 0
        self._at_bottom = True
        self._forget_heights()
        self._arrange()

    def rowsInserted(  # noqa: N802
        self, parent: QModelIndex | QPersistentModelIndex, start: int, end: int
    ) -> None:
        """Keep visible rows in place if the new rows are above the anchor."""
        super().rowsInserted(parent, start, end)
        count = end - start + 1
        if len(self._heights) + count != self._thread.rowCount():
            self._forget_heights()
        else:
            self._heights[start:start] = self._estimates(range(start, end + 1))
            self._exact[start:start] = [False] * count
            self._offsets = None
        if start <= self._anchor and len(self._heights) > count:
            self._anchor += count
        self._arrange()

    def rowsAboutToBeRemoved(  # noqa: N802
        self, parent: QModelIndex | QPersistentModelIndex, start: int, end: int
    ) -> None:
        """Keep visible rows in place if the removed rows are above the anchor."""
        super().rowsAboutToBeRemoved(parent, start, end)
        del self._heights[start : end + 1], self._exact[start : end + 1]
        self._offsets = None
        if end < self._anchor:
            self._anchor -= end - start + 1
        elif start <= self._anchor:
            self._anchor = max(0, start - 1)

    def dataChanged(  # noqa: N802
        self,
        top_left: QModelIndex | QPersistentModelIndex,
        bottom_right: QModelIndex | QPersistentModelIndex,
        roles: Sequence[int] = (),
    ) -> None:
        """Keep visible rows in place if a row above them changes its height."""
        super().dataChanged(top_left, bottom_right, list(roles))
        for row in range(top_left.row(), min(bottom_right.row() + 1, len(self._heights))):
            before, was_exact = self._heights[row], self._exact[row]
            self._exact[row] = False
            if was_exact and row == self._anchor:
                self._anchor_y += before - self._measure(row)
        self._arrange()

    # ---- geometry

    def _forget_heights(self) -> None:
        self._width = self.viewport().width()
        self._heights = self._estimates(range(self._thread.rowCount()))
        self._exact = [False] * len(self._heights)
        self._offsets = None

    def _estimates(self, rows: range) -> list[int]:
        width = self._width or self.viewport().width()
        return [self._bubbles.estimate(self._thread.row(at), width) for at in rows]

    def _measure(self, row: int) -> int:
        if not self._exact[row]:
            height = self._bubbles.height(self._thread.row(row), self._width)
            self._exact[row] = True
            if height != self._heights[row]:
                self._heights[row] = height
                self._offsets = None
        return self._heights[row]

    def _tops(self) -> list[int]:
        if self._offsets is None:
            self._offsets = list(accumulate(self._heights, initial=0))
        return self._offsets

    def _arrange(self) -> None:
        """Measure the visible rows, keep the anchor within the content, and update the scroll bar."""
        if self._width != self.viewport().width():
            self._forget_heights()
        count, available_height = len(self._heights), self.viewport().height() - BOTTOM_PAD
        if count:
            if self._at_bottom:
                self._anchor = count - 1
                self._anchor_y = available_height - self._measure(count - 1)
            self._anchor = min(self._anchor, count - 1)
            self._climb()
            bottom = self._descend(available_height)
            if bottom < available_height:
                self._anchor_y += available_height - bottom
                self._climb()
            elif self._anchor == 0 and self._anchor_y > 0:
                self._anchor_y = 0
                self._anchor_y = max(
                    0, available_height - self._descend(available_height)
                )  # what is short stands at the bottom
            self._at_bottom = self._ends_in_sight(available_height)
        self._follow_with_bar(available_height)
        self.viewport().update()
        self.moved.emit()

    def _climb(self) -> None:
        """Move the anchor up until the top of the viewport is covered."""
        while self._anchor > 0 and self._anchor_y > 0:
            self._anchor -= 1
            self._anchor_y -= self._measure(self._anchor)

    def _descend(self, available_height: int) -> int:
        """Make the first visible row the anchor. Return where the last visible row ends."""
        last = len(self._heights) - 1
        while self._anchor < last and self._anchor_y + self._measure(self._anchor) <= 0:
            self._anchor_y += self._heights[self._anchor]
            self._anchor += 1
        row, bottom = self._anchor, self._anchor_y
        while row <= last and bottom < available_height:
            bottom += self._measure(row)
            row += 1
        return bottom

    def _ends_in_sight(self, available_height: int) -> bool:
        rows = self._rows_in_sight()
        if not rows or rows[-1][0] != len(self._heights) - 1:
            return False
        return rows[-1][1] + self._heights[-1] <= available_height + 1

    def _rows_in_sight(self) -> list[tuple[int, int]]:
        """Return each visible row and the position of its top."""
        found = []
        y = self._anchor_y
        for row in range(self._anchor, len(self._heights)):
            if y >= self.viewport().height():
                break
            found.append((row, y))
            y += self._measure(row)
        return found

    def _follow_with_bar(self, available_height: int) -> None:
        bar = self.verticalScrollBar()
        tops = self._tops()
        self._following_bar = False
        bar.setPageStep(max(1, available_height - STEP))
        bar.setSingleStep(STEP)
        bar.setRange(0, max(0, tops[-1] - available_height))
        bar.setEnabled(bar.maximum() > 0)  # without anything to scroll there is no handle to see
        if self._heights:
            bar.setValue(bar.maximum() if self._at_bottom else tops[self._anchor] - self._anchor_y)
        self._following_bar = True

    def scrollContentsBy(self, dx: int, dy: int) -> None:  # noqa: N802
        """Scroll: a short move shifts all rows, a long move shows another place."""
        if not self._following_bar or not self._heights:
            return
        bar = self.verticalScrollBar()
        self._at_bottom = bar.value() == bar.maximum()
        if abs(dy) > 2 * self.viewport().height():
            row = min(bisect_right(self._tops(), bar.value()), len(self._heights)) - 1
            self._anchor, self._anchor_y = row, self._tops()[row] - bar.value()
        else:
            self._anchor_y += dy
        self._arrange()

    # ---- what QAbstractItemView asks of its kind

    def visualRect(self, index: QModelIndex | QPersistentModelIndex) -> QRect:  # noqa: N802
        """Return the rectangle of a row."""
        if not index.isValid() or index.row() >= len(self._heights):
            return QRect()
        for row, y in self._rows_in_sight():
            if row == index.row():
                return QRect(0, y, self._width, self._heights[row])
        tops = self._tops()
        y = tops[index.row()] - tops[self._anchor] + self._anchor_y
        return QRect(0, y, self._width, self._heights[index.row()])

    def indexAt(self, point: QPoint) -> QModelIndex:  # noqa: N802
        """Return the row at a point."""
        for row, y in self._rows_in_sight():
            if y <= point.y() < y + self._heights[row]:
                return self._thread.index(row)
        return QModelIndex()

    def scrollTo(  # noqa: N802
        self,
        index: QModelIndex | QPersistentModelIndex,
        hint: QAbstractItemView.ScrollHint = QAbstractItemView.ScrollHint.EnsureVisible,
    ) -> None:
        """Scroll a row into view with the shortest move."""
        row, available_height = index.row(), self.viewport().height() - BOTTOM_PAD
        if not index.isValid() or row >= len(self._heights):
            return
        rect = self.visualRect(index)
        if rect.top() >= 0 and rect.bottom() <= available_height:
            return
        height = self._measure(row)
        self._at_bottom = False
        self._anchor = row
        self._anchor_y = 0 if rect.top() < 0 or height > available_height else available_height - height
        self._arrange()

    def moveCursor(  # noqa: N802
        self, action: QAbstractItemView.CursorAction, modifiers: Qt.KeyboardModifier
    ) -> QModelIndex:
        """Return the row to which a key moves the cursor."""
        count = len(self._heights)
        if not count:
            return QModelIndex()
        if not self.currentIndex().isValid():
            return self._thread.index(max(0, self.last_visible()))
        page = max(1, len(self._rows_in_sight()) - 1)
        steps = {
            QAbstractItemView.CursorAction.MoveUp: -1,
            QAbstractItemView.CursorAction.MovePrevious: -1,
            QAbstractItemView.CursorAction.MoveLeft: -1,
            QAbstractItemView.CursorAction.MoveDown: 1,
            QAbstractItemView.CursorAction.MoveNext: 1,
            QAbstractItemView.CursorAction.MoveRight: 1,
            QAbstractItemView.CursorAction.MovePageUp: -page,
            QAbstractItemView.CursorAction.MovePageDown: page,
            QAbstractItemView.CursorAction.MoveHome: -count,
            QAbstractItemView.CursorAction.MoveEnd: count,
        }
        row = self.currentIndex().row() + steps[action]
        return self._thread.index(min(max(0, row), count - 1))

    def horizontalOffset(self) -> int:  # noqa: N802
        """Return 0, because the view does not scroll sideways."""
        return 0

    def verticalOffset(self) -> int:  # noqa: N802
        return self.verticalScrollBar().value()

    def isIndexHidden(self, index: QModelIndex | QPersistentModelIndex) -> bool:  # noqa: N802
        """Return false, because no row is hidden."""
        return False

    def setSelection(self, rect: QRect, command: object) -> None:  # noqa: N802
        """Do nothing. Only the row with the keyboard cursor is selected."""

    def visualRegionForSelection(self, selection: object) -> QRegion:  # noqa: N802
        """Return the whole viewport."""
        return QRegion(self.viewport().rect())

    # ---- events

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        painter = QPainter(self.viewport())
        current = self.currentIndex().row()
        for row, y in self._rows_in_sight():
            rect = QRect(0, y, self._width, self._heights[row])
            if not rect.intersects(event.rect()):
                continue
            option = QStyleOptionViewItem()
            option.rect = rect
            option.state = QStyle.StateFlag.State_Enabled
            if row == current and self.hasFocus():
                option.state |= QStyle.StateFlag.State_HasFocus
            self._bubbles.paint(painter, option, self._thread.index(row))
        painter.end()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        """Keep the visible rows visible."""
        super().resizeEvent(event)
        self._arrange()

    def updateGeometries(self) -> None:  # noqa: N802
        """Do nothing. Qt calls it after its own layouts, but here the scroll bar follows the anchor."""

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """Open the first link of the current row on Enter."""
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.activated.emit(self.currentIndex())
            return
        super().keyPressEvent(event)
        self.viewport().update()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Show a hand over links."""
        link = self._link_at(event.position().toPoint())
        shape = Qt.CursorShape.PointingHandCursor if link else Qt.CursorShape.ArrowCursor
        self.viewport().setCursor(QCursor(shape))

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Open a link on a click."""
        super().mouseReleaseEvent(event)
        link = self._link_at(event.position().toPoint())
        if link and event.button() == Qt.MouseButton.LeftButton:
            self.link_clicked.emit(link)

    def viewportEvent(self, event: QEvent) -> bool:  # noqa: N802
        """Show a tip with the exact time and the meaning of the mark."""
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            index = self.indexAt(event.pos())
            inside = index.isValid() and self._bubbles.bubble_rect(
                self._thread.row(index.row()), self.visualRect(index)
            ).contains(event.pos().toPointF())
            QToolTip.showText(event.globalPos(), tip(self._thread.row(index.row())) if inside else "", self)
            return True
        return super().viewportEvent(event)

    def _link_at(self, position: QPoint) -> str | None:
        index = self.indexAt(position)
        if not index.isValid():
            return None
        return self._bubbles.link_at(self._thread.row(index.row()), self.visualRect(index), position)
