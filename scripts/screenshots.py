"""Draws the screenshots of the window in docs/images from the real widgets over a scripted state, without a display.

Needs a good font and one with emoji. `make screenshots` installs them if it can. `make screenshots ARGS="--every --out
build/screenshots"` draws every scene in light and dark, in three widths. `--scale`, `--text` and `--rtl` draw the same
for a sharper screen, with larger text, and in a window that begins at the right. The scenes are events that a cluster
would cause, so a screenshot cannot show what the window could not.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import QCoreApplication, QEvent, QSize, Qt
from PySide6.QtGui import QFont, QFontDatabase, QImage
from PySide6.QtWidgets import QApplication, QWidget

from parley.gui.theme import DARK, LIGHT, Theme, apply_theme
from parley.gui.window_settings import TEXT_PERCENTS
from scripts.screenshot_scenes import MORE_SCENES, SCENES, Scene
from scripts.screenshot_stage import Stage

SIZE = QSize(1120, 720)
SCALE = 1.5
SMALLEST_FILE = 0  # as Qt counts the quality of a PNG
SCREEN = (1920, 1200)
FONTS = {
    "Inter": "fonts-inter",
    "Noto Color Emoji": "fonts-noto-color-emoji",
    "DejaVu Sans": "fonts-dejavu-core",  # Arabic and Hebrew
}
WIDTHS = (640, 1120, 1600)
TURNS = 5


def pictures(*, every: bool) -> Iterator[tuple[str, Theme, QSize, Scene]]:
    """Yield what to draw: the pictures of the documentation, or `every` scene in both themes and all widths."""
    for name, theme, scene in SCENES if not every else (*SCENES, *MORE_SCENES):
        if not every:
            yield name, theme, SIZE, scene
            continue
        for width in WIDTHS:
            for words, other in (("light", LIGHT), ("dark", DARK)):
                yield f"{name}-{width}-{words}", other, QSize(width, SIZE.height()), scene


@contextmanager
def shown(app: QApplication, theme: Theme, size: QSize, scene: Scene, text_percent: int = 100) -> Iterator[QWidget]:
    """Show a scene. Yield what is in front: the window, or what is over it. Nothing of it is left afterwards."""
    font, direction = app.font(), app.layoutDirection()
    now = datetime.now().astimezone().replace(hour=11, minute=52, second=0)
    apply_theme(app, theme)
    with TemporaryDirectory() as folder:
        stage = Stage(theme, now, Path(folder))
        window = stage.window
        try:
            window.resize(size)
            window.show()
            window.settings.change(lambda settings: replace(settings, text_percent=text_percent))
            window.activateWindow()
            for _ in range(TURNS):
                app.processEvents()
            scene(stage)
            for _ in range(TURNS):
                app.processEvents()
            yield app.activePopupWidget() or app.activeModalWidget() or window
        finally:
            app.setFont(font)
            app.setLayoutDirection(direction)
            window.close()
            window.deleteLater()
            QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)


def application(scale: float) -> QApplication:
    """Return the application, on a screen that is large enough for every picture."""
    os.environ["QT_SCALE_FACTOR"] = str(scale)
    width, height = (round(side * scale) for side in SCREEN)
    screen = {"name": "pictures", "x": 0, "y": 0, "width": width, "height": height}
    screen |= {"logicalDpi": 96, "logicalBaseDpi": 96, "dpr": 1}
    with TemporaryDirectory() as folder:
        config = Path(folder) / "screen.json"
        config.write_text(json.dumps({"screens": [screen]}))
        if os.environ["QT_QPA_PLATFORM"] == "offscreen":
            os.environ["QT_QPA_PLATFORM"] = f"offscreen:configfile={config}"
        return QApplication(["screenshots"])


def main() -> int:
    """Write all screenshots, or those that are named."""
    parser = argparse.ArgumentParser(description="Draws the pictures of the window.")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="where to (default: docs/images)")
    parser.add_argument("--missing-fonts", action="store_true", help="only print the Debian packages of missing fonts")
    parser.add_argument("--every", action="store_true", help="each scene in light and dark, in three widths")
    parser.add_argument("--scale", type=float, help=f"pixels of the screen for one (default: {SCALE}; 1 with --every)")
    parser.add_argument("--text", type=int, choices=TEXT_PERCENTS, default=100, help="size of the text, in percent")
    parser.add_argument("--rtl", action="store_true", help="in a window that begins at the right")
    parser.add_argument("names", nargs="*", help="only these")
    given = parser.parse_args()
    app = application(given.scale or (1.0 if given.every else SCALE))
    app.setStyle("Fusion")
    if given.rtl:
        app.setLayoutDirection(Qt.LayoutDirection.RightToLeft)
    absent = [package for family, package in FONTS.items() if family not in QFontDatabase.families()]
    if given.missing_fonts:
        print("\n".join(absent))
        return 0
    if absent:
        print(
            f"The pictures need fonts that are not here. Run: sudo apt-get install {' '.join(absent)}", file=sys.stderr
        )
        return 1
    font = QFont("Inter")
    font.setFamilies([*FONTS])
    font.setPointSizeF(10.5)
    app.setFont(font)
    given.out.mkdir(parents=True, exist_ok=True)
    for name, theme, size, scene in pictures(every=given.every):
        if given.names and name not in given.names:
            continue
        with shown(app, theme, size, scene, given.text) as front:
            picture = front.grab()
        file = given.out / f"{name}.png"
        picture.toImage().convertToFormat(QImage.Format.Format_RGB888).save(str(file), None, SMALLEST_FILE)
        print(f"{file}: {picture.width()} x {picture.height()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
