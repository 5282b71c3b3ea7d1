"""The observable state: lists, unread counts, drafts and what is fetched, without any window."""

from __future__ import annotations

from typing import Any

from parley.gui import events
from parley.gui.app_state import ChatAppState, VisiblePage, key_of
from parley.model import (
    ClientState,
    ConnectionState,
    Conversation,
    HistoryPage,
    Message,
    MessageStatus,
    Outgoing,
    Receipt,
)

BEN = key_of("ben")


class Watching:
    """A listener that notes what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *given: self.told.append((name, given))

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [given for what, given in self.told if what == name]


def message(number: int, body: str = "", *, peer: str = "ben", mine: bool = False) -> Message:
    return Message(number, 7, "ann" if mine else peer, peer, body or f"m{number}", number * 1000, mine)


def listed(last: Message, unread: int = 0, read_up_to: int = 0) -> events.ConversationsListed:
    return events.ConversationsListed((Conversation(7, last.peer, False, last, unread, read_up_to, 0, 0),))


def app_state() -> tuple[ChatAppState, Watching]:
    watching = Watching()
    made = ChatAppState(watching)
    made.apply(events.SignedIn("ann"))
    return made, watching


def own(
    local_id: int, status: MessageStatus, *, message_id: int = 0, peer: str = "ben", at_ms: int = 10**9
) -> Outgoing:
    return Outgoing(local_id, peer, f"own{local_id}", at_ms, status, 0, message_id, 7 if message_id else 0, message_id)


def test_a_list_and_what_arrived_before_it_are_counted_once() -> None:
    made, _ = app_state()
    made.apply(events.Arrived((message(4), message(5))))
    made.apply(listed(message(5), unread=3, read_up_to=2))
    assert made.items()[0].unread == 3
    made.apply(events.Arrived((message(6),)))
    assert made.items()[0].unread == 4
    made.apply(events.Arrived((message(7, mine=True),)))
    assert made.items()[0].unread == 4


def test_what_the_person_has_read_here_stays_read_whatever_an_older_list_says() -> None:
    made, _ = app_state()
    made.apply(listed(message(5), unread=3, read_up_to=2))
    made.open("ben")
    made.apply(events.HistoryLoaded("ben", 0, HistoryPage((message(4), message(5)), False, 7)))
    assert made.saw(BEN, 5) == 7
    assert made.saw(BEN, 5) is None, "the cluster is told once"
    made.apply(listed(message(5), unread=3, read_up_to=2))
    assert made.items()[0].unread == 0


def test_the_latest_conversation_comes_first_and_own_waiting_messages_count() -> None:
    made, _ = app_state()
    made.apply(events.Arrived((message(1), message(2, peer="dana"))))
    assert [item.peer for item in made.items()] == ["dana", "ben"]
    made.apply(events.OutgoingChanged((own(1, MessageStatus.WAITING),)))
    first = made.items()[0]
    assert (first.peer, first.preview, first.status) == ("ben", "own1", MessageStatus.WAITING)
    made.apply(events.OutgoingRemoved((1,)))
    assert made.items()[0].peer == "dana"


def test_a_line_shows_how_far_the_last_own_message_has_come() -> None:
    made, _ = app_state()
    made.apply(events.OutgoingChanged((own(1, MessageStatus.ACCEPTED, message_id=9),)))
    made.apply(listed(message(9, "own1", mine=True)))
    assert made.items()[0].status is MessageStatus.ACCEPTED
    made.apply(events.ReceiptsMoved((Receipt(7, 9, 0),)))
    assert made.items()[0].status is MessageStatus.DELIVERED
    made.apply(events.ReceiptsMoved((Receipt(7, 9, 9),)))
    assert made.items()[0].status is MessageStatus.READ


def test_names_do_not_tell_upper_from_lower_case() -> None:
    made, _ = app_state()
    made.apply(events.Arrived((message(1, peer="Ben"),)))
    made.apply(events.OutgoingChanged((own(1, MessageStatus.WAITING, peer="BEN"),)))
    assert [item.peer for item in made.items()] == ["Ben"]


def test_opening_puts_the_divider_where_reading_stopped_and_leaving_takes_it_away() -> None:
    made, _ = app_state()
    made.apply(listed(message(5), unread=2, read_up_to=3))
    made.open("ben")
    made.apply(events.HistoryLoaded("ben", 0, HistoryPage(tuple(message(n) for n in range(1, 6)), False, 7)))
    thread = made.thread(BEN)
    assert thread is not None
    assert thread.divider_row == 3
    made.saw(BEN, 5)
    made.open("dana")
    assert thread.divider_row is None


def test_messages_are_announced_only_when_nobody_looks_at_them() -> None:
    made, watching = app_state()
    made.open("ben")
    made.attentive = True
    made.apply(events.Arrived((message(1), message(2, peer="dana"))))
    assert [given[0] for given in watching.of("noticed")] == [key_of("dana")]
    made.saw(BEN, 1)
    made.attentive = False
    made.apply(events.Arrived((message(3),)))
    assert [given[0] for given in watching.of("noticed")] == [key_of("dana"), BEN]
    thread = made.thread(BEN)
    assert thread is not None
    assert thread.divider_row == 1


def test_a_page_is_asked_for_once_and_again_only_after_a_reconnect() -> None:
    made, watching = app_state()
    made.open("ben")
    made.apply(events.HistoryLoaded("ben", 0, HistoryPage(tuple(message(n) for n in range(50, 60)), True, 7)))
    assert made.wants_history(BEN, 0) == 50
    assert made.wants_history(BEN, 0) is None
    assert made.history_pending(BEN)
    made.apply(events.HistoryFailed("ben", 50, "unreachable"))
    assert not made.history_pending(BEN)
    assert made.wants_history(BEN, 0) is None, "nothing has changed since it failed"
    made.apply(events.StateChanged(ClientState("ann", ConnectionState.CONNECTED)))
    assert watching.of("reconnected")
    assert made.wants_history(BEN, 0) == 50


def test_a_draft_is_shown_in_the_list_and_saved_once_per_change() -> None:
    made, _ = app_state()
    made.open("ben")
    assert made.keep_draft(BEN, "half a sen")
    assert not made.keep_draft(BEN, "half a sen")
    assert made.draft_unsaved(BEN)
    assert not made.draft_unsaved(BEN)
    made.open("dana")
    item = next(item for item in made.items() if item.peer == "ben")
    assert (item.draft, item.preview) == (True, "half a sen")
    made.draft_sent(BEN)
    assert made.draft(BEN) == ""


def test_a_text_that_was_not_taken_comes_back_before_what_was_typed_since() -> None:
    made, _ = app_state()
    made.open("ben")
    made.keep_draft(BEN, "later")
    assert made.return_to_draft("ben", "first") == "first\nlater"


def test_another_account_sees_nothing_of_the_one_before() -> None:
    made, watching = app_state()
    made.apply(listed(message(5)))
    made.open("ben")
    made.apply(events.SignedOut("ended"))
    assert (made.page, made.items(), made.reason) == (VisiblePage.SIGN_IN, [], "ended")
    made.apply(events.SignedIn("dana"))
    assert (made.page, made.account, made.items(), made.open_key) == (VisiblePage.CHAT, "dana", [], None)
    assert len(watching.of("page_changed")) == 3
