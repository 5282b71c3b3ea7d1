"""Notifies people of messages while the window is in the background. It bounds the number of notifications."""

from PySide6.QtCore import QObject, QTimer, Signal
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QApplication, QSystemTrayIcon, QWidget

from parley.chat import ConversationKey, plural

GATHER_MS = 400
SHOW_MS = 8000


class Notifier(QObject):
    """A notifier that uses the system tray. Without a tray, it marks the window in the task bar."""

    opened = Signal(object)
    shown = Signal(str, str)

    def __init__(self, window: QWidget, icon: QIcon) -> None:
        super().__init__(window)
        self._window = window
        self._waiting: dict[ConversationKey, tuple[str, list[str]]] = {}
        self._latest: ConversationKey | None = None
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(GATHER_MS)
        self._pause.timeout.connect(self._show)
        self._tray: QSystemTrayIcon | None = None
        if QSystemTrayIcon.isSystemTrayAvailable():
            self._tray = QSystemTrayIcon(icon, self)
            self._tray.setToolTip("Parley")
            self._tray.messageClicked.connect(self._open_latest)
            self._tray.activated.connect(lambda _reason: self._raise())
            self._tray.show()

    def notice(self, key: ConversationKey, title: str, previews: list[str]) -> None:
        """Add new messages of a conversation. The notification follows once no more arrive."""
        if self._window.isActiveWindow():
            return
        _, gathered = self._waiting.get(key, (title, []))
        self._waiting[key] = title, [*gathered, *previews][-100:]
        self._latest = key
        self._pause.start()

    def _show(self) -> None:
        waiting, self._waiting = self._waiting, {}
        if self._window.isActiveWindow() or not waiting:
            return
        for title, text in summaries(list(waiting.values())):
            if self._tray is not None:
                self._tray.showMessage(title, text, QSystemTrayIcon.MessageIcon.NoIcon, SHOW_MS)
            self.shown.emit(title, text)
        QApplication.alert(self._window)

    def _open_latest(self) -> None:
        self._raise()
        if self._latest is not None:
            self.opened.emit(self._latest)

    def _raise(self) -> None:
        self._window.showNormal() if self._window.isMinimized() else self._window.show()
        self._window.raise_()
        self._window.activateWindow()


def summaries(waiting: list[tuple[str, list[str]]]) -> list[tuple[str, str]]:
    """Return title and text of each notification: one per conversation, or one for all if there are many."""
    if len(waiting) > 3:
        count = sum(len(previews) for _, previews in waiting)
        return [("Parley", f"{plural(count, 'new message')} in {plural(len(waiting), 'conversation')}")]
    return [
        (title, previews[0] if len(previews) == 1 else plural(len(previews), "new message"))
        for title, previews in waiting
    ]
