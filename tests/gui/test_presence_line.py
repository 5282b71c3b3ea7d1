"""Below the title: who types, whether the other person is there, and the topic of a channel."""

from __future__ import annotations

import pytest
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from parley import AccountPresence, PresenceState, Target, Typing
from parley.gui import events, presence_line
from tests.gui.scripted import ACCOUNTS, WARD, direct
from tests.gui.test_channels import channel_changes
from tests.gui.test_main_window import Desktop, Keep

BEN = ACCOUNTS["ben"]


@pytest.fixture
def desktop(qtbot: QtBot, closing: Keep, monkeypatch: pytest.MonkeyPatch) -> Desktop:
    monkeypatch.setattr(presence_line, "DRAW_EVERY_MS", 20)
    monkeypatch.setattr("parley.chat.typists.AFTER_MESSAGE_S", 0.0)  # the tests type at once after a message
    return Desktop(qtbot, closing).signed_in()


def line(desktop: Desktop) -> str:
    topic = desktop.window.chat.topic
    return topic.text() if topic.isVisibleTo(desktop.window) else ""


def open_ben(desktop: Desktop) -> None:
    desktop.sdk.arrive("ben", "hello")
    desktop.until(lambda: desktop.items)
    desktop.window.open_conversation("ben")
    desktop.window.app_state.attentive = True


def types(desktop: Desktop, *typing: Typing) -> None:
    desktop.sdk.tell(lambda: desktop.sdk.publisher.changed(typing=typing))


def test_a_direct_conversation_says_whether_the_other_one_is_there_and_follows_that(desktop: Desktop) -> None:
    desktop.sdk.presences[BEN.id] = AccountPresence(BEN.id, PresenceState.ONLINE, since_ms=1)
    open_ben(desktop)
    desktop.until(lambda: line(desktop) == "online")
    desktop.sdk.presences[BEN.id] = AccountPresence(BEN.id, PresenceState.AWAY, since_ms=1)
    desktop.until(lambda: line(desktop) == "away")
    desktop.sdk.unreachable = True
    desktop.until(lambda: line(desktop) == "")


def test_who_types_is_shown_instead_until_the_message_comes(desktop: Desktop) -> None:
    open_ben(desktop)
    desktop.until(lambda: line(desktop) == "offline")
    types(desktop, Typing(direct("ben").id, BEN.id), Typing(WARD.id, ACCOUNTS["dana"].id))
    desktop.until(lambda: line(desktop) == "ben is typing…")
    desktop.sdk.arrive("ben", "world")
    desktop.until(lambda: line(desktop) == "offline")


def test_a_channel_shows_its_topic_unless_somebody_types_and_asks_for_nobody(desktop: Desktop) -> None:
    desktop.sdk.arrive("ben", "all well?", conversation=WARD)
    channel_changes(desktop, topic="Night shift")
    desktop.until(lambda: desktop.items)
    desktop.window.open_conversation(desktop.window.chat.items.item(0).key)
    desktop.window.app_state.attentive = True
    desktop.until(lambda: line(desktop) == "Night shift")
    types(desktop, Typing(WARD.id, BEN.id))
    desktop.until(lambda: line(desktop) == "ben is typing…")
    assert desktop.sdk.presence_asked == []


def test_a_late_answer_about_another_person_changes_nothing(desktop: Desktop) -> None:
    desktop.sdk.presences[BEN.id] = AccountPresence(BEN.id, PresenceState.ONLINE, since_ms=1)
    open_ben(desktop)
    desktop.until(lambda: line(desktop) == "online")
    dana = ACCOUNTS["dana"].id
    for late in (None, AccountPresence(dana, PresenceState.AWAY)):
        desktop.window.app_state.apply(events.PresenceTold(dana, late))
        assert line(desktop) == "online"


def test_a_window_behind_others_says_nothing_that_may_be_old_and_asks_when_it_comes_to_the_front(
    desktop: Desktop,
) -> None:
    desktop.sdk.presences[BEN.id] = AccountPresence(BEN.id, PresenceState.ONLINE, since_ms=1)
    open_ben(desktop)
    desktop.until(lambda: line(desktop) == "online")
    desktop.announced()
    desktop.until(lambda: line(desktop) == "")
    asked = len(desktop.sdk.presence_asked)
    desktop.window.activateWindow()
    desktop.until(lambda: line(desktop) == "online")
    assert len(desktop.sdk.presence_asked) > asked


def test_nobody_is_asked_for_while_the_window_is_behind_others(desktop: Desktop, qtbot: QtBot) -> None:
    open_ben(desktop)
    desktop.until(lambda: desktop.sdk.presence_asked)
    desktop.window.app_state.attentive = False
    with qtbot.waitSignal(desktop.window.presence_line._timer.timeout):
        pass
    asked = len(desktop.sdk.presence_asked)
    for _ in range(3 * presence_line.DRAWN_PER_QUESTION):
        with qtbot.waitSignal(desktop.window.presence_line._timer.timeout):
            pass
    assert len(desktop.sdk.presence_asked) <= asked + 1


def test_keys_in_the_field_tell_typing_and_an_opened_draft_does_not(desktop: Desktop) -> None:
    desktop.sdk.drafts[Target(account="ben")] = "half a sentence"
    open_ben(desktop)
    desktop.until(lambda: desktop.window.chat.composer.text == "half a sentence")
    assert desktop.sdk.typed == []
    QTest.keyClicks(desktop.window.chat.composer.editor, "!")
    desktop.until(lambda: desktop.sdk.typed)
    assert set(desktop.sdk.typed) == {direct("ben").id}
