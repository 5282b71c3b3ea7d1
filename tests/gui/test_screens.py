"""On a screen with smaller pixels everything is drawn in those pixels, and nothing is cut."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QImage, QPainter
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from parley.gui.controls import CheckBox, ChoiceBox
from parley.gui.icons import MARK_SIZE, AppMark, app_icon, counted_icon, draw_app_icon

SEEN = """
import json, os
from PySide6.QtCore import QSize
from scripts.screenshots import application, shown
from scripts.screenshot_scenes import chat, sign_in
from parley.gui.icons import app_icon, counted_icon
from parley.gui.theme import LIGHT
from tests.gui.test_pictures import SMALLEST, cut_texts

app = application(float(os.environ["SCALE"]))
app.setStyle("Fusion")
seen = {}
for scene in (sign_in, chat):
    with shown(app, LIGHT, SMALLEST, scene) as window:
        picture = window.grab()
        seen[scene.__name__] = [picture.width(), picture.height(), picture.devicePixelRatio(), cut_texts(window)]
for name, icon in (("icon", app_icon()), ("counted", counted_icon(app_icon(), 7))):
    for side in (16, 22, 32, 64):
        pixels = icon.pixmap(QSize(side, side), app.devicePixelRatio())
        enough = any(size.width() >= pixels.width() for size in icon.availableSizes())
        seen[f"{name}{side}"] = [pixels.width(), pixels.devicePixelRatio(), enough]
print(json.dumps(seen))
"""


@pytest.mark.parametrize("scale", [1.5, 2.0])
def test_the_window_fills_the_pixels_of_its_screen(scale: float) -> None:
    environment = os.environ | {"SCALE": str(scale), "QT_QPA_PLATFORM": "offscreen"}
    command = [sys.executable, "-c", SEEN]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    seen = json.loads(run.stdout.splitlines()[-1])
    for scene in ("sign_in", "chat"):
        assert seen.pop(scene) == [640 * scale, 600 * scale, scale, []]
    for name, (width, ratio, enough) in seen.items():
        side = int(name.removeprefix("icon").removeprefix("counted"))
        assert (width, ratio) == (side * scale, scale), name
        assert enough, f"{name} is blown up"


def drawn(widget: QWidget, scale: float) -> QImage:
    """The pixels of a widget on a screen of this scale."""
    picture = QImage(widget.size() * scale, QImage.Format.Format_ARGB32_Premultiplied)
    picture.setDevicePixelRatio(scale)
    picture.fill(Qt.GlobalColor.white)
    widget.render(picture)
    return picture


@pytest.mark.parametrize("scale", [1.0, 1.5, 2.0, 3.0])
def test_the_icon_on_a_page_is_drawn_in_the_pixels_of_the_screen(qtbot: QtBot, scale: float) -> None:
    mark = AppMark()
    qtbot.addWidget(mark)
    side = round(MARK_SIZE * scale)
    wanted = QImage(QSize(side, side), QImage.Format.Format_ARGB32_Premultiplied)
    wanted.fill(Qt.GlobalColor.white)
    painter = QPainter(wanted)
    draw_app_icon(painter, side)
    painter.end()
    seen = drawn(mark, scale)
    far = [
        (x, y)
        for x in range(side)
        for y in range(side)
        if abs(seen.pixelColor(x, y).lightness() - wanted.pixelColor(x, y).lightness()) > 24
    ]
    assert far == []


@pytest.mark.parametrize("kind", [CheckBox, ChoiceBox])
def test_the_marks_of_controls_are_no_bitmaps(qtbot: QtBot, kind: type[CheckBox] | type[ChoiceBox]) -> None:
    control = kind()
    qtbot.addWidget(control)
    control.resize(80, 30)
    if isinstance(control, CheckBox):
        control.setChecked(True)
    large = drawn(control, 2.0)
    blown_up = drawn(control, 1.0).scaled(large.size(), mode=Qt.TransformationMode.SmoothTransformation)
    assert steepest(large) > steepest(blown_up)


def steepest(picture: QImage) -> int:
    """The largest difference between neighbours: a picture that was blown up has none that is large."""
    return max(
        abs(picture.pixelColor(x, y).lightness() - picture.pixelColor(x + 1, y).lightness())
        for x in range(picture.width() - 1)
        for y in range(picture.height())
    )


def test_an_icon_with_a_count_has_pixels_for_every_screen(qapp: QApplication) -> None:
    sizes = {size.width() for size in counted_icon(app_icon(), 3).availableSizes()}
    assert {22, 32, 48, 64} <= sizes
    assert max(sizes) >= 128, "64 at twice the scale"
