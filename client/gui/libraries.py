"""Says in one line what is missing on this machine before Qt fails with pages."""

import importlib
import os
import shutil
import sys

LIBRARIES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libfreetype.so.6": "libfreetype6",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-randr.so.0": "libxcb-randr0",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-xkb.so.1": "libxcb-xkb1",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
}
"""Shared libraries Qt needs on Linux and the Debian packages that hold them."""

ALWAYS = ("libEGL.so.1", "libGL.so.1", "libxkbcommon.so.0", "libdbus-1.so.3", "libfontconfig.so.1")


class MissingError(Exception):
    """Something must be installed; the text is one line and says what."""


def check() -> None:
    """Raises MissingError where the window cannot open for want of a package or library."""
    try:
        importlib.import_module("PySide6.QtWidgets")
    except ImportError as error:
        raise MissingError(explain(str(error))) from error
    if sys.platform == "linux" and os.environ.get("QT_QPA_PLATFORM", "") == "":
        _check_display()


def _check_display() -> None:
    if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        raise MissingError("There is no display here. The window needs a desktop; in a terminal use: parley chat")
    if os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        absent = [name for name in LIBRARIES if not _loads(name)]
        if absent:
            raise MissingError(install_line(absent))


def explain(reason: str) -> str:
    """What an import error means, in one line."""
    absent = [name for name in LIBRARIES if name in reason]
    if absent:
        # The loader names only the first one that is missing; say all that are, so that one command is enough.
        more = [name for name in ALWAYS if name not in absent and not _loads(name)]
        return install_line([*absent, *more])
    if "PySide6" in reason and "No module" in reason:
        return "The window needs PySide6, which is not installed. Run: pip install 'parley[gui]'"
    return f"Qt cannot be loaded ({reason}). Install what it names, or use the terminal: parley chat"


def install_line(absent: list[str]) -> str:
    """The one line for missing libraries."""
    packages = sorted({LIBRARIES[name] for name in absent})
    sudo = "" if os.geteuid() == 0 else "sudo "
    command = f"{sudo}apt-get install {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        command = f"install the packages that hold {', '.join(sorted(absent))}"
    return f"The window needs libraries this system does not have. Run: {command}"


def _loads(name: str) -> bool:
    import ctypes

    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True
