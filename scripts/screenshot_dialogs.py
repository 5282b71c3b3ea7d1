"""What is shown over a conversation for pictures: the settings, the list of keys, and the largest text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from parley.gui import events
from parley.gui.main_window import MainWindow
from parley.gui.shortcuts import show_settings, show_shortcuts


def settings(window: MainWindow) -> None:
    """Show the settings."""
    show_settings(window)
    window.account_dialogs.told(events.HiddenTold(hidden=False))


def large_text(window: MainWindow) -> None:
    """Show the largest text."""
    window.settings.change(lambda chosen: replace(chosen, text_percent=150))


DIALOGS: tuple[tuple[str, Callable[[MainWindow], None]], ...] = (
    ("gui-settings", settings),
    ("gui-shortcuts", show_shortcuts),
    ("gui-large-text", large_text),
)
