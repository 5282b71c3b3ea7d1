"""Muted conversations in the window: the menu of the list, the quiet count, and notifications of urgent messages."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PySide6.QtGui import QColor, QImage
from PySide6.QtWidgets import QMenu
from pytestqt.qtbot import QtBot

from parley.gui.conversations import ITEM_ROLE, spoken_item
from parley.gui.theme import LIGHT
from tests.gui.scripted import WARD
from tests.gui.test_channels import channel_changes
from tests.gui.test_main_window import Desktop, Keep


@pytest.fixture
def desktop(qtbot: QtBot, closing: Keep) -> Desktop:
    return Desktop(qtbot, closing).signed_in()


def menu(desktop: Desktop) -> QMenu:
    """The menu of the only conversation of the list."""
    return desktop.window.row_actions.conversation_menu(desktop.window.chat.items.index(0).data(ITEM_ROLE))


def test_the_menu_of_a_conversation_mutes_it_and_ends_that(desktop: Desktop) -> None:
    desktop.sdk.arrive("ben", "all well?", conversation=WARD)
    desktop.until(lambda: desktop.items)
    action = menu(desktop).actions()[0]
    assert action.text() == "Mute"
    action.trigger()
    desktop.until(lambda: desktop.sdk.asked == [("mute", WARD.id, ())])
    channel_changes(desktop, muted=True)
    desktop.until(lambda: menu(desktop).actions()[0].text() == "Unmute")
    assert ", muted, 1 unread message" in spoken_item(desktop.window.chat.items.item(0))
    menu(desktop).actions()[0].trigger()
    desktop.until(lambda: desktop.sdk.asked[1:] == [("unmute", WARD.id, ())])


def test_the_unread_count_of_a_muted_conversation_is_drawn_without_its_ground(desktop: Desktop) -> None:
    desktop.sdk.arrive("ben", "all well?", conversation=WARD)
    desktop.until(lambda: desktop.items)

    def has_accent() -> bool:
        image: QImage = desktop.window.chat.list.viewport().grab().toImage()
        accent: QColor = LIGHT.color("accent")
        return any(image.pixelColor(x, y) == accent for x in range(image.width()) for y in range(image.height()))

    assert has_accent()
    channel_changes(desktop, muted=True)
    desktop.until(lambda: desktop.window.chat.items.item(0).muted)
    assert not has_accent()


def test_of_a_muted_conversation_only_urgent_messages_are_announced(desktop: Desktop) -> None:
    shown = desktop.announced()
    channel_changes(desktop, muted=True)
    calm = desktop.sdk.message("ben", "calm", conversation=WARD)
    fire = replace(desktop.sdk.message("ben", "fire", conversation=WARD), urgent=True)
    desktop.sdk.deliver([calm])
    desktop.sdk.deliver([fire])
    desktop.until(lambda: shown)
    assert shown == [("Ward 4", "ben: Urgent: fire")]
