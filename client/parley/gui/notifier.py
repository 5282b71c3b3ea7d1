"""Notifies people of messages while the window is in the background. It bounds the number of notifications.

The settings of the window decide what appears. Many messages at once, as after a reconnect, give one notification.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PySide6.QtCore import QObject, QTimer, Signal
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QApplication, QSystemTrayIcon, QWidget

from parley.chat import ConversationKey, marked, plural
from parley.gui.icons import counted_icon
from parley.gui.news import News
from parley.gui.quiet import lets_through
from parley.gui.window_settings import Preview, WindowSettings

GATHER_MS = 400
GATHER_AT_MOST_MS = 3000
SHOW_MS = 8000
MOST_SINGLE = 3
MOST_MESSAGES = 20
MOST_URGENT = 10
MOST_MENTIONING = 10
PREVIEWS = 100


@dataclass(frozen=True, slots=True)
class Gathered:
    """New messages of a conversation that no notification has shown."""

    title: str
    previews: tuple[str, ...] = ()
    urgent: bool = False
    older: int = 0
    mentions: int = 0
    mention: str = ""
    """The latest message that mentions the person."""

    def with_news(self, news: Sequence[News]) -> "Gathered":
        """Return these messages and newer ones."""
        previews = (*self.previews, *(one.text for one in news))[-PREVIEWS:]
        mentions = [one.text for one in news if one.mention]
        return Gathered(
            self.title,
            previews,
            self.urgent or any(one.urgent for one in news),
            self.number + len(news) - len(previews),
            self.mentions + len(mentions),
            mentions[-1] if mentions else self.mention,
        )

    @property
    def weight(self) -> int:
        """Return how much the messages matter: 2 with an urgent one, 1 with a mention, 0 otherwise."""
        return 2 if self.urgent else 1 if self.mentions else 0

    @property
    def number(self) -> int:
        """Return how many messages there are; `older` ones have no preview any more."""
        return len(self.previews) + self.older

    @property
    def text(self) -> str:
        """Return them in one line. Of many, the latest mention is shown."""
        if self.number == 1:
            return self.previews[0]
        if not self.mentions:
            return self.counted
        mentions = f", {plural(self.mentions, 'mention')}" if self.mentions > 1 else ""
        return f"{self.mention} ({self.counted}{mentions})"

    @property
    def counted(self) -> str:
        """Return how many there are."""
        return marked(plural(self.number, "new message"), urgent=self.urgent)


class Notifier(QObject):
    """A notifier that uses the system tray. Without a tray, it marks the window in the task bar."""

    opened = Signal(object)
    shown = Signal(str, str)

    def __init__(
        self,
        window: QWidget,
        icon: QIcon,
        settings: Callable[[], WindowSettings] = WindowSettings,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """`settings` returns those in use."""
        super().__init__(window)
        self._window = window
        self.private = False
        """While it is set, nobody learns who wrote, or what."""
        self._icon = icon
        self._settings = settings
        self._now_ms = now_ms
        self.unread = self.mentions = 0
        self._waiting: dict[ConversationKey, Gathered] = {}
        self._latest: ConversationKey | None = None
        self._pause, self._limit = self._timer(GATHER_MS), self._timer(GATHER_AT_MOST_MS)
        self._tray: QSystemTrayIcon | None = None
        if QSystemTrayIcon.isSystemTrayAvailable():
            self._tray = QSystemTrayIcon(icon, self)
            self._tray.setToolTip("Parley")
            self._tray.messageClicked.connect(self.clicked)
            self._tray.activated.connect(lambda _reason: self._raise())
            self._tray.show()

    def notice(self, key: ConversationKey, title: str, news: Sequence[News]) -> None:
        """Add new messages of a conversation. The notification follows once no more arrive, within three seconds.

        A click on it opens the latest urgent one, else the latest with a mention, else the latest.
        """
        settings, now_ms = self._settings(), self._now_ms()
        news = [one for one in news if lets_through(settings, now_ms, urgent=one.urgent)]
        if not news or (self._window.isActiveWindow() and not self.private):
            return
        self._waiting[key] = self._waiting.get(key, Gathered(title)).with_news(news)
        if Gathered(title).with_news(news).weight >= max(one.weight for one in self._waiting.values()):
            self._latest = key
        self._pause.start()
        if not self._limit.isActive():
            self._limit.start()

    def forget(self) -> None:
        """Show nothing of what came: somebody else may be at the window now, or the conversations are others."""
        self._pause.stop()
        self._limit.stop()
        self._waiting, self._latest = {}, None

    def count(self, unread: int, mentions: int) -> None:
        """Show the number of unread messages on the icons of the window. The tray also says how many are mentions."""
        if (unread, mentions) == (self.unread, self.mentions):
            return
        self.unread, self.mentions = unread, mentions
        app = QApplication.instance()
        if isinstance(app, QApplication):
            app.setBadgeNumber(unread)
        if self._tray is not None:
            self._tray.setIcon(counted_icon(self._icon, unread))
            self._tray.setToolTip(tray_text(unread, mentions))

    def clicked(self) -> None:
        """Open the conversation of the last notification."""
        self._raise()
        if self._latest is not None and not self.private:
            self.opened.emit(self._latest)

    def _timer(self, interval_ms: int) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(interval_ms)
        timer.timeout.connect(self._show)
        return timer

    def _show(self) -> None:
        self._pause.stop()
        self._limit.stop()
        waiting, self._waiting = self._waiting, {}
        settings = self._settings()
        if not waiting or (self._window.isActiveWindow() and not self.private):
            return
        for title, text in summaries(list(waiting.values()), Preview.NONE if self.private else settings.preview):
            if self._tray is not None:
                self._tray.showMessage(title, text, QSystemTrayIcon.MessageIcon.NoIcon, SHOW_MS)
            self.shown.emit(title, text)
        if settings.sound:
            QApplication.beep()
        QApplication.alert(self._window)

    def _raise(self) -> None:
        self._window.showNormal() if self._window.isMinimized() else self._window.show()
        self._window.raise_()
        self._window.activateWindow()


def tray_text(unread: int, mentions: int) -> str:
    """Return what the icon in the tray says."""
    named = f", {plural(mentions, 'mention')}" if mentions else ""
    return f"Parley – {plural(unread, 'unread message')}{named}" if unread else "Parley"


def summaries(waiting: list[Gathered], preview: Preview = Preview.ALL) -> list[tuple[str, str]]:
    """Return title and text of each notification: one per conversation, or one for all if there are many.

    Conversations with urgent messages come first, then those that mention the person, each on its own up to MOST_URGENT
    and MOST_MENTIONING. A preview of NAMES replaces the text by the number of messages, and does not tell of mentions.
    NONE also leaves out the conversation, so one notification stands for all.
    """
    if preview is Preview.NONE:
        total = plural(sum(one.number for one in waiting), "new message")
        return [("Parley", marked(total, urgent=any(one.urgent for one in waiting)))] if waiting else []
    urgent = [one for one in waiting if one.urgent][:MOST_URGENT]
    mentioning = [one for one in waiting if one.mentions and one not in urgent][:MOST_MENTIONING]
    first = [*urgent, *mentioning]
    others = [one for one in waiting if one not in first]
    count = sum(one.number for one in others)
    shown = first
    together: list[tuple[str, str]] = []
    if len(others) > MOST_SINGLE or (len(others) > 1 and count >= MOST_MESSAGES):
        text = f"{plural(count, 'new message')} in {plural(len(others), 'conversation')}"
        together = [("Parley", text)]
    else:
        shown = [*first, *others]
    return [*((one.title, one.text if preview is Preview.ALL else one.counted) for one in shown), *together]
