"""The observable state of the window: who is signed in, how the cluster fares, and who is told what changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import Changes, ClientState, ConnectionState, HistoryPage, Message, MessageStatus, Outgoing, Target
from parley.chat import ConversationKey, Edit, Row, RowsChanged, RowsInserted, RowsRemoved
from parley.gui import events
from parley.gui.app_state import ChatAppState, VisiblePage
from tests.unit.chat.people import ANN, BEN, PEOPLE, WITH_BEN, direct, message, own

TO_BEN = Target(account="ben")


class Watching:
    """A listener that notes what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *given: self.told.append((name, given))

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [given for what, given in self.told if what == name]


class Drawing(Watching):
    """A listener that keeps the rows of the open conversation as the window does."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []
        self.app_state = ChatAppState(self)

    def thread_edited(self, key: ConversationKey, edits: Iterable[Edit]) -> None:
        if key == self.app_state.open_key:
            for edit in edits:
                match edit:
                    case RowsInserted(at, rows):
                        self.rows[at:at] = rows
                    case RowsRemoved(at, count):
                        del self.rows[at : at + count]
                    case RowsChanged(at, rows):
                        self.rows[at : at + len(rows)] = rows

    def thread_replaced(self, key: ConversationKey) -> None:
        thread = self.app_state.open_thread()
        if key == self.app_state.open_key and thread is not None:
            self.rows = list(thread.rows)


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


@pytest.mark.parametrize("connection", [ConnectionState.CONNECTED, ConnectionState.SHARED])
def test_after_a_reconnect_pages_that_could_not_be_had_are_asked_for_again(connection: ConnectionState) -> None:
    made, watching = app_state()
    made.apply(events.StateChanged(ClientState("ann", connection)))
    key, fetch = made.open("ben")
    assert fetch
    made.apply(events.HistoryLoaded(TO_BEN, 0, HistoryPage((message(50),), True, direct())))
    assert made.chats.wants_history(key, 0) == 50
    made.apply(events.HistoryFailed(TO_BEN, 50))
    assert made.chats.wants_history(key, 0) is None
    made.apply(events.StateChanged(ClientState("ann", ConnectionState.SEARCHING)))
    assert made.chats.wants_history(key, 0) == 50, "this device may have it"
    made.apply(events.HistoryLoaded(TO_BEN, 50, HistoryPage((), False, cached=True)))
    made.apply(events.StateChanged(ClientState("ann", connection)))
    assert len(watching.of("reconnected")) == 2
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
    made.apply(events.DraftLoaded(TO_BEN, "half"))
    made.chats.keep_draft(key, "half, and more")
    made.apply(events.DraftLoaded(TO_BEN, "another"))
    assert watching.of("draft_arrived") == [(key, "half")]
    made.draft_sent(key)
    assert made.return_to_draft(TO_BEN, "back") == "back"


def test_what_another_window_has_read_is_read_here_and_old_positions_change_nothing() -> None:
    made, _ = app_state()
    listed = replace(direct(), last=message(9), unread=3)
    made.apply(events.ConversationsListed((listed,)))
    assert made.items()[0].unread == 3
    made.apply(events.ReadHere({WITH_BEN: 9}))
    assert made.items()[0].unread == 0
    made.apply(events.ReadHere({WITH_BEN: 4, 77: 5}))
    assert [item.unread for item in made.items()] == [0]


def accepted_as(one: Outgoing, message_id: int) -> Outgoing:
    return replace(one, status=MessageStatus.ACCEPTED, message_id=message_id, conversation_id=WITH_BEN)


def test_a_row_that_comes_together_with_the_id_of_its_conversation_is_drawn_once() -> None:
    drawing = Drawing()
    drawing.app_state.apply(events.SignedIn("ann"))
    drawing.app_state.open("ben")
    first, second = own(1, MessageStatus.WAITING), own(2, MessageStatus.WAITING)
    drawing.app_state.apply(events.Changed(Changes(ClientState("ann"), outgoing=(first,))))
    drawing.app_state.apply(events.Changed(Changes(ClientState("ann"), outgoing=(accepted_as(first, 11), second))))
    assert [row.body for row in drawing.rows] == ["own1", "own2"]


STEPS = st.sampled_from(["typed", "sent", "accepted", "arrived", "people", "conversation", "history"])


@given(st.lists(st.tuples(STEPS, st.booleans()), max_size=24))
def test_what_is_drawn_is_what_the_conversation_has_whatever_comes_together(steps: list[tuple[str, bool]]) -> None:
    """Each step is told with those before it if its flag says so, as a busy window is told."""
    drawing = Drawing()
    app = drawing.app_state
    app.apply(events.SignedIn("ann"))
    app.open("ben")
    mine: list[Outgoing] = []
    stored: list[Message] = []
    changed: dict[int, Outgoing] = {}
    told: dict[str, Any] = {}

    def take(number: int, one: Outgoing) -> None:
        mine[number] = changed[one.local_id] = one

    def tell() -> None:
        app.apply(events.Changed(Changes(ClientState("ann"), outgoing=tuple(changed.values()), **told)))
        changed.clear()
        told.clear()

    for step, together in steps:
        match step:
            case "typed":
                mine.append(own(len(mine) + 1, MessageStatus.WAITING))
                take(len(mine) - 1, mine[-1])
            case "sent":
                for number, one in enumerate(mine):
                    if one.status is MessageStatus.WAITING:
                        take(number, replace(one, status=MessageStatus.SENDING, number=one.local_id))
            case "accepted":
                for number, one in enumerate(mine):
                    if one.status is MessageStatus.SENDING:
                        stored.append(replace(message(len(stored) + 1, sender=ANN), number=one.number, body=one.body))
                        take(number, accepted_as(one, stored[-1].id))
            case "arrived":
                stored.append(message(len(stored) + 1))
                app.apply(events.Arrived((stored[-1],)))
            case "people":
                told["accounts"] = PEOPLE
            case "conversation":
                told["conversations"] = (direct(),)
            case "history":
                app.apply(events.HistoryLoaded(TO_BEN, 0, HistoryPage(tuple(stored), False, direct())))
        if not together:
            tell()
    tell()
    thread = app.open_thread()
    assert thread is not None
    assert drawing.rows == thread.rows
