"""The rows of the open conversation as a Qt model: applies the edits of ChatAppState, one signal for each."""

from collections.abc import Iterable

from PySide6.QtCore import QAbstractListModel, QModelIndex, QObject, QPersistentModelIndex, Qt

from parley.chat import Edit, Row, RowsChanged, RowsInserted, RowsRemoved, spoken

ROW_ROLE = Qt.ItemDataRole.UserRole + 1

_ROOT = QModelIndex()


class ThreadModel(QAbstractListModel):
    """A mirror of the rows of a thread."""

    def __init__(self, parent: QObject | None = None) -> None:
        """Empty."""
        super().__init__(parent)
        self._rows: list[Row] = []

    def show(self, rows: list[Row]) -> None:
        """Another conversation."""
        self.beginResetModel()
        self._rows = list(rows)
        self.endResetModel()

    def apply(self, edits: Iterable[Edit]) -> None:
        """What changed in this one."""
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
        """All rows."""
        return self._rows

    def row(self, at: int) -> Row:
        """One row."""
        return self._rows[at]

    def rowCount(self, parent: QModelIndex | QPersistentModelIndex = _ROOT) -> int:  # noqa: N802
        """How many there are."""
        return 0 if parent.isValid() else len(self._rows)

    def data(self, index: QModelIndex | QPersistentModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        """The row itself for the delegate, and words for people who listen."""
        if not index.isValid():
            return None
        row = self._rows[index.row()]
        match role:
            case _ if role == ROW_ROLE:
                return row
            case Qt.ItemDataRole.DisplayRole:
                return row.body
            case Qt.ItemDataRole.AccessibleTextRole:
                return spoken(row)
        return None
