"""The list of members above the field while somebody begins a mention. It never takes the focus from the field."""

from collections.abc import Sequence

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QPoint, QRect, QRectF, QSize, Qt, Signal
from PySide6.QtGui import (
    QAccessible,
    QAccessibleAnnouncementEvent,
    QFont,
    QFontMetrics,
    QPainter,
    QPalette,
    QStandardItem,
    QStandardItemModel,
)
from PySide6.QtWidgets import QListView, QStyledItemDelegate, QStyleOptionViewItem, QWidget

from parley import Account
from parley.chat import account_label, safe_name
from parley.gui.direction import FROM_RIGHT, draw_line, mirrored, window_direction
from parley.gui.theme import GRID, scaled_font

_ACCOUNT_ROLE = Qt.ItemDataRole.UserRole + 1
MOST_WIDTH = 52 * GRID
PAD = GRID
EDGE = 5  # border and padding of the list, as in its style


def announce(place: QWidget, text: str) -> None:
    """Let a screen reader say a text, because the focus stays where it is."""
    QAccessible.updateAccessibility(QAccessibleAnnouncementEvent(place, text))


class MentionList(QListView):
    """The members that match. The first one is selected."""

    chosen = Signal(object)  # the account

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._shown = QStandardItemModel(self)
        self.setObjectName("mentions")
        self.setModel(self._shown)
        self.setItemDelegate(_MemberDelegate(self))
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setEditTriggers(QListView.EditTrigger.NoEditTriggers)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMouseTracking(True)
        self.setAccessibleName("Members to mention")
        self.clicked.connect(lambda index: self.chosen.emit(index.data(_ACCOUNT_ROLE)))
        self.hide()

    def show_accounts(self, accounts: Sequence[Account]) -> None:
        """Show these accounts instead of those before, unless they are the same."""
        if accounts == self.accounts:
            return
        self._shown.clear()
        for account in accounts:
            item = QStandardItem(account_label(account))
            item.setData(account, _ACCOUNT_ROLE)
            self._shown.appendRow(item)
        self.setCurrentIndex(self._shown.index(0, 0))

    @property
    def accounts(self) -> list[Account]:
        """Return the accounts that are shown, the best first."""
        return [self._shown.index(row, 0).data(_ACCOUNT_ROLE) for row in range(self._shown.rowCount())]

    @property
    def current(self) -> Account:
        """Return the selected account."""
        account: Account = self.currentIndex().data(_ACCOUNT_ROLE)
        return account

    @property
    def spoken(self) -> str:
        """Return the selected account and its place, for screen readers."""
        return f"{self.currentIndex().data()}, {self.currentIndex().row() + 1} of {self._shown.rowCount()}"

    def step(self, by: int) -> None:
        """Select another account."""
        row = min(max(0, self.currentIndex().row() + by), self._shown.rowCount() - 1)
        self.setCurrentIndex(self._shown.index(row, 0))

    def place(self, mention: QPoint, room: QRect) -> None:
        """Stand at the bottom of `room`, above the `@` of the mention as far as there is room."""
        accounts = self.accounts
        height = min(room.height(), len(accounts) * row_height(self.font()) + 2 * EDGE)
        width = min(room.width(), MOST_WIDTH, max(row_width(one, self.font()) for one in accounts) + 2 * EDGE)
        area = QRect(0, room.bottom() + 1 - height, width, height)
        if window_direction() == FROM_RIGHT:
            area.moveRight(mention.x() + PAD + EDGE)
        else:
            area.moveLeft(mention.x() - PAD - EDGE)
        area.moveLeft(max(room.left(), min(area.left(), room.right() + 1 - width)))
        self.setGeometry(area)
        self.scrollTo(self.currentIndex())


class _MemberDelegate(QStyledItemDelegate):
    """Draws an account name, and the display name beside it."""

    def sizeHint(  # noqa: N802
        self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> QSize:
        """Return the height of a row. It is as wide as the list, whatever the names need."""
        return QSize(1, row_height(option.font))

    def initStyleOption(  # noqa: N802
        self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        """Leave out the text, which paint() draws."""
        super().initStyleOption(option, index)
        option.text = ""

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        """Draw a row into option.rect."""
        super().paint(painter, option, index)
        name, beside = _parts(index.data(_ACCOUNT_ROLE))
        rect: QRect = option.rect
        palette: QPalette = option.palette
        area = QRectF(rect).adjusted(PAD, 0, -PAD, 0)
        painter.save()
        painter.setFont(_bold(option.font))
        painter.setPen(palette.color(QPalette.ColorRole.Text))
        width = draw_line(painter, area, name)
        painter.setFont(option.font)
        painter.setPen(palette.color(QPalette.ColorRole.PlaceholderText))
        rest = area.adjusted(width + 2 * GRID, 0, 0, 0)
        if beside and rest.width() > 0:
            draw_line(painter, mirrored(rest, area, window_direction()), beside)
        painter.restore()


def row_height(font: QFont) -> int:
    """Return the height of a row."""
    return QFontMetrics(font).height() + 2 * PAD


def row_width(account: Account, font: QFont) -> int:
    """Return the width in which a row shows both names whole."""
    name, beside = _parts(account)
    width = 2 * PAD + 2 + QFontMetrics(_bold(font)).horizontalAdvance(name)
    return width + 2 * GRID + QFontMetrics(font).horizontalAdvance(beside) if beside else width


def _parts(account: Account) -> tuple[str, str]:
    return f"@{safe_name(account.name)}", safe_name(account.display_name)


def _bold(font: QFont) -> QFont:
    return scaled_font(font, 1.0, bold=True)
