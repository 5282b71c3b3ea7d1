"""A Qt model of the rows of the open conversation. It applies the edits of ChatAppState with one signal each."""

from collections.abc import Iterable

from PySide6.QtCore import QAbstractListModel, QModelIndex, QObject, QPersistentModelIndex, Qt

from parley.chat import Edit, Row, RowsChanged, RowsInserted, RowsRemoved, spoken

ROW_ROLE = Qt.ItemDataRole.UserRole + 1

_ROOT = QModelIndex()


class ThreadModel(QAbstractListModel):
    """A copy of the rows of a thread."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._rows: list[Row] = []

    def show(self, rows: list[Row]) -> None:
        """Replace all rows, for another conversation."""
        self.beginResetModel()
        self._rows = list(rows)
        self.endResetModel()

    def apply(self, edits: Iterable[Edit]) -> None:
        """Apply edits of the present conversation."""
        for edit in edits:
            match edit:
                case RowsInserted(at, rows):
                    self.beginInsertRows(_ROOT, at, at + len(rows) - 1)
                    self._rows[at:at] = rows
                    self.endInsertRows()
                case RowsRemoved(at, count):
                    self.beginRemoveRows(_ROOT, at, at + count - 1)
                    del self._rows[at : at + count]
                    self.endRemoveRows()
                case RowsChanged(at, rows):
                    self._rows[at : at + len(rows)] = rows
                    self.dataChanged.emit(self.index(at), self.index(at + len(rows) - 1))

    @property
    def rows(self) -> list[Row]:
        """Return all rows."""
        return self._rows

    def row(self, at: int) -> Row:
        return self._rows[at]

    def rowCount(self, parent: QModelIndex | QPersistentModelIndex = _ROOT) -> int:  # noqa: N802
        return 0 if parent.isValid() else len(self._rows)

    def data(self, index: QModelIndex | QPersistentModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        """Return the row itself for the delegate, and its text for screen readers."""
        if not index.isValid():
            return None
        row = self._rows[index.row()]
        match role:
            case _ if role == ROW_ROLE:
                return row
            case Qt.ItemDataRole.DisplayRole:
                return row.shown
            case Qt.ItemDataRole.AccessibleTextRole:
                return f"Mentions you. {spoken(row)}" if row.mentions_me else spoken(row)
        return None
