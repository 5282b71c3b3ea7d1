"""Draws one message: its bubble, the text with its links, the time, and the mark of its status.

The delegate caches the layouts of the rows drawn last, so scrolling only draws. The height of rows that were never
drawn is estimated. Own messages stand where lines of the window end, and the time of a message where its text ends.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from PySide6.QtCore import (
    QModelIndex,
    QObject,
    QPersistentModelIndex,
    QPoint,
    QPointF,
    QRect,
    QRectF,
    QSize,
    QSizeF,
    Qt,
)
from PySide6.QtGui import (
    QFont,
    QFontMetricsF,
    QPainter,
    QPainterPath,
    QPen,
)
from PySide6.QtWidgets import QStyle, QStyledItemDelegate, QStyleOptionViewItem

from parley import MessageStatus
from parley.chat import NOT_IN_CLUSTER, Row, clock_time, counts_text, day_label, failure_lines, is_big_emoji
from parley.gui.direction import FROM_LEFT, FROM_RIGHT, draw_line, window_direction
from parley.gui.icons import MARK_HEIGHT, MARK_WIDTH, draw_mark, mark_left
from parley.gui.paragraphs import Paragraphs
from parley.gui.spans import LinkRange, link_formats, link_ranges, mention_formats, mention_ranges
from parley.gui.theme import COLUMN_WIDTH, GRID, Theme, scaled_font
from parley.gui.thread_model import ROW_ROLE

KEPT_LAYOUTS = 400
BUBBLE_WIDTH = 600
BUBBLE_SHARE = 0.78
MARGIN = 3 * GRID
PAD_X = 12.0
PAD_Y = 8.0
RADIUS = 16.0
TIGHT_RADIUS = 5.0
GROUND_RADIUS = 4.0
DAY_BAND = 6 * GRID
UNREAD_BAND = 5 * GRID
SENDER_BAND = 20
RUN_GAP = 12
FOOTER_GAP = 1.5 * GRID
ROW_GAP = 3


@dataclass(slots=True)
class _Layout:
    """The layout of a message. All positions are relative to the top left corner of the bubble."""

    text: Paragraphs
    links: tuple[LinkRange, ...]
    size: tuple[float, float]
    footer: QRectF
    failure: tuple[Paragraphs, float] | None
    big: bool
    grounds: Sequence[QRectF] = ()
    """What is drawn below the mentions of the own account, relative to the text."""


@dataclass(frozen=True, slots=True)
class _Fonts:
    body: QFont
    big: QFont
    small: QFont
    label: QFont


class BubbleDelegate(QStyledItemDelegate):
    """Measures and draws rows of a thread."""

    def __init__(self, theme: Theme, font: QFont, parent: QObject | None = None) -> None:
        """`font` is the desktop's font."""
        super().__init__(parent)
        self._kept: OrderedDict[tuple[object, ...], _Layout] = OrderedDict()
        self.restyle(theme, font)

    def restyle(self, theme: Theme, font: QFont) -> None:
        self._theme = theme
        body = scaled_font(font, 1.05)
        self._fonts = _Fonts(body, scaled_font(font, 2.6), scaled_font(font, 0.82), scaled_font(font, 0.86, bold=True))
        self._body_metrics = QFontMetricsF(self._fonts.body)
        self._small_metrics = QFontMetricsF(self._fonts.small)
        self._kept.clear()

    # ---- measuring

    def height(self, row: Row, width: int) -> int:
        """Return the exact height of a row."""
        return round(self._top(row) + self._layout(row, width).size[1])

    def estimate(self, row: Row, width: int) -> int:
        """Return the approximate height of a row, without laying out its text."""
        per_line = max(1.0, self._text_width(width) / self._body_metrics.averageCharWidth())
        lines = row.body.count("\n") + max(1, -(-len(row.body) // int(per_line)))
        return round(self._top(row) + lines * self._body_metrics.lineSpacing() + 2 * PAD_Y)

    def sizeHint(  # noqa: N802
        self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> QSize:
        """Return the size of a row."""
        row: Row = index.data(ROW_ROLE)
        width = option.rect.width()
        return QSize(width, self.height(row, width))

    def link_at(self, row: Row, rect: QRect, position: QPoint) -> str | None:
        """Return the link address at a point, or None."""
        layout = self._layout(row, rect.width())
        if not layout.links:
            return None
        bubble = self.bubble_rect(row, rect)
        inside = QPointF(position) - bubble.topLeft() - QPointF(PAD_X, PAD_Y)
        character = layout.text.character_at(inside)
        if character is None:
            return None
        place = bisect_right(layout.links, character, key=lambda link: link.start) - 1
        return layout.links[place].url if place >= 0 and character <= layout.links[place].end else None

    def laid_out_text(self, row: Row, width: int) -> str:
        """Return the text as it is drawn, with line breaks."""
        return self._layout(row, width).text.text

    def bubble_rect(self, row: Row, rect: QRect) -> QRectF:
        """Return the rectangle of the bubble of a row."""
        width, height = self._layout(row, rect.width()).size
        column = min(rect.width(), COLUMN_WIDTH)
        left = rect.left() + (rect.width() - column) / 2 + MARGIN
        right = rect.left() + (rect.width() + column) / 2 - MARGIN
        if row.event:
            left = (left + right - width) / 2
        elif row.mine != _is_rtl():
            left = right - width
        return QRectF(left, rect.top() + self._top(row), width, height)

    @staticmethod
    def _top(row: Row) -> int:
        bands = (DAY_BAND if row.new_day else 0) + UNREAD_BAND * (bool(row.gap_above) + row.unread_above)
        sender = SENDER_BAND if row.shows_sender else 0
        return bands + (RUN_GAP if row.first and not bands else ROW_GAP) + sender

    @staticmethod
    def _text_width(width: int) -> float:
        column = min(width, COLUMN_WIDTH) - 2 * MARGIN
        return max(80.0, min(BUBBLE_WIDTH, column * BUBBLE_SHARE) - 2 * PAD_X)

    def _layout(self, row: Row, width: int) -> _Layout:
        failure = row.retriable and (row.status, row.detail)
        shown = (row.body, row.mine, row.event, row.at_ms // 60_000, failure, row.lost, _counts(row))
        key = (*shown, row.mentions, width, _is_rtl())
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = self._lay_out(row, self._text_width(width))
            if len(self._kept) > KEPT_LAYOUTS:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return kept

    def _lay_out(self, row: Row, limit: float) -> _Layout:
        if row.event:
            text = Paragraphs(row.shown, self._fonts.small, limit, direction=FROM_LEFT)
            return _Layout(text, (), (text.width + 2 * PAD_X, text.height + PAD_Y), QRectF(), None, big=False)
        big = is_big_emoji(row.body)
        body = row.shown
        found = () if big else link_ranges(body)
        formats = link_formats(found, self._theme, mine=row.mine)
        named = mention_ranges(body, row.mentions)
        formats += mention_formats(named, self._theme, mine=row.mine)
        text = Paragraphs(body, self._fonts.big if big else self._fonts.body, limit, formats)
        width, height = text.width, text.height
        last = text
        failure = None
        if row.retriable:
            last = Paragraphs("\n".join(failure_lines(row)), self._fonts.small, limit)
            failure = (last, height + GRID)
            width, height = max(width, last.width), height + GRID + last.height
        footer = QSizeF(self._footer_width(row), self._small_metrics.height())
        text_width = self._beside(footer.width(), last, width, limit)
        if text_width is not None and not big:
            width = max(width, text_width + FOOTER_GAP + footer.width())
        else:
            height += footer.height() + 2
            width = max(width, footer.width())
        is_alone = last is text and text.line_count == 1
        for part in (text, last):
            self._place(part, width, is_alone=is_alone)
        left = PAD_X if _is_rtl() else PAD_X + width - footer.width()
        at = QRectF(QPointF(left, PAD_Y + height - footer.height() + 1), footer)
        grounds = [box for one in named if one.me for box in text.boxes(one.start, one.end)]
        return _Layout(text, found, (width + 2 * PAD_X, height + 2 * PAD_Y), at, failure, big, grounds)

    @staticmethod
    def _beside(footer_width: float, last: Paragraphs, width: float, limit: float) -> float | None:
        """Return the width of the text beside which the footer has room in the last line, or None."""
        line_width, direction = last.last_line
        if direction == window_direction():
            text_width = line_width
        elif last.line_count == 1 and line_width == width:
            text_width = width
        else:
            return None  # the last line ends at the other side, and the others would keep a gap
        return text_width if text_width + FOOTER_GAP + footer_width <= limit else None

    @staticmethod
    def _place(text: Paragraphs, width: float, *, is_alone: bool) -> None:
        """Let a text of one line stand where the window begins, before its footer. Others have all of the bubble."""
        if not is_alone:
            text.place(0.0, width)
        else:
            text.place(width - text.width if _is_rtl() else 0.0, text.width)

    def _footer_width(self, row: Row) -> float:
        mark = MARK_WIDTH + 6 if row.status is not None else 0
        return self._small_metrics.horizontalAdvance(_footer_text(row)) + mark

    # ---- drawing

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        """Draw a row into option.rect."""
        row: Row = index.data(ROW_ROLE)
        rect: QRect = option.rect
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._paint_bands(painter, row, rect)
        layout = self._layout(row, rect.width())
        bubble = self.bubble_rect(row, rect)
        state: QStyle.StateFlag = option.state
        has_focus = bool(state & QStyle.StateFlag.State_HasFocus)
        if row.event:
            self._paint_event(painter, layout, bubble, has_focus=has_focus)
            painter.restore()
            return
        if row.shows_sender:
            self._paint_sender(painter, row, bubble)
        ground = self._paint_bubble(painter, row, bubble)
        if has_focus:
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(self._theme.color("accent"), 2))
            painter.drawPath(_bubble_path(row, bubble.adjusted(-2, -2, 2, 2)))
        painter.setPen(self._theme.color("bad_text" if row.retriable else "own_text" if row.mine else "other_text"))
        origin = bubble.topLeft() + QPointF(PAD_X, PAD_Y)
        self._paint_grounds(painter, layout, origin)
        layout.text.draw(painter, origin)
        if layout.failure is not None:
            reason, y = layout.failure
            painter.setPen(self._theme.color("bad_text"))
            reason.draw(painter, origin + QPointF(0, y))
        self._paint_footer(painter, row, layout.footer.translated(bubble.topLeft()), ground)
        painter.restore()

    def _paint_grounds(self, painter: QPainter, layout: _Layout, origin: QPointF) -> None:
        """Draw what is below the mentions of the own account."""
        painter.save()
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(self._theme.color("accent"))
        for box in layout.grounds:
            painter.drawRoundedRect(box.translated(origin).adjusted(-1.5, 0, 1.5, 0), GROUND_RADIUS, GROUND_RADIUS)
        painter.restore()

    def _paint_event(self, painter: QPainter, layout: _Layout, bubble: QRectF, *, has_focus: bool) -> None:
        if has_focus:
            painter.setPen(QPen(self._theme.color("accent"), 2))
            painter.drawRoundedRect(bubble, TIGHT_RADIUS, TIGHT_RADIUS)
        painter.setPen(self._theme.color("quiet"))
        layout.text.draw(painter, bubble.topLeft() + QPointF(PAD_X, PAD_Y / 2))

    def _paint_sender(self, painter: QPainter, row: Row, bubble: QRectF) -> None:
        left = bubble.right() - PAD_X - BUBBLE_WIDTH if _is_rtl() else bubble.left() + PAD_X
        painter.setFont(self._fonts.label)
        painter.setPen(self._theme.color("quiet"))
        draw_line(painter, QRectF(left, bubble.top() - SENDER_BAND, BUBBLE_WIDTH, SENDER_BAND), row.sender)

    def _paint_bubble(self, painter: QPainter, row: Row, bubble: QRectF) -> str:
        """Draw the bubble. Return the name of the colour below the text."""
        ground = "bad_soft" if row.retriable else "own" if row.mine else "other"
        edge = ground
        if ground == "other" and not self._theme.dark:
            edge = "border"
        waiting = row.status in (MessageStatus.WAITING, MessageStatus.SENDING)
        painter.setBrush(self._theme.color("window" if waiting else ground))
        style = Qt.PenStyle.DashLine if waiting else Qt.PenStyle.SolidLine
        painter.setPen(QPen(self._theme.color("own_quiet" if waiting else edge), 1, style))
        painter.drawPath(_bubble_path(row, bubble.adjusted(0.5, 0.5, -0.5, -0.5)))
        return "window" if waiting else ground

    def _paint_footer(self, painter: QPainter, row: Row, area: QRectF, ground: str) -> None:
        """Draw the time, and the mark at the edge of the bubble."""
        color = self._theme.color("bad_text" if row.retriable else "own_quiet" if row.mine else "other_quiet")
        painter.setFont(self._fonts.small)
        painter.setPen(color)
        draw_line(painter, area, _footer_text(row))
        if row.status is not None:
            left = area.left() - mark_left(row.status) if _is_rtl() else area.right() - MARK_WIDTH
            top = area.top() + (area.height() - MARK_HEIGHT) / 2
            draw_mark(painter, row.status, QRectF(left, top, MARK_WIDTH, MARK_HEIGHT), color, self._theme.color(ground))

    def _paint_bands(self, painter: QPainter, row: Row, rect: QRect) -> None:
        top = float(rect.top())
        painter.setFont(self._fonts.label)
        if row.gap_above:
            self._paint_line(painter, rect, top, row.gap_above, "quiet")
            top += UNREAD_BAND
        if row.new_day:
            band = QRectF(rect.left(), top, rect.width(), DAY_BAND)
            painter.setPen(self._theme.color("quiet"))
            painter.drawText(band.adjusted(0, GRID, 0, 0), Qt.AlignmentFlag.AlignCenter, day_label(row.at_ms, today()))
            top += DAY_BAND
        if row.unread_above:
            self._paint_line(painter, rect, top, "New messages", "accent")

    def _paint_line(self, painter: QPainter, rect: QRect, top: float, label: str, color: str) -> None:
        """Draw a line from side to side with a text in its middle."""
        column = min(rect.width(), COLUMN_WIDTH) - 2 * MARGIN
        band = QRectF(rect.left() + (rect.width() - column) / 2, top, column, UNREAD_BAND)
        half = (QFontMetricsF(self._fonts.label).horizontalAdvance(label) / 2) + 2 * GRID
        middle = band.center()
        painter.setPen(QPen(self._theme.color(color), 1))
        painter.drawLine(QPointF(band.left(), middle.y()), QPointF(middle.x() - half, middle.y()))
        painter.drawLine(QPointF(middle.x() + half, middle.y()), QPointF(band.right(), middle.y()))
        painter.drawText(band, Qt.AlignmentFlag.AlignCenter, label)


def _counts(row: Row) -> str:
    """Return how many members of a channel have the row, for the last of a run of own messages."""
    return counts_text(row.delivered, row.read, row.others) if row.last else ""


def _footer_text(row: Row) -> str:
    lost = NOT_IN_CLUSTER if row.lost else ""
    return "  ".join(filter(None, ("Urgent" if row.urgent else "", lost, _counts(row), clock_time(row.at_ms))))


def today() -> date:
    """Return the present date in the local time zone."""
    return date.today()  # noqa: DTZ011 - the person's own calendar is meant


def _is_rtl() -> bool:
    return window_direction() == FROM_RIGHT


def _bubble_path(row: Row, rect: QRectF) -> QPainterPath:
    """Return the outline of a bubble. Corners towards the neighbours of a run have a smaller radius."""
    near_top = RADIUS if row.first else TIGHT_RADIUS
    near_bottom = RADIUS if row.last else TIGHT_RADIUS
    radius = min(RADIUS, rect.height() / 2)
    left, right = (radius, min(near_top, radius)), (radius, min(near_bottom, radius))
    at_right = row.mine != _is_rtl()
    top_left, top_right = (left[0], left[1]) if at_right else (left[1], left[0])
    bottom_left, bottom_right = (right[0], right[1]) if at_right else (right[1], right[0])
    path = QPainterPath(QPointF(rect.left() + top_left, rect.top()))
    path.lineTo(rect.right() - top_right, rect.top())
    path.quadTo(rect.right(), rect.top(), rect.right(), rect.top() + top_right)
    path.lineTo(rect.right(), rect.bottom() - bottom_right)
    path.quadTo(rect.right(), rect.bottom(), rect.right() - bottom_right, rect.bottom())
    path.lineTo(rect.left() + bottom_left, rect.bottom())
    path.quadTo(rect.left(), rect.bottom(), rect.left(), rect.bottom() - bottom_left)
    path.lineTo(rect.left(), rect.top() + top_left)
    path.quadTo(rect.left(), rect.top(), rect.left() + top_left, rect.top())
    return path
