"""Texts about who is there, and how long somebody counts as typing."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from parley import AccountPresence, Message, MessageKind, PresenceState, Typing
from parley.chat import SHOWN_S, Typists, presence_text, typing_text
from parley.chat.typists import AFTER_MESSAGE_S

NOON = datetime(2026, 11, 27, 12, 0).astimezone()


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def message(conversation_id: int, sender_id: int) -> Message:
    return Message(conversation_id, 1, MessageKind.TEXT, sender_id, "hello", 0, mine=False)


def test_typing_ends_after_six_seconds_without_news_or_with_a_message() -> None:
    clock = Clock()
    typists = Typists(clock)
    typists.take([Typing(5, 1), Typing(5, 2), Typing(6, 3)])
    assert (typists.of(5), typists.of(6), typists.of(7)) == ((1, 2), (3,), ())
    clock.now += SHOWN_S / 2
    typists.take([Typing(5, 2)])
    typists.wrote([message(6, 3), message(6, 1)])
    assert (typists.of(5), typists.of(6)) == ((1, 2), ())
    clock.now += SHOWN_S / 2
    assert typists.of(5) == (2,)
    clock.now += SHOWN_S / 2
    assert typists.of(5) == ()


def test_typing_that_comes_just_after_its_message_is_old() -> None:
    clock = Clock()
    typists = Typists(clock)
    typists.wrote([message(5, 1)])
    clock.now += AFTER_MESSAGE_S / 2
    typists.take([Typing(5, 1), Typing(5, 2), Typing(6, 1)])
    assert (typists.of(5), typists.of(6)) == ((2,), (1,))
    clock.now += AFTER_MESSAGE_S
    typists.take([Typing(5, 1)])
    assert typists.of(5) == (2, 1)


def test_who_types_is_named_up_to_two_and_counted_beyond() -> None:
    assert typing_text([]) == ""
    assert typing_text(["ben"]) == "ben is typing…"
    assert typing_text(["ben", "eve"]) == "ben and eve are typing…"
    assert typing_text(["ben", "eve", "zoe"]) == "3 people are typing…"


@pytest.mark.parametrize(
    ("presence", "expected"),
    [
        (AccountPresence(1, PresenceState.ONLINE, since_ms=5), "online"),
        (AccountPresence(1, PresenceState.AWAY, since_ms=5), "away"),
        (AccountPresence(1, PresenceState.OFFLINE), "offline"),
        (AccountPresence(1, PresenceState.OFFLINE, all_heard=False), ""),
        (AccountPresence(1, PresenceState.UNKNOWN), ""),
        (AccountPresence(1, PresenceState.OFFLINE, last_seen_ms=1), "last seen at 12:00"),
        (AccountPresence(1, PresenceState.OFFLINE, last_seen_ms=1, all_heard=False), "last seen at 12:00 or later"),
    ],
)
def test_a_text_says_whether_somebody_is_there_and_nothing_that_is_not_known(
    presence: AccountPresence, expected: str
) -> None:
    if presence.last_seen_ms:
        presence = AccountPresence(1, presence.state, 0, int(NOON.timestamp() * 1000), presence.all_heard)
    assert presence_text(presence, NOON.date()) == expected


def test_an_earlier_day_is_named() -> None:
    seen = AccountPresence(1, PresenceState.OFFLINE, last_seen_ms=int(NOON.timestamp() * 1000))
    assert presence_text(seen, (NOON + timedelta(days=1)).date()) == "last seen yesterday at 12:00"
    assert presence_text(seen, (NOON + timedelta(days=3)).date()) == "last seen on Friday at 12:00"
