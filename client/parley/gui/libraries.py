"""Checks that Qt can be loaded, and states in one line what is missing.

`python -m parley.gui.libraries` prints the Debian packages to install, one per line. With --window it includes those
for a display. scripts/gui_libraries.sh installs them.
"""

import ctypes
import importlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

ANYWHERE = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libX11.so.6": "libx11-6",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libfreetype.so.6": "libfreetype6",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libzstd.so.1": "libzstd1",
}
"""The shared libraries that Qt needs to be loaded, and the Debian packages that hold them."""

FOR_X11 = {
    "libX11-xcb.so.1": "libx11-xcb1",
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-randr.so.0": "libxcb-randr0",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-sync.so.1": "libxcb-sync1",
    "libxcb-xfixes.so.0": "libxcb-xfixes0",
    "libxcb-xkb.so.1": "libxcb-xkb1",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
}
"""The libraries that Qt also needs to open a window on X11."""

FONTS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts")
FONT_PACKAGE = "fonts-dejavu-core"


class MissingError(Exception):
    """Something must be installed. The text is one line and names it."""


def check() -> None:
    """Raise MissingError if the window cannot open because a package, a library or a display is missing."""
    try:
        importlib.import_module("PySide6.QtWidgets")
    except ImportError as error:
        raise MissingError(explain(str(error))) from error
    if sys.platform == "linux" and not os.environ.get("QT_QPA_PLATFORM"):
        wayland, x11 = os.environ.get("WAYLAND_DISPLAY"), os.environ.get("DISPLAY")
        if not wayland and not x11:
            raise MissingError("There is no display here. The window needs a desktop; in a terminal use: parley chat")
        if x11 and not wayland and (absent := missing(FOR_X11)):
            raise MissingError(install_line(packages_of(absent)))


def explain(reason: str, loads: Callable[[str], bool] | None = None) -> str:
    """Return the meaning of an import error in one line."""
    if any(name in reason for name in ANYWHERE):
        # The loader names only the first one that is missing; say all that are, so that one command is enough.
        named = [name for name in ANYWHERE if name in reason]
        return install_line(packages_of({*named, *missing(ANYWHERE, loads), *missing(FOR_X11, loads)}))
    if "PySide6" in reason and "No module" in reason:
        return (
            "The extra `gui` is not installed (missing: PySide6). "
            "Run in a checkout: pip install '.[gui]', or with the path of Parley's wheel: pip install 'WHEEL[gui]'"
        )
    return f"Qt cannot be loaded ({reason}). Install what it names, or use the terminal: parley chat"


def missing(names: Iterable[str], loads: Callable[[str], bool] | None = None) -> list[str]:
    """Return the names of the libraries that cannot be loaded."""
    return [name for name in names if not (loads or _loads)(name)]


def packages_of(names: Iterable[str]) -> list[str]:
    """Return the Debian packages that hold the libraries."""
    every = ANYWHERE | FOR_X11
    return sorted({every[name] for name in names})


def install_line(packages: list[str]) -> str:
    """Return the line that tells how to install the missing packages."""
    if shutil.which("apt-get") is None:
        return f"The window needs libraries this system does not have, in Debian called {', '.join(packages)}."
    sudo = "" if os.geteuid() == 0 else "sudo "
    return f"The window needs libraries this system does not have. Run: {sudo}apt-get install {' '.join(packages)}"


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _has_font() -> bool:
    return any(next(Path(folder).expanduser().rglob("*.[to]tf"), None) is not None for folder in FONTS)


def main() -> int:
    """Print the packages to install."""
    if sys.platform == "linux":
        absent = missing(ANYWHERE | FOR_X11 if "--window" in sys.argv[1:] else ANYWHERE)
        for package in [*packages_of(absent), *([] if _has_font() else [FONT_PACKAGE])]:
            sys.stdout.write(f"{package}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
