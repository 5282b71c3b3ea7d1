"""Follows the time zone of the machine. A running process keeps the one it began with, unless it asks again."""

import os
import time
from collections.abc import Callable

from PySide6.QtCore import QEvent, QObject, QTimer
from PySide6.QtWidgets import QWidget

LOOK_EVERY_MS = 30_000
SYSTEM_ZONE = "/etc/localtime"


class TimeZoneWatch(QObject):
    """Looks now and then, and when the window comes to the front: somebody who travels has just set the zone."""

    def __init__(self, window: QWidget, changed: Callable[[], None]) -> None:
        """`changed` draws all times again."""
        super().__init__(window)
        self._changed = changed
        self._known = _zone()
        timer = QTimer(self)
        timer.timeout.connect(self.look)
        timer.start(LOOK_EVERY_MS)
        window.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Look when the window comes to the front."""
        if event.type() == QEvent.Type.WindowActivate:
            self.look()
        return super().eventFilter(watched, event)

    def look(self) -> None:
        """Take over another zone of the machine, if there is one."""
        zone = _zone()
        if zone != self._known:
            self._known = zone
            _read_zone_again()
            self._changed()


def _zone() -> tuple[object, ...]:
    """Return what is another value after a change of the zone: the setting, and the identity of the file it names."""
    setting = os.environ.get("TZ")
    path = SYSTEM_ZONE if setting is None else setting.removeprefix(":")
    try:
        found = os.stat(path) if path.startswith("/") else None
    except OSError:
        found = None
    return setting, None if found is None else (found.st_dev, found.st_ino, found.st_mtime_ns)


def _read_zone_again() -> None:
    """Make the C library read the zone again. It does so only after another setting than the one it has."""
    setting = os.environ.get("TZ")
    os.environ["TZ"] = "UTC0"
    time.tzset()
    if setting is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = setting
    time.tzset()
