"""After the machine has slept, the window connects at once."""

from __future__ import annotations

import pytest
from PySide6.QtCore import QObject
from pytestqt.qtbot import QtBot

from parley.gui.sleep_watch import SLEPT_AFTER_S, SleepDetector, SleepWatch, clock_s
from tests.gui.test_main_window import Desktop, Keep


def test_a_gap_between_two_looks_is_a_sleep_and_a_slow_turn_is_none() -> None:
    detector = SleepDetector(100.0)
    looks = [101.0, 105.0, 105.0 + SLEPT_AFTER_S, 116.0, 50.0, 51.0, 4000.0, 4001.0]
    assert [detector.has_slept(now_s) for now_s in looks] == [False, False, True, False, False, False, True, False]


def test_the_clock_goes_on() -> None:
    assert clock_s() <= clock_s()


def test_one_sleep_is_told_once(qtbot: QtBot) -> None:
    now, told = [0.0], list[int]()
    parent = QObject()
    watch = SleepWatch(parent, lambda: told.append(1), lambda: now[0])
    for now[0] in (1.0, 2.0, 3602.0, 3603.0):
        watch.look()
    assert told == [1]


def test_the_window_connects_at_once_after_a_sleep(
    qtbot: QtBot, closing: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = [0.0]
    real = clock_s
    monkeypatch.setattr("parley.gui.main_window.SleepWatch.__init__.__defaults__", (lambda: real() + late[0],))
    desktop = Desktop(qtbot, closing).signed_in()
    assert desktop.sdk.hurried == 0
    late[0] = 3600.0
    desktop.until(lambda: desktop.sdk.hurried == 1)


def test_a_window_without_a_session_sleeps_in_peace(qtbot: QtBot, closing: Keep) -> None:
    desktop = Desktop(qtbot, closing)
    desktop.bridge.connect_now()
    desktop.signed_in()
    assert desktop.sdk.hurried == 0
