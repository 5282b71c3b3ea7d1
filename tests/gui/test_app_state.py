"""The observable state of the window: who is signed in, how the cluster fares, and who is told what changed."""

from __future__ import annotations

from typing import Any

from parley import Changes, ClientState, ConnectionState, HistoryPage, Target
from parley.gui import events
from parley.gui.app_state import ChatAppState, VisiblePage
from tests.unit.chat.people import ANN, BEN, PEOPLE, WITH_BEN, direct, message

TO_BEN = Target(account="ben")


class Watching:
    """A listener that notes what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *given: self.told.append((name, given))

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [given for what, given in self.told if what == name]


def app_state() -> tuple[ChatAppState, Watching]:
    watching = Watching()
    made = ChatAppState(watching)
    made.apply(events.SignedIn("ann"))
    made.apply(events.Learned(PEOPLE, (direct(),)))
    return made, watching


def test_another_account_sees_nothing_of_the_one_before() -> None:
    made, watching = app_state()
    made.apply(events.ConversationsListed((direct(last=message(5)),)))
    made.open("ben")
    made.apply(events.SignedOut("ended"))
    assert (made.page, made.items(), made.reason) == (VisiblePage.SIGN_IN, [], "ended")
    made.apply(events.SignedIn("dana"))
    assert (made.page, made.account, made.items(), made.open_key) == (VisiblePage.CHAT, "dana", [], None)
    assert len(watching.of("page_changed")) == 3


def test_after_a_reconnect_pages_that_could_not_be_had_are_asked_for_again() -> None:
    made, watching = app_state()
    key, fetch = made.open("ben")
    assert fetch
    made.apply(events.HistoryLoaded(TO_BEN, 0, HistoryPage((message(50),), True, direct())))
    assert made.chats.wants_history(key, 0) == 50
    made.apply(events.HistoryFailed(TO_BEN, 50))
    assert made.chats.wants_history(key, 0) is None
    made.apply(events.StateChanged(ClientState("ann", ConnectionState.CONNECTED)))
    assert watching.of("reconnected")
    assert made.chats.wants_history(key, 0) == 50


def test_the_listener_is_told_of_rows_of_the_list_and_of_messages_nobody_looked_at() -> None:
    made, watching = app_state()
    key, _ = made.open("ben")
    made.apply(events.Arrived((message(1),)))
    assert [given[0] for given in watching.of("thread_edited")] == [key]
    assert watching.of("noticed") == [(key, (message(1),))]
    assert watching.of("conversations_changed")
    assert made.saw(key, 1) == WITH_BEN


def test_a_conversation_that_gets_its_id_is_told_as_replaced() -> None:
    watching = Watching()
    made = ChatAppState(watching)
    made.apply(events.SignedIn("ann"))
    made.open("ben")
    changes = Changes(ClientState("ann"), accounts=(ANN, BEN), conversations=(direct(),))
    made.apply(events.Changed(changes))
    assert watching.of("thread_replaced") == [(made.open_key,)]
    assert made.client_state == changes.state


def test_a_draft_is_told_unless_something_was_typed_since() -> None:
    made, watching = app_state()
    key, _ = made.open("ben")
    made.apply(events.DraftLoaded(TO_BEN, "half"))
    made.apply(events.DraftLoaded(TO_BEN, "another"))
    assert watching.of("draft_arrived") == [(key, "half")]
    made.draft_sent(key)
    assert made.return_to_draft(TO_BEN, "back") == "back"
