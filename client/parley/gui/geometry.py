"""Stores the position of the window. The SDK stores hosts, account and session."""

from contextlib import suppress
from pathlib import Path

from PySide6.QtCore import QByteArray
from PySide6.QtWidgets import QWidget

from parley import read_private, replace_private

FILE_NAME = "window"
MAX_BYTES = 4096


def load(root: Path) -> bytes:
    """Return the stored geometry, or empty bytes."""
    try:
        return read_private(root / FILE_NAME, MAX_BYTES)
    except (OSError, ValueError):
        return b""


def place(window: QWidget, stored: bytes) -> None:
    """Give a window the stored geometry. Without one it keeps its size, but is no larger than its screen."""
    if not window.restoreGeometry(QByteArray(stored)):
        window.resize(window.size().boundedTo(window.screen().availableSize()))


def save(root: Path, geometry: bytes) -> None:
    """Store the geometry. Errors are ignored, because a full disk must not stop the window."""
    with suppress(OSError):
        replace_private(root / FILE_NAME, geometry)
