"""The settings in use. Every part of the window that follows them listens to `changed`."""

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtWidgets import QApplication, QMessageBox, QWidget

from parley.gui import window_settings
from parley.gui.theme import scaled_font
from parley.gui.window_settings import WindowSettings, load, save


class SettingsKeeper(QObject):
    """Loads the settings, applies the size of the text to the application, and stores each change at once."""

    changed = Signal(object)

    def __init__(self, root: Path | None, parent: QObject | None = None) -> None:
        """Without a directory nothing is loaded or stored."""
        super().__init__(parent)
        self._root = root
        self._font = QApplication.font()
        self.value, self.problem = (WindowSettings(), "") if root is None else load(root)
        self._apply_size()

    def change(self, change: Callable[[WindowSettings], WindowSettings]) -> None:
        """Use other settings from now on. `problem` says then why they could not be stored, if so."""
        before = self.value
        wanted = change(before)
        if wanted == before:
            return
        if self._root is None or self.problem:  # what could not be stored counts here
            self.value = wanted
            self.problem = "" if self._root is None else save(self._root, wanted)
        else:
            self.value, self.problem = window_settings.change(self._root, before, change)
        if self.value.text_percent != before.text_percent:
            self._apply_size()
        self.changed.emit(self.value)

    def tell_problem(self, window: QWidget) -> None:
        """Say that the stored settings could not be used."""
        if self.problem:
            box = QMessageBox(QMessageBox.Icon.Warning, "Settings", self.problem, parent=window)
            box.setTextFormat(Qt.TextFormat.PlainText)  # it shows values of the file
            box.open()

    def _apply_size(self) -> None:
        wanted = scaled_font(self._font, self.value.text_percent / 100)
        if QApplication.font() != wanted:
            QApplication.setFont(wanted)
