"""The rows of `make bench-window`. Each runs in a process of its own, on the real window over real files.

A time of painting ends when the paint event of the widget has returned. A frame of scrolling begins when its turn of
the wheel is due, so whatever keeps the window's thread busy counts.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import psutil
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from parley.gui.bridge import Bridge
from parley.gui.commands import ClusterAddress
from parley.gui.conversations import ConversationList
from parley.gui.main_window import MainWindow
from parley.gui.theme import LIGHT
from parley.gui.thread_view import ThreadView
from scripts.bench.figures import Figures
from tests.bench_window.store import ACCOUNT, ADDRESS, STARTED, StoredClient, connect_to, message

FRAME_S = 0.016
NOTCHES = 10
SCROLL_S = 20.0
WAIT_S = 60.0


class Painted:
    """When the widgets of a class were painted last, by the clock and by the CPU time of the thread."""

    def __init__(self, kind: type[Any]) -> None:
        """Call this before the window is made."""
        self.count = 0
        self.at = self.at_cpu = 0.0
        self.filled_at = 0.0
        """The end of the first paint with anything in it since this was set to 0."""
        paint = kind.paintEvent

        def timed(widget: Any, event: Any) -> None:
            paint(widget, event)
            self.count += 1
            self.at, self.at_cpu = time.perf_counter(), time.thread_time()
            if not self.filled_at and widget.model().rowCount():
                self.filled_at = self.at

        kind.paintEvent = timed


class Desk:
    """A window over the files in `root`."""

    def __init__(self, root: Path) -> None:
        """Resume the session, and wait until the list is painted."""
        found = QApplication.instance()
        self.app = found if isinstance(found, QApplication) else QApplication(["parley-bench"])
        self.app.setStyle("Fusion")
        self.thread_paints, self.list_paints = Painted(ThreadView), Painted(ConversationList)
        began = time.perf_counter()
        self.window = MainWindow(LIGHT, root)
        self.bridge = Bridge(connect_to(root), self.window.app_state.apply)
        self.window.attach(self.bridge)
        self.bridge.start()
        self.window.show()
        self.window.resume(ClusterAddress(ADDRESS, None, True), ACCOUNT)
        self.until(lambda: self.list_paints.filled_at)
        self.list_s = self.list_paints.filled_at - began
        self.list_unix = time.time()

    def until(self, done: Callable[[], object]) -> None:
        """Run the window until something is so."""
        deadline = time.monotonic() + WAIT_S
        while not done():
            self.app.processEvents()
            if time.monotonic() > deadline:
                raise TimeoutError("The window did not get there within a minute. No figure was measured.")
            time.sleep(0)

    def until_painted(self, painted: Painted, before: int) -> None:
        self.until(lambda: painted.count > before)

    def until_first(self, conversation_id: int) -> None:
        """Run the window until a conversation is the first of the list."""
        self.until(lambda: self.window.chat.items.item(0).key.conversation_id == conversation_id)

    def click(self, row: int) -> None:
        """Click a line of the list."""
        chats = self.window.chat.list
        chats.scrollTo(self.window.chat.items.index(row))
        at = chats.visualRect(self.window.chat.items.index(row)).center()
        QTest.mouseClick(chats.viewport(), Qt.MouseButton.LeftButton, pos=at)

    def open(self, row: int) -> float:
        """Click a line. Return the seconds until the paint with its last message has ended."""
        self.thread_paints.filled_at = 0.0
        began = time.perf_counter()
        self.click(row)
        self.until(lambda: self.thread_paints.filled_at)
        return self.thread_paints.filled_at - began

    def close(self) -> None:
        """End as the program does."""
        self.window.close()
        self.bridge.stop()


def measure_open(root: Path) -> Figures:
    """Open the thread by a click, until its last page is painted."""
    desk = Desk(root)
    first = desk.open(0)
    desk.close()
    return {"open_ms": first * 1000}


def measure_scroll(root: Path) -> Figures:
    """Turn the wheel upwards through the thread, as fast as frames come."""
    desk = Desk(root)
    desk.open(0)
    view = desk.window.chat.view
    frames: list[float] = []
    cpu: list[float] = []
    jumps: list[float] = []
    due = time.perf_counter() + FRAME_S
    ends = time.monotonic() + SCROLL_S
    while time.monotonic() < ends:
        while time.perf_counter() < due:
            desk.app.processEvents()
            time.sleep(0.0005)
        before, began_cpu, place = desk.thread_paints.count, time.thread_time(), view.first_visible()
        _turn(view, NOTCHES)
        if view.first_visible() == 0 and place == 0:
            thread = desk.window.app_state.open_thread()
            if thread is not None and thread.wants_before(0) is None:
                break
        view.viewport().update()
        desk.until_painted(desk.thread_paints, before)
        frames.append(desk.thread_paints.at - due)
        cpu.append(desk.thread_paints.at_cpu - began_cpu)
        due = max(due + FRAME_S, desk.thread_paints.at)
    bar = view.verticalScrollBar()
    for step in range(100):
        before, began = desk.thread_paints.count, time.perf_counter()
        bar.setValue(bar.maximum() * (step * 37 % 100) // 100)
        desk.until_painted(desk.thread_paints, before)
        jumps.append(desk.thread_paints.at - began)
    rows = desk.window.chat.rows.rowCount()
    desk.close()
    return {
        "rows": rows,
        "frames": len(frames),
        "frame_p50_ms": statistics.median(frames) * 1000,
        "frame_p99_ms": statistics.quantiles(frames, n=100)[98] * 1000,
        "frame_max_ms": max(frames) * 1000,
        "frame_cpu_max_ms": max(cpu) * 1000,
        "frames_over_33": sum(one > 0.033 for one in frames),
        "jump_max_ms": max(jumps) * 1000,
    }


def _turn(view: ThreadView, notches: int) -> None:
    port = view.viewport()
    middle = QPointF(port.rect().center())
    turn, buttons, keys = QPoint(0, 120 * notches), Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier
    phase = Qt.ScrollPhase.NoScrollPhase
    event = QWheelEvent(middle, port.mapToGlobal(middle), QPoint(), turn, buttons, keys, phase, False)
    QApplication.sendEvent(port, event)


def measure_list(root: Path) -> Figures:
    """Show the list, filter it, and take one message at a time in a conversation far down."""
    desk = Desk(root)
    shown = desk.window.chat.items.rowCount()
    arrivals: list[float] = []
    client = StoredClient.last()
    for step in range(20):
        number, message_id = 10 + step, 1_000_000 + step
        before, began = desk.list_paints.count, time.perf_counter()
        client.arrive([message(number, message_id)])
        desk.until_first(1000 + number)
        desk.until_painted(desk.list_paints, before)
        arrivals.append(desk.list_paints.at - began)
    filters: list[float] = []
    began = time.perf_counter()
    desk.window.conversation_finder.switch_conversation()
    finder = desk.window.conversation_finder.finder
    if finder is None:
        raise RuntimeError("The dialog did not open.")
    desk.app.processEvents()
    opened = time.perf_counter() - began
    for key in "person 19":
        began = time.perf_counter()
        QTest.keyClicks(finder.field, key)
        desk.app.processEvents()
        filters.append(time.perf_counter() - began)
    finder.reject()
    desk.close()
    return {
        "conversations": shown,
        "list_show_ms": desk.list_s * 1000,
        "list_message_ms": statistics.median(arrivals) * 1000,
        "finder_open_ms": opened * 1000,
        "filter_key_max_ms": max(filters) * 1000,
    }


def measure_day(root: Path) -> Figures:
    """Take 5,000 messages in 50 conversations. Open each of them again and again, and go back to the list."""
    desk = Desk(root)
    client, process = StoredClient.last(), psutil.Process()
    people, rss = desk.window.chat.items.rowCount(), [process.memory_info().rss]
    for turn in range(1000):
        number, first_id = 1 + turn * 17 % people, 1_000_000 + turn * 5
        client.arrive([message(number, first_id + at) for at in range(5)])
        desk.until_first(1000 + number)
        desk.open(0)
        desk.window.close_conversation()
        if turn in (499, 999):
            rss.append(process.memory_info().rss)
    desk.close()
    before, middle, after = (one / 2**20 for one in rss)
    return {"rss_before_mib": before, "rss_after_mib": after, "rss_second_half_mib": after - middle}


def measure_start(root: Path) -> Figures:
    """From the start of the process to the first paint of the window, and of the list."""
    desk = Desk(root)
    started = float(os.environ[STARTED])
    figures: Figures = {"list_painted_s": desk.list_unix - started}
    desk.close()
    return figures
