"""Tells people of messages while the window is in the background, a few at a time and never in a flood."""

from PySide6.QtCore import QObject, QTimer, Signal
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QApplication, QSystemTrayIcon, QWidget

from parley.gui.app_state import Key
from parley.gui.words import plural, preview
from parley.model import Message

GATHER_MS = 400
SHOW_MS = 8000


class Notifier(QObject):
    """Uses the system tray where there is one, otherwise the task bar's own way of asking for attention."""

    opened = Signal(str)
    shown = Signal(str, str)

    def __init__(self, window: QWidget, icon: QIcon) -> None:
        """Silent until something comes."""
        super().__init__(window)
        self._window = window
        self._waiting: dict[Key, list[Message]] = {}
        self._latest: Key | None = None
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

    def notice(self, key: Key, messages: tuple[Message, ...]) -> None:
        """Messages nobody looked at; said once they have stopped pouring in."""
        if self._window.isActiveWindow():
            return
        gathered = self._waiting.setdefault(key, [])
        gathered.extend(messages)
        del gathered[:-100]
        self._latest = key
        self._pause.start()

    def _show(self) -> None:
        waiting, self._waiting = self._waiting, {}
        if self._window.isActiveWindow() or not waiting:
            return
        for title, text in summaries(waiting):
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


def summaries(waiting: dict[Key, list[Message]]) -> list[tuple[str, str]]:
    """Title and text of each notification: one for each sender, one for all where there are many."""
    if len(waiting) > 3:
        count = sum(map(len, waiting.values()))
        return [("Parley", f"{plural(count, 'new message')} in {plural(len(waiting), 'conversation')}")]
    return [
        (
            messages[-1].sender,
            preview(messages[-1].body) if len(messages) == 1 else plural(len(messages), "new message"),
        )
        for messages in waiting.values()
    ]
