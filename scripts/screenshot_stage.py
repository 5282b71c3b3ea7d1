"""The window of the pictures, and the events that fill it. A cluster would cause the same ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from parley import (
    Account,
    Changes,
    ClientState,
    ConnectionState,
    Conversation,
    ConversationKind,
    HistoryPage,
    Member,
    Message,
    MessageKind,
    MessageStatus,
    Node,
    Outgoing,
    Receipt,
    Target,
)
from parley.gui import events
from parley.gui.lock import Lock
from parley.gui.main_window import MainWindow
from parley.gui.theme import Theme
from scripts.screenshot_talk import ENGLISH, Said

NODES = (Node("n1", "127.0.0.2:7600", True), Node("n2", "127.0.0.3:7600", True), Node("n3", "127.0.0.4:7600", True))
PEOPLE = (
    Account(1, "ann"),
    Account(2, "ben", "Ben Ortiz"),
    Account(3, "chief.engineer"),
    Account(4, "dana", "Dana Wolf"),
    Account(5, "bridge"),
    Account(6, "lab-2"),
    Account(7, "ruth"),
)
IDS = {account.name: account.id for account in PEOPLE}
WITH_BEN, WARD, NOTES = 7, 8, 9
TO_BEN, TO_WARD = Target(account="ben"), Target(conversation_id=WARD)


class Nobody:
    """Commands that nobody carries out."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Return a command that does nothing."""
        return lambda *_arguments, **_named: None


def direct(name: str, conversation_id: int) -> Conversation:
    """Return the direct conversation with an account."""
    members = tuple(Member(account_id) for account_id in sorted({1, IDS[name]}))
    return Conversation(conversation_id, ConversationKind.DIRECT, "", members, len(members))


class Stage:
    """A window and the events that fill it."""

    def __init__(self, theme: Theme, now: datetime, folder: Path) -> None:
        """Begin signed in as Ann, connected, with everything read. What the window stores goes to `folder`."""
        self.now = now
        self.words = ENGLISH
        self.window = MainWindow(theme)
        self.window.attach(Nobody())
        self.lock = Lock(self.window, folder)
        self.state = ClientState(
            account="ann",
            connection=ConnectionState.CONNECTED,
            node="n2",
            address="127.0.0.3:7600",
            leader="n1",
            nodes=NODES,
            has_majority=True,
            caught_up=True,
            last_heard=time.monotonic(),
        )
        self.next_id = 1000

    def _people(self) -> tuple[Account, ...]:
        named = self.words.names
        return tuple(replace(one, display_name=named.get(one.name, one.display_name)) for one in PEOPLE)

    def ms(self, minutes_ago: float) -> int:
        """Return a time in milliseconds."""
        return int((self.now - timedelta(minutes=minutes_ago)).timestamp() * 1000)

    def apply(self, *told: events.Event) -> None:
        """Apply events to the window's state."""
        for event in told:
            self.window.app_state.apply(event)

    def message(self, conversation_id: int, said: Said) -> Message:
        """Return a message as the cluster stores it."""
        self.next_id += 1
        sender = 1 if said.mine else IDS[said.sender]
        at_ms = self.ms(said.minutes_ago)
        kind = MessageKind.TEXT
        return Message(conversation_id, self.next_id, kind, sender, said.body, at_ms, said.mine, urgent=said.urgent)

    def begin(self) -> None:
        """Sign in. No conversation is known yet."""
        self.apply(events.SignedIn("ann"), events.StateChanged(self.state), events.Learned(self._people(), ()))

    def sign_in(self, talk: Sequence[Said] | None = None, *, ward_unread: int = 2) -> dict[int, tuple[Message, ...]]:
        """Fill the conversation list. Return the messages with Ben and in the ward."""
        self.begin()
        listed = []
        for place, (name, (mine, ago, body, unread)) in enumerate(self.words.last.items()):
            last = self.message(20 + place, Said(mine, ago, body, name))
            read_up_to = last.id if place < 4 else 0
            marked = (Member(1), Member(IDS[name], delivered_up_to=last.id, read_up_to=read_up_to))
            listed.append(replace(direct(name, 20 + place), members=marked, last=last, unread=unread))
        note = self.message(NOTES, Said(True, 500, self.words.note))
        listed.append(replace(direct("ann", NOTES), last=note))
        ward = tuple(self.message(WARD, said) for said in self.words.ward_talk)
        sent = [message.id for message in ward if message.mine]
        read, both = sent[0], sent[-1]
        members = (Member(1), Member(2, delivered_up_to=both, read_up_to=read), Member(4, read_up_to=both), Member(7))
        shown = ward[:5] if ward_unread else ward
        channel = Conversation(WARD, ConversationKind.CHANNEL, self.words.ward, members, 4, shown[-1], ward_unread)
        with_ben = tuple(self.message(WITH_BEN, said) for said in talk or self.words.ben)
        listed += [channel, replace(direct("ben", WITH_BEN), last=with_ben[-1])]
        self.apply(events.ConversationsListed(tuple(listed)))
        return {WITH_BEN: with_ben, WARD: shown}

    def chat(self, talk: Sequence[Said] | None = None) -> None:
        """Show the list, and the conversation with Ben."""
        thread = self.sign_in(talk)[WITH_BEN]
        self._open(TO_BEN)
        own = [message.id for message in thread if message.mine]
        receipt = Receipt(WITH_BEN, IDS["ben"], own[-1], own[-2])
        self.apply(
            events.HistoryLoaded(TO_BEN, 0, HistoryPage(thread, False, direct("ben", WITH_BEN))),
            events.Changed(Changes(self.state, receipts=(receipt,))),
        )

    def channel(self) -> None:
        """Show the list, and the channel of the ward."""
        thread = self.sign_in(ward_unread=0)[WARD]
        joined = Message(WARD, 1, MessageKind.MEMBERS_JOINED, 4, "", self.ms(80), False, subjects=(7,))
        self._open(TO_WARD)
        self.apply(events.HistoryLoaded(TO_WARD, 0, HistoryPage((joined, *thread), False)))

    def _open(self, target: Target) -> None:
        self.window.open_conversation(target)
        self.window.chat.composer.editor.setFocus()  # as after a click

    def outgoing(self, *bodies: tuple[str, float, MessageStatus, str]) -> None:
        """Add own messages without a final result."""
        self.apply(
            events.OwnListed(
                tuple(
                    Outgoing(local_id, TO_BEN, body, self.ms(ago), status, detail=detail)
                    for local_id, (body, ago, status, detail) in enumerate(bodies, start=1)
                )
            )
        )

    def status(self, **changes: Any) -> None:
        """Change the state of the connection."""
        self.state = replace(self.state, **changes)
        self.apply(events.StateChanged(self.state))
