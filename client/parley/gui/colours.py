"""Which colours the window has: those of the system, light, or dark. The choice is kept for the next start."""

from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QAction, QActionGroup, QGuiApplication
from PySide6.QtWidgets import QMenu

from parley import read_private, replace_private
from parley.gui.theme import DARK, LIGHT, Theme, system_theme

FILE_NAME = "colours"
MAX_BYTES = 64


class ColourChoice(StrEnum):
    """What a person can choose."""

    SYSTEM = "system"
    LIGHT = "light"
    DARK = "dark"


CHOICE_WORDS = {ColourChoice.SYSTEM: "Like the system", ColourChoice.LIGHT: "Light", ColourChoice.DARK: "Dark"}
_THEMES = {ColourChoice.LIGHT: LIGHT, ColourChoice.DARK: DARK}


class Colours(QObject):
    """The choice, and the theme that follows from it."""

    changed = Signal(object)  # the theme
    chosen = Signal(object)  # the choice of the person

    def __init__(self, fixed: Theme | None, parent: QObject | None = None) -> None:
        """Follow the system unless a theme is given, until somebody chooses."""
        super().__init__(parent)
        self._fixed = fixed
        self._choice = ColourChoice.SYSTEM
        QGuiApplication.styleHints().colorSchemeChanged.connect(self._system_changed)

    @property
    def theme(self) -> Theme:
        """Return the present palette."""
        return _THEMES.get(self._choice) or self._fixed or system_theme()

    @property
    def choice(self) -> ColourChoice:
        """Return what the person chose."""
        return self._choice

    def choose(self, choice: ColourChoice) -> None:
        """Use these colours from now on."""
        if choice is not self._choice:
            self._choice = choice
            self._tell()
            self.chosen.emit(choice)

    def add_to(self, menu: QMenu) -> None:
        """Add the choices to a menu."""
        part = menu.addMenu("Colours")
        group = QActionGroup(part)
        for choice, words in CHOICE_WORDS.items():
            action = QAction(words, part)
            action.setCheckable(True)
            action.setChecked(choice is self._choice)
            action.triggered.connect(lambda _checked=False, choice=choice: self.choose(choice))
            group.addAction(action)
            part.addAction(action)

    def _system_changed(self, _scheme: object) -> None:
        self._tell()

    def _tell(self) -> None:
        self.changed.emit(self.theme)


def load(root: Path) -> ColourChoice:
    """Return the stored choice, or SYSTEM."""
    try:
        return ColourChoice(read_private(root / FILE_NAME, MAX_BYTES).decode("ascii").strip())
    except (OSError, ValueError):
        return ColourChoice.SYSTEM


def save(root: Path, choice: ColourChoice) -> None:
    """Store the choice. Errors are ignored, because a full disk must not stop the window."""
    with suppress(OSError):
        replace_private(root / FILE_NAME, f"{choice}\n")
