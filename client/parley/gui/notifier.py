"""Notifies people of messages while the window is in the background. It bounds the number of notifications."""

from dataclasses import dataclass

from PySide6.QtCore import QObject, QTimer, Signal
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QApplication, QSystemTrayIcon, QWidget

from parley.chat import ConversationKey, marked, plural

GATHER_MS = 400
SHOW_MS = 8000
MOST_SINGLE = 3
MOST_URGENT = 10


@dataclass(frozen=True, slots=True)
class Gathered:
    """New messages of a conversation that no notification has shown."""

    title: str
    previews: tuple[str, ...] = ()
    urgent: bool = False

    @property
    def text(self) -> str:
        """Return them in one line."""
        if len(self.previews) == 1:
            return self.previews[0]
        return marked(plural(len(self.previews), "new message"), urgent=self.urgent)


class Notifier(QObject):
    """A notifier that uses the system tray. Without a tray, it marks the window in the task bar."""

    opened = Signal(object)
    shown = Signal(str, str)

    def __init__(self, window: QWidget, icon: QIcon) -> None:
        super().__init__(window)
        self._window = window
        self.private = False
        """While it is set, nobody learns who wrote, or what."""
        self._waiting: dict[ConversationKey, Gathered] = {}
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

    def notice(self, key: ConversationKey, title: str, previews: list[str], *, urgent: bool = False) -> None:
        """Add new messages of a conversation. The notification follows once no more arrive.

        A click on it opens the latest urgent one, or the latest if none is urgent.
        """
        if self._window.isActiveWindow() and not self.private:
            return
        before = self._waiting.get(key, Gathered(title))
        self._waiting[key] = Gathered(title, (*before.previews, *previews)[-100:], before.urgent or urgent)
        if urgent or not any(one.urgent for one in self._waiting.values()):
            self._latest = key
        self._pause.start()

    def _show(self) -> None:
        waiting, self._waiting = self._waiting, {}
        if not waiting or (self._window.isActiveWindow() and not self.private):
            return
        count = sum(len(one.previews) for one in waiting.values())
        hidden = [("Parley", plural(count, "new message"))]
        for title, text in hidden if self.private else summaries(list(waiting.values())):
            if self._tray is not None:
                self._tray.showMessage(title, text, QSystemTrayIcon.MessageIcon.NoIcon, SHOW_MS)
            self.shown.emit(title, text)
        QApplication.alert(self._window)

    def _open_latest(self) -> None:
        self._raise()
        if self._latest is not None and not self.private:
            self.opened.emit(self._latest)

    def _raise(self) -> None:
        self._window.showNormal() if self._window.isMinimized() else self._window.show()
        self._window.raise_()
        self._window.activateWindow()


def summaries(waiting: list[Gathered]) -> list[tuple[str, str]]:
    """Return title and text of each notification: one per conversation, or one for all if there are many.

    Conversations with urgent messages come first, each on its own up to MOST_URGENT.
    """
    urgent = [one for one in waiting if one.urgent][:MOST_URGENT]
    others = [one for one in waiting if one not in urgent]
    shown = [(one.title, one.text) for one in urgent]
    if len(others) > MOST_SINGLE:
        count = sum(len(one.previews) for one in others)
        return [*shown, ("Parley", f"{plural(count, 'new message')} in {plural(len(others), 'conversation')}")]
    return [*shown, *((one.title, one.text) for one in others)]
