"""The marks of messages and of the cluster, as shapes. No mark differs from another by colour alone.

Clock: waits here. Hollow circle: sent, outcome not known. One check: on a majority's disks. Two checks: delivered.
Two checks cut out of a filled pill: read. Triangle: not sent. Triangle in outline: outcome unknown. All are drawn as
paths, so they are sharp at any scale.
"""

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QIcon, QPainter, QPainterPath, QPen, QPixmap, QPolygonF
from PySide6.QtWidgets import QWidget

from parley import MessageStatus
from parley.chat import StatusLevel

MARK_WIDTH = 20
MARK_HEIGHT = 12
MARK_SIZE = 48


_LEFT = {
    MessageStatus.WAITING: 8.5,
    MessageStatus.SENDING: 9.5,
    MessageStatus.ACCEPTED: 8.5,
    MessageStatus.DELIVERED: 4.5,
    MessageStatus.FAILED: 8.0,
    MessageStatus.UNKNOWN: 8.0,
}


def mark_left(status: MessageStatus) -> float:
    """Return the empty width before a mark. Marks are aligned to the right."""
    return _LEFT.get(status, 0.0)


def draw_mark(painter: QPainter, status: MessageStatus, at: QRectF, color: QColor, ground: QColor) -> None:
    """Draw a mark into a rectangle of MARK_WIDTH by MARK_HEIGHT. `ground` is the colour below it."""
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.translate(at.topLeft())
    painter.scale(at.width() / MARK_WIDTH, at.height() / MARK_HEIGHT)
    pen = QPen(color, 1.5, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap, Qt.PenJoinStyle.RoundJoin)
    painter.setPen(pen)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    match status:
        case MessageStatus.WAITING:
            painter.drawEllipse(QPointF(14, 6), 5, 5)
            painter.drawPolyline(QPolygonF([QPointF(14, 3.2), QPointF(14, 6), QPointF(16, 7.2)]))
        case MessageStatus.SENDING:
            painter.drawEllipse(QPointF(14, 6), 4, 4)
        case MessageStatus.ACCEPTED:
            painter.drawPath(_check(9))
        case MessageStatus.DELIVERED:
            painter.drawPath(_check(5))
            painter.drawPath(_check(10))
        case MessageStatus.READ:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(color)
            painter.drawRoundedRect(QRectF(0, 0, MARK_WIDTH, MARK_HEIGHT), 6, 6)
            painter.setPen(QPen(ground, 1.5, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawPath(_check(2.5, 0.85))
            painter.drawPath(_check(7.5, 0.85))
        case MessageStatus.FAILED:
            _draw_triangle(painter, color, ground)
        case MessageStatus.UNKNOWN:
            _draw_triangle(painter, ground, color)
    painter.restore()


def _check(left: float, scale: float = 1.0) -> QPainterPath:
    path = QPainterPath(QPointF(left, 6.5))
    path.lineTo(left + 3 * scale, 6.5 + 3 * scale)
    path.lineTo(left + 9 * scale, 6.5 - 3.5 * scale)
    return path


def _draw_triangle(painter: QPainter, color: QColor, ground: QColor) -> None:
    painter.setBrush(color)
    painter.drawPolygon(QPolygonF([QPointF(14, 1), QPointF(19.5, 11), QPointF(8.5, 11)]))
    painter.setPen(QPen(ground, 1.5, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap))
    painter.drawLine(QPointF(14, 4.5), QPointF(14, 7))
    painter.drawPoint(QPointF(14, 9.2))


def draw_status_level(painter: QPainter, level: StatusLevel, at: QRectF, color: QColor) -> None:
    """Draw the state of the cluster: a full disc is good, a half disc is searching, a barred disc cannot send."""
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(QPen(color, 1.5))
    circle = at.adjusted(1, 1, -1, -1)
    match level:
        case StatusLevel.GOOD:
            painter.setBrush(color)
            painter.drawEllipse(circle)
        case StatusLevel.BUSY:
            painter.drawEllipse(circle)
            painter.setBrush(color)
            painter.drawChord(circle, 90 * 16, 180 * 16)
        case StatusLevel.BAD:
            painter.drawEllipse(circle)
            painter.drawLine(circle.center() - QPointF(2.5, 2.5), circle.center() + QPointF(2.5, 2.5))
            painter.drawLine(circle.center() - QPointF(-2.5, 2.5), circle.center() + QPointF(-2.5, 2.5))
    painter.restore()


def draw_app_icon(painter: QPainter, size: float) -> None:
    """Draw the icon of the application: two bubbles."""
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.scale(size / 64, size / 64)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor("#1f6f6b"))
    painter.drawRoundedRect(QRectF(4, 8, 40, 28), 12, 12)
    painter.drawPolygon(QPolygonF([QPointF(10, 30), QPointF(10, 46), QPointF(24, 34)]))
    painter.setBrush(QColor("#6fc2b8"))
    painter.drawRoundedRect(QRectF(24, 24, 36, 24), 11, 11)
    painter.drawPolygon(QPolygonF([QPointF(54, 42), QPointF(54, 57), QPointF(42, 46)]))


class AppMark(QWidget):
    """The icon on a page. It is drawn for the screen on which the window is."""

    def __init__(self) -> None:
        super().__init__()
        self.setFixedSize(MARK_SIZE, MARK_SIZE)

    def paintEvent(self, event: object) -> None:  # noqa: N802
        painter = QPainter(self)
        draw_app_icon(painter, self.width())
        painter.end()


def app_icon() -> QIcon:
    """Return the icon of the application for the window and the desktop."""
    icon = QIcon()
    for size in (16, 24, 32, 48, 64, 128, 256):
        pixmap = QPixmap(QSize(size, size))
        pixmap.fill(Qt.GlobalColor.transparent)
        painter = QPainter(pixmap)
        draw_app_icon(painter, size)
        painter.end()
        icon.addPixmap(pixmap)
    return icon


def counted_icon(icon: QIcon, count: int) -> QIcon:
    """Return an icon with a count at its upper right, or the same icon for 0."""
    if not count:
        return icon
    made = QIcon()
    for size in (22, 32, 44, 48, 64, 96, 128):
        pixmap = icon.pixmap(QSize(size, size), 1.0)
        side = pixmap.width()
        painter = QPainter(pixmap)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor("#b3382c"))
        badge = QRectF(side * 0.38, 0, side * 0.62, side * 0.56)
        painter.drawRoundedRect(badge, badge.height() / 2, badge.height() / 2)
        font = painter.font()
        font.setPixelSize(max(1, round(side * (0.46 if count < 10 else 0.38))))
        font.setBold(True)
        painter.setFont(font)
        painter.setPen(QColor("#ffffff"))
        painter.drawText(badge, Qt.AlignmentFlag.AlignCenter, str(min(count, 99)))
        painter.end()
        made.addPixmap(pixmap)
    return made
