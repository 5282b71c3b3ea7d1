"""Between the threads: order is kept, states replace each other, and a full box is told to the sender."""

from __future__ import annotations

from parley import Changes, ClientState, MessageStatus, Target
from parley.gui.events import AccountsFound, Arrived, Changed, DraftLoaded, StateChanged
from parley.gui.mailbox import MAX_MESSAGES, Mailbox
from tests.unit.chat.people import message, own


def test_states_replace_each_other_and_everything_else_keeps_its_order() -> None:
    woken: list[int] = []
    box = Mailbox(lambda: woken.append(1))
    first, second, third = (StateChanged(ClientState(account=name)) for name in "abc")
    for event in (first, second, AccountsFound("b", ()), third, DraftLoaded(Target(account="ben"), "x")):
        box.put(event)
    assert box.take() == [second, AccountsFound("b", ()), third, DraftLoaded(Target(account="ben"), "x")]
    assert len(woken) == 1, "one wake-up is enough for all of it"
    box.put(first)
    assert len(woken) == 2
    assert box.take() == [first]
    assert box.take() == []


def test_too_many_messages_are_told_to_the_sender_until_they_are_taken() -> None:
    box = Mailbox(lambda: None)
    box.put(Arrived((message(1),) * (MAX_MESSAGES - 1)))
    assert box.has_capacity()
    box.put(Changed(Changes(ClientState(), outgoing=(own(1, MessageStatus.WAITING),))))
    assert not box.has_capacity()
    box.take()
    assert box.has_capacity()
