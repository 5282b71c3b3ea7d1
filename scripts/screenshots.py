"""Draws the screenshots of the window in docs/images from the real widgets over a scripted state, without a display.

Needs a good font and one with emoji. `make screenshots` installs them if it can. `make screenshots ARGS="--every --out
build/screenshots"` draws every scene in light and dark, in three widths. The scenes are events that a cluster
would cause, so a screenshot cannot show what the window could not.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import QCoreApplication, QEvent, QSize
from PySide6.QtGui import QFont, QFontDatabase
from PySide6.QtWidgets import QApplication

from parley import (
    Account,
    AccountPresence,
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
    PresenceState,
    Receipt,
    Target,
    Typing,
)
from parley.gui import events
from parley.gui.bridge import NOT_CHECKED
from parley.gui.commands import ClusterAddress, Invited
from parley.gui.invitation import show_invitation
from parley.gui.lock import Lock
from parley.gui.main_window import MainWindow
from parley.gui.theme import DARK, LIGHT, Theme, apply_theme
from scripts.screenshot_dialogs import DIALOGS
from scripts.screenshot_talk import BEN, LAST, WARD_TALK, Said

SIZE = QSize(1120, 720)
SCALE = 2.0
FONTS = {"Inter": "fonts-inter", "Noto Color Emoji": "fonts-noto-color-emoji"}
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

    def __init__(self, theme: Theme, now: datetime) -> None:
        """Begin signed in as Ann, connected, with everything read."""
        self.now = now
        self.window = MainWindow(theme)
        self.window.attach(Nobody())
        self.window.resize(SIZE)
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
        return Message(conversation_id, self.next_id, MessageKind.TEXT, sender, said.body, at_ms, said.mine)

    def sign_in(self, talk: Sequence[Said] = BEN, *, ward_unread: int = 2) -> dict[int, tuple[Message, ...]]:
        """Fill the conversation list. Return the messages with Ben and in the ward."""
        self.apply(events.SignedIn("ann"), events.StateChanged(self.state), events.Learned(PEOPLE, ()))
        listed = []
        for place, (name, (mine, ago, body, unread)) in enumerate(LAST.items()):
            last = self.message(20 + place, Said(mine, ago, body, name))
            read_up_to = last.id if place < 4 else 0
            marked = (Member(1), Member(IDS[name], delivered_up_to=last.id, read_up_to=read_up_to))
            listed.append(replace(direct(name, 20 + place), members=marked, last=last, unread=unread))
        note = self.message(NOTES, Said(True, 500, "Ask about the spare key."))
        listed.append(replace(direct("ann", NOTES), last=note))
        ward = tuple(self.message(WARD, said) for said in WARD_TALK)
        sent = [message.id for message in ward if message.mine]
        read, both = sent[0], sent[-1]
        members = (Member(1), Member(2, delivered_up_to=both, read_up_to=read), Member(4, read_up_to=both), Member(7))
        shown = ward[:5] if ward_unread else ward
        channel = Conversation(WARD, ConversationKind.CHANNEL, "Ward 4", members, 4, shown[-1], ward_unread)
        with_ben = tuple(self.message(WITH_BEN, said) for said in talk)
        listed += [channel, replace(direct("ben", WITH_BEN), last=with_ben[-1])]
        self.apply(events.ConversationsListed(tuple(listed)))
        return {WITH_BEN: with_ben, WARD: shown}

    def chat(self, talk: Sequence[Said] = BEN) -> None:
        """Show the list, and the conversation with Ben."""
        thread = self.sign_in(talk)[WITH_BEN]
        self.window.open_conversation(TO_BEN)
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
        self.window.open_conversation(TO_WARD)
        self.apply(events.HistoryLoaded(TO_WARD, 0, HistoryPage((joined, *thread), False)))

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


def sign_in(stage: Stage) -> None:
    """Show the sign-in page."""
    stage.window.sign_in.fill(ClusterAddress("10.0.4.11:7600, 10.0.4.12:7601-7603", Path("ca.pem")), "ann")


def chat(stage: Stage) -> None:
    """Show an ordinary day."""
    stage.chat()
    here = AccountPresence(IDS["ben"], PresenceState.ONLINE, since_ms=stage.ms(120))
    stage.apply(events.DraftLoaded(TO_BEN, "I will bring the"), events.PresenceTold(IDS["ben"], here))


def typing(stage: Stage) -> None:
    """Show the same while the other one types."""
    chat(stage)
    stage.apply(events.Changed(Changes(stage.state, typing=(Typing(WITH_BEN, IDS["ben"]),))))


def channel(stage: Stage) -> None:
    """Show a channel whose messages some members have read."""
    stage.channel()


def failover(stage: Stage) -> None:
    """Show the window just after the connected node has died."""
    stage.chat(BEN[3:])
    stage.outgoing(
        ("By the way, did you see who is on the rota for Sunday?", 1, MessageStatus.SENDING, ""),
        ("If not, I will ask Ruth.", 0, MessageStatus.WAITING, ""),
    )
    dead = tuple(replace(node, up=node.name != "n2") for node in NODES)
    stage.status(
        connection=ConnectionState.SEARCHING,
        node="",
        lost="n2",
        trying="n3",
        waiting=2,
        nodes=dead,
        last_heard=time.monotonic() - 1,
    )


def no_majority(stage: Stage) -> None:
    """Show the window while two of three nodes are down."""
    stage.chat(BEN[3:])
    stage.outgoing(
        ("Two nodes are down here, this will reach you as soon as one is back.", 0, MessageStatus.WAITING, "")
    )
    alone = tuple(replace(node, up=node.name == "n3") for node in NODES)
    stage.status(
        connection=ConnectionState.NO_MAJORITY, node="n3", leader="", has_majority=False, waiting=1, nodes=alone
    )


def waiting(stage: Stage) -> None:
    """Show messages that wait, one that failed, and one that is being edited."""
    stage.chat(BEN[3:8])
    refused = "The message has 70312 bytes; a node takes at most 65536. It was not sent; shorten or split it."
    stage.outgoing(
        ("Here is the whole log of the pump, as you asked.", 6, MessageStatus.FAILED, refused),
        ("Lunch at half past twelve?", 4, MessageStatus.SENDING, ""),
        ("And can you bring the key for the cabinet?", 3, MessageStatus.WAITING, ""),
        ("The small one, with the red ribbon.", 2, MessageStatus.WAITING, ""),
    )
    stage.status(
        connection=ConnectionState.SEARCHING,
        node="",
        lost="n1",
        trying="n2",
        waiting=3,
        last_heard=time.monotonic() - 4,
    )
    stage.window.chat.composer.edit(4, "The small one, with the red ribbon. Thank you! 🙏")


def unread(stage: Stage) -> None:
    """Show a conversation with many unread messages."""
    talk = [Said(False, 600 - number, f"Entry {number} of the log of pump two.") for number in range(1, 231)]
    thread = stage.sign_in(talk)[WITH_BEN]
    listed = replace(direct("ben", WITH_BEN), last=thread[-1], unread=210, read_up_to=thread[19].id)
    stage.apply(events.ConversationsListed((listed,)))
    stage.window.open_conversation(TO_BEN)
    stage.apply(events.HistoryLoaded(TO_BEN, 0, HistoryPage(thread, False, direct("ben", WITH_BEN))))


def listed(stage: Stage) -> None:
    """Show the list, before a conversation is opened."""
    stage.sign_in()


def one_down(stage: Stage) -> None:
    """Show the window while one of three nodes is down."""
    chat(stage)
    stage.status(nodes=tuple(replace(node, up=node.name != "n3") for node in NODES))


def new_account(stage: Stage) -> None:
    """Show the sign-in page while it asks for the new password once more."""
    page = stage.window.sign_in
    page.fill(ClusterAddress("10.0.4.11:7600"), "ann")
    page.password.setText("a long password")
    page.create_button.click()


def invited(stage: Stage) -> None:
    """Show the sign-in page of somebody who opened an invitation."""
    about = (
        "Invitation to ward (10.0.4.11:7600, 10.0.4.12:7600), valid once, until 2026-12-05 11:52. Compare the "
        "fingerprint of its CA (SHA-256) with what you were told:"
    )
    digits = ":".join(f"{number * 37 % 256:02X}" for number in range(1, 33))
    address = ClusterAddress("10.0.4.11:7600, 10.0.4.12:7600", Path("ca.pem"))
    made = Invited("kim", "abcdefghj-kmnpqrstu-vwxyz2345", about, (digits,), lambda _: None)
    show_invitation(stage.window, address, made)


def locked(stage: Stage) -> None:
    """Show a locked window that could not check a password."""
    chat(stage)
    lock = Lock(stage.window, Path(tempfile.mkdtemp()))
    lock.begin()
    lock.page.password.setText("a long password")
    lock.page.show_problem(f"{NOT_CHECKED} No majority of the nodes answered within 10 s.")


def over_chat(show: Callable[[MainWindow], None]) -> Callable[[Stage], None]:
    """Return the scene of a conversation after `show`."""

    def scene(stage: Stage) -> None:
        chat(stage)
        show(stage.window)

    return scene


SCENES: tuple[tuple[str, Theme, Callable[[Stage], None]], ...] = (
    ("gui-sign-in", LIGHT, sign_in),
    ("gui-chat-light", LIGHT, chat),
    ("gui-chat-dark", DARK, typing),
    ("gui-channel", LIGHT, channel),
    ("gui-failover", LIGHT, failover),
    ("gui-no-majority", LIGHT, no_majority),
    ("gui-waiting", LIGHT, waiting),
)
MORE_SCENES: tuple[tuple[str, Theme, Callable[[Stage], None]], ...] = (
    ("gui-unread", LIGHT, unread),
    ("gui-list", LIGHT, listed),
    ("gui-one-down", LIGHT, one_down),
    ("gui-new-account", LIGHT, new_account),
    ("gui-invited", LIGHT, invited),
    ("gui-locked", LIGHT, locked),
    *((name, LIGHT, over_chat(show)) for name, show in DIALOGS),
)
WIDTHS = (640, 1120, 1600)


def pictures(*, every: bool) -> Iterator[tuple[str, Theme, QSize, Callable[[Stage], None]]]:
    """Yield what to draw: the pictures of the documentation, or `every` scene in both themes and all widths."""
    for name, theme, scene in SCENES if not every else (*SCENES, *MORE_SCENES):
        if not every:
            yield name, theme, SIZE, scene
            continue
        for width in WIDTHS:
            for words, other in (("light", LIGHT), ("dark", DARK)):
                yield f"{name}-{width}-{words}", other, QSize(width, SIZE.height()), scene


def main() -> int:
    """Write all screenshots, or those that are named."""
    parser = argparse.ArgumentParser(description="Draws the pictures of the window.")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="where to (default: docs/images)")
    parser.add_argument("--missing-fonts", action="store_true", help="only print the Debian packages of missing fonts")
    parser.add_argument("--every", action="store_true", help="each scene in light and dark, in three widths")
    parser.add_argument("names", nargs="*", help="only these")
    given = parser.parse_args()
    os.environ["QT_SCALE_FACTOR"] = "1" if given.every else str(SCALE)
    app = QApplication(["screenshots"])
    app.setStyle("Fusion")
    absent = [package for family, package in FONTS.items() if family not in QFontDatabase.families()]
    if given.missing_fonts:
        print("\n".join(absent))
        return 0
    if absent:
        print(
            f"The pictures need fonts that are not here. Run: sudo apt-get install {' '.join(absent)}", file=sys.stderr
        )
        return 1
    font = QFont("Inter")
    font.setFamilies(["Inter", "Noto Color Emoji"])
    font.setPointSizeF(10.5)
    app.setFont(font)
    given.out.mkdir(parents=True, exist_ok=True)
    now = datetime.now().astimezone().replace(hour=11, minute=52, second=0)
    for name, theme, size, scene in pictures(every=given.every):
        if given.names and name not in given.names:
            continue
        apply_theme(app, theme)
        stage = Stage(theme, now)
        stage.window.resize(size)
        stage.window.show()
        scene(stage)
        for _ in range(5):
            app.processEvents()
        over = app.activeModalWidget()
        picture = (over or stage.window).grab()
        file = given.out / f"{name}.png"
        picture.save(str(file))
        print(f"{file}: {picture.width()} x {picture.height()}")
        app.setFont(font)
        stage.window.close()
        stage.window.deleteLater()
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
    return 0


if __name__ == "__main__":
    sys.exit(main())
