"""The pictures of mentions: the completion in the field, messages that mention somebody, and the mark in the list."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from scripts.screenshot_stage import Stage


def completion(stage: Stage) -> None:
    """Show the members of a channel while somebody begins a mention."""
    stage.channel()
    QTest.keyClicks(stage.window.chat.composer.editor, "Thank you @")
    QTest.keyClick(stage.window.chat.composer.editor, Qt.Key.Key_Down)


MENTIONS: tuple[tuple[str, Callable[[Stage], None]], ...] = (("gui-mention-completion", completion),)
