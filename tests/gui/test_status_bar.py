"""The bar at the bottom: its colour tells whether all is well, its text fits, and details are one click away."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from parley import ConnectionState
from parley.chat import StatusLevel
from parley.gui.theme import LIGHT
from tests.gui.scripted import NODES
from tests.gui.test_main_window import Desktop, Keep


@pytest.fixture
def desktop(qtbot: QtBot, closing: Keep) -> Desktop:
    return Desktop(qtbot, closing).signed_in()


def test_the_dot_is_amber_while_a_node_is_down_and_a_click_tells_which_one(desktop: Desktop) -> None:
    bar = desktop.window.status
    assert bar.shape.level is StatusLevel.GOOD
    assert "n1 leads" not in desktop.status
    desktop.sdk.state(nodes=(*NODES[:2], replace(NODES[2], up=False)))
    desktop.until(lambda: bar.shape.level is StatusLevel.BUSY)
    assert "2 of 3 nodes up" in desktop.status
    picture = bar.shape.grab().toImage()
    middle = picture.pixelColor(picture.width() // 2, picture.height() // 2)
    amber = LIGHT.color("warn")
    assert abs(middle.hue() - amber.hue()) < 10
    assert "n3  127.0.0.4:7600  down" in bar.toolTip()
    QTest.mouseClick(bar, Qt.MouseButton.LeftButton)
    panel = desktop.window.account_dialogs.cluster
    assert panel.dialog is not None
    assert "n1  127.0.0.2:7600  up, leads" in panel.dialog.details.text()
    assert "n3  127.0.0.4:7600  down" in panel.dialog.details.text()
    panel.dialog.reject()


def test_a_text_that_does_not_fit_ends_in_an_ellipsis_and_is_told_whole_on_request(desktop: Desktop) -> None:
    alone = tuple(replace(node, up=node.name == "n2") for node in NODES)
    desktop.window.resize(640, 480)
    desktop.sdk.state(connection=ConnectionState.NO_MAJORITY, has_majority=False, nodes=alone)
    desktop.until(lambda: desktop.status.startswith("No majority of nodes"))
    bar = desktop.window.status
    desktop.until(lambda: bar.label.width() < 640)
    assert bar.label.shown.endswith("…")
    assert bar.label.fontMetrics().horizontalAdvance(bar.label.shown) <= bar.label.width()
    assert desktop.status in bar.toolTip()
    desktop.window.resize(1600, 900)
    desktop.until(lambda: bar.label.shown == desktop.status)
    assert desktop.status not in bar.toolTip()
