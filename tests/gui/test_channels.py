"""Channels in the window: what they are, whether one can write there, and the menu that joins, adds and leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QMenu
from pytestqt.qtbot import QtBot

from parley import Conversation, ConversationKind, ListedChannel, Member, MessageKind, MessageStatus, Target
from parley.chat import Row
from tests.gui.scripted import WARD
from tests.gui.test_main_window import Desktop, Keep

IN_WARD = Target(conversation_id=WARD.id)
NIGHTS = Conversation(71, ConversationKind.CHANNEL, "Nights", (), 5, public=True)


@pytest.fixture
def desktop(qtbot: QtBot, closing: Keep) -> Iterator[Desktop]:
    """A window that is signed in and shows the ward."""
    desktop = Desktop(qtbot, closing).signed_in()
    desktop.sdk.arrive("dana", "hello ward", conversation=WARD)
    desktop.until(lambda: desktop.items)
    desktop.open(IN_WARD)
    yield desktop
    desktop.window.channel_actions.close()


def channel_changes(desktop: Desktop, **changes: object) -> None:
    """The cluster tells another state of the ward."""
    changed = replace(WARD, **changes)  # type: ignore[arg-type]
    desktop.sdk.tell(lambda: desktop.sdk.publisher.changed(conversations=(changed,)))


def happens(desktop: Desktop, kind: MessageKind, *subjects: int, sender: str = "dana") -> None:
    row = desktop.sdk.message(sender, "", conversation=WARD)
    desktop.sdk.deliver([replace(row, kind=kind, subjects=subjects)])


def can_write(desktop: Desktop) -> bool:
    return desktop.window.chat.composer.editor.isVisible()


def standing(desktop: Desktop) -> str:
    label = desktop.window.chat.composer.standing
    return label.text() if label.isVisible() else ""


def choose(desktop: Desktop, text: str) -> None:
    """Choose an entry of the account menu."""
    desktop.window.chat.me.click()
    [menu] = [found for found in desktop.window.findChildren(QMenu) if found.isVisible()]
    next(action for action in menu.actions() if action.text() == text).trigger()
    menu.close()


def offered(desktop: Desktop) -> set[str]:
    menu = QMenu(desktop.window)
    desktop.window.channel_actions.add_to(menu)
    return {action.text() for action in menu.actions()}


def test_the_topic_stands_under_the_title_as_long_as_there_is_one(desktop: Desktop) -> None:
    topic = desktop.window.chat.topic
    assert not topic.isVisible()
    channel_changes(desktop, topic="Night\u202e shift")
    desktop.until(topic.isVisible)
    assert topic.text() == "Night\ufffd shift"
    channel_changes(desktop)
    desktop.until(lambda: not topic.isVisible())


def test_who_was_removed_sees_it_cannot_write_and_writes_again_after_the_return(desktop: Desktop) -> None:
    desktop.type("half a text", enter=False)
    happens(desktop, MessageKind.MEMBERS_LEFT, 1)
    desktop.until(lambda: not can_write(desktop))
    assert standing(desktop).startswith("You are no longer in this channel.")
    assert desktop.window.chat.members.text() == "left"
    assert offered(desktop) == {"Join a channel", "Join this channel again"}
    happens(desktop, MessageKind.MEMBERS_JOINED, 1)
    desktop.until(lambda: can_write(desktop))
    assert (standing(desktop), desktop.field) == ("", "half a text")


def test_an_archived_channel_says_so_until_it_is_reopened(desktop: Desktop) -> None:
    channel_changes(desktop, archived=True)
    desktop.until(lambda: not can_write(desktop))
    assert standing(desktop).startswith("This channel is archived.")
    assert "Add somebody to this channel" not in offered(desktop)
    channel_changes(desktop)
    desktop.until(lambda: can_write(desktop))


def test_a_channel_without_others_says_so_and_takes_messages(desktop: Desktop) -> None:
    channel_changes(desktop, members=(Member(1),), member_count=1)
    desktop.until(lambda: standing(desktop) == "Nobody else is here.")
    assert can_write(desktop)


def test_another_conversation_has_its_own_field(desktop: Desktop) -> None:
    happens(desktop, MessageKind.MEMBERS_LEFT, 1)
    desktop.until(lambda: not can_write(desktop))
    desktop.open("ben")
    assert (can_write(desktop), standing(desktop)) == (True, "")


def test_a_channel_is_found_in_the_menu_joined_and_opened(desktop: Desktop) -> None:
    archived = replace(NIGHTS, id=72, title="Old", archived=True)
    desktop.sdk.channels = tuple(
        ListedChannel(one, joined) for one, joined in ((WARD, True), (NIGHTS, False), (archived, False))
    )
    choose(desktop, "Join a channel")
    actions = desktop.window.channel_actions
    desktop.until(lambda: actions.finder is not None)
    assert actions.finder is not None
    assert actions.finder.names.stringList() == ["Nights (#71, 5 members)"]
    desktop.sdk.asked.clear()
    QTest.keyClick(actions.finder.field, Qt.Key.Key_Return)
    desktop.until(lambda: desktop.open_title == "Conversation #71")
    assert desktop.sdk.asked == [("join", 71, ())]
    assert actions.finder is None


def test_that_no_channel_can_be_joined_is_told(desktop: Desktop) -> None:
    desktop.sdk.channels = (ListedChannel(WARD, True),)
    choose(desktop, "Join a channel")
    desktop.until(lambda: desktop.note.startswith("There is no channel that you could join."))
    assert desktop.window.channel_actions.finder is None


def test_somebody_is_added_and_the_channel_is_left_by_the_menu(desktop: Desktop) -> None:
    choose(desktop, "Add somebody to this channel")
    dialog = desktop.window.channel_actions.invitation
    assert dialog is not None
    dialog.setTextValue(" ben ")
    dialog.accept()
    choose(desktop, "Leave this channel")
    desktop.until(lambda: desktop.sdk.asked == [("add", WARD.id, ("ben",)), ("leave", WARD.id, ())])


def test_why_a_channel_was_not_left_is_told(desktop: Desktop) -> None:
    desktop.sdk.unreachable = True
    choose(desktop, "Leave this channel")
    desktop.until(lambda: "No node of the cluster could be reached" in desktop.note)


def row_of(desktop: Desktop, body: str) -> Row:
    """The row of a message."""
    model = desktop.window.chat.rows
    return next(model.row(at) for at in range(model.rowCount()) if model.row(at).body == body)


def test_who_has_an_own_message_is_told_from_its_menu(desktop: Desktop) -> None:
    desktop.type("hello all")
    desktop.until(lambda: ("hello all", MessageStatus.WAITING) in desktop.rows)
    row = row_of(desktop, "hello all")
    assert "Receipts" not in {action.text() for action in desktop.window.row_actions.menu(row).actions()}
    desktop.sdk.settle(row.local_id, MessageStatus.ACCEPTED)
    desktop.until(lambda: ("hello all", MessageStatus.ACCEPTED) in desktop.rows)
    own, others = row_of(desktop, "hello all"), row_of(desktop, "hello ward")
    assert "Receipts" not in {action.text() for action in desktop.window.row_actions.menu(others).actions()}
    desktop.sdk.asked.clear()
    menu = desktop.window.row_actions.menu(own)
    next(action for action in menu.actions() if action.text() == "Receipts").trigger()
    desktop.until(lambda: desktop.note.startswith("Your message is on disk at n1, n2, not yet reported by n3"))
    assert "delivered to 1 of 2; read by" in desktop.note
    assert "Not delivered yet to" in desktop.note
    assert desktop.sdk.asked == [("receipts", WARD.id, (str(own.message_id),))]
