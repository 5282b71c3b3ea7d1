"""A window with two conversations, for what is done to one of them from the list."""

from __future__ import annotations

from pytestqt.qtbot import QtBot

from parley import Target
from tests.gui.scripted import WARD
from tests.gui.test_main_window import Desktop, Keep

IN_WARD = Target(conversation_id=WARD.id)


def ward_and_ben(qtbot: QtBot, closing: Keep) -> Desktop:
    """Return a window with an unread message in the ward, and a newer one of ben that is open."""
    desktop = Desktop(qtbot, closing).signed_in()
    desktop.sdk.arrive("dana", "hello ward", conversation=WARD)
    desktop.until(lambda: desktop.items)
    desktop.sdk.arrive("ben", "all well?")
    desktop.until(lambda: len(desktop.items) == 2)
    return desktop.open("ben")


def newest_in_ward(desktop: Desktop) -> int:
    """Return the id of the newest message of the ward that the window knows."""
    chats = desktop.window.app_state.chats
    return chats.conversations.look(chats.key_of(IN_WARD)).newest
