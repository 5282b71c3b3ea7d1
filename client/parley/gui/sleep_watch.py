"""Notices that the machine has slept: the clock moved on while nothing here ran. The client connects at once then."""

import time
from collections.abc import Callable

from PySide6.QtCore import QObject, QTimer

LOOK_EVERY_MS = 1000
SLEPT_AFTER_S = 10.0


def clock_s() -> float:
    """Return a clock that also runs while the machine sleeps, in seconds.

    Where there is none it is the time of day. Setting that forward looks like a sleep, which costs one connection.
    """
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)
    return time.time() if boot_time is None else time.clock_gettime(boot_time)


class SleepDetector:
    """Compares the times of two looks."""

    def __init__(self, now_s: float) -> None:
        """`now_s` is the time of the first look."""
        self._last_s = now_s

    def has_slept(self, now_s: float) -> bool:
        """Record a look. Return true if far more time passed since the last one than between two looks."""
        gap_s, self._last_s = now_s - self._last_s, now_s
        return gap_s >= SLEPT_AFTER_S


class SleepWatch(QObject):
    """Looks every second."""

    def __init__(self, parent: QObject, woken: Callable[[], None], clock: Callable[[], float] = clock_s) -> None:
        """`woken` is called after each sleep."""
        super().__init__(parent)
        self._woken = woken
        self._clock = clock
        self._detector = SleepDetector(clock())
        timer = QTimer(self)
        timer.timeout.connect(self.look)
        timer.start(LOOK_EVERY_MS)

    def look(self) -> None:
        """Compare the clock with the last look."""
        if self._detector.has_slept(self._clock()):
            self._woken()
