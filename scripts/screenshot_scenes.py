"""The states of the window that are drawn: each scene fills a stage."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication

from parley import (
    AccountPresence,
    Changes,
    ConnectionState,
    Conversation,
    ConversationKind,
    HistoryPage,
    Member,
    Message,
    MessageKind,
    MessageStatus,
    PresenceState,
    Target,
    Typing,
)
from parley.gui import events
from parley.gui.bridge import NOT_CHECKED
from parley.gui.commands import ClusterAddress, Invited
from parley.gui.invitation import show_invitation
from parley.gui.main_window import MainWindow
from parley.gui.theme import DARK, LIGHT, Theme
from scripts.screenshot_dialogs import DIALOGS, lost_listed
from scripts.screenshot_mentions import MENTIONS
from scripts.screenshot_stage import IDS, NODES, TO_BEN, WARD, WITH_BEN, Stage, direct
from scripts.screenshot_talk import BEN, FROM_THE_RIGHT, Said

Scene = Callable[[Stage], None]


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


def gap(stage: Stage) -> None:
    """Show a conversation of which this device has an older part, and the cluster has told the newest one."""
    talk = [Said(False, 90 - number, f"Entry {number} of the log of pump two.") for number in range(1, 9)]
    thread = stage.sign_in(talk)[WITH_BEN]
    with_ben = direct("ben", WITH_BEN)
    stage.window.open_conversation(TO_BEN)
    held = HistoryPage(thread[:4], True, with_ben, cached=True, gapless_from=1, gapless_below=thread[4].id)
    stage.apply(events.HistoryLoaded(TO_BEN, 0, held))
    stage.apply(events.HistoryLoaded(TO_BEN, 0, HistoryPage(thread[6:], True, with_ben)))


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


def signing_in(stage: Stage) -> None:
    """Show the sign-in page while the cluster is asked."""
    sign_in(stage)
    stage.window.sign_in.set_busy(True)


def no_device_to_spare(stage: Stage) -> None:
    """Show the sign-in page of somebody with many devices, with a long text."""
    sign_in(stage)
    stage.window.sign_in.offer_to_end_oldest(
        "The account has 16 devices, and no more can sign in. Sign one of them out, or let this sign-in end the "
        "session of the one that signed in longest ago."
    )


def uninvited(stage: Stage) -> None:
    """Show the sign-in page while it asks for the code of an invitation."""
    sign_in(stage)
    stage.window.sign_in.ask_for_invitation(
        "This cluster creates accounts by invitation. Enter the code you were given."
    )


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
    lock = stage.lock
    lock.begin()
    lock.page.password.setText("a long password")
    lock.page.show_problem(f"{NOT_CHECKED} No majority of the nodes answered within 10 s.")


def first_day(stage: Stage) -> None:
    """Show the window of a new account."""
    stage.begin()
    stage.apply(events.ConversationsListed(()))


def loading(stage: Stage) -> None:
    """Show a conversation whose messages are not there yet."""
    stage.sign_in()
    stage.window.open_conversation(TO_BEN)


def urgent(stage: Stage) -> None:
    """Show an urgent message, and one that is about to be sent."""
    stage.chat((*BEN[:-1], Said(False, 2, "Bed 7 needs you now, please come.", urgent=True)))
    stage.window.chat.composer.editor.setPlainText("On my way")
    stage.window.chat.composer.urgent.setChecked(True)


def left_channel(stage: Stage) -> None:
    """Show a channel that the account has left."""
    stage.channel()
    gone = Message(WARD, 2000, MessageKind.MEMBERS_LEFT, 4, "", stage.ms(1), False, subjects=(1,))
    stage.apply(events.Arrived((gone,)))


def muted(stage: Stage) -> None:
    """Show the list with long names, a muted conversation, a draft and many unread messages."""
    stage.sign_in()
    last = stage.message(
        WITH_BEN, Said(False, 1, "The handover takes place in the small room at the end, bring all keys.")
    )
    title = "Night shift of the surgical wards and of the emergency room, all houses"
    members = tuple(Member(account_id) for account_id in sorted(IDS.values()))
    channel = Conversation(60, ConversationKind.CHANNEL, title, members, 12, replace(last, conversation_id=60), 1204)
    stage.apply(
        events.ConversationsListed(
            (
                replace(channel, topic="Who is where, and who takes over. " * 4),
                replace(direct("ben", WITH_BEN), last=last, unread=7, muted=True),
                replace(direct("ruth", 24), last=replace(last, conversation_id=24, mine=True, sender_id=1)),
            )
        ),
        events.DraftLoaded(TO_BEN, "I will bring the"),
    )
    stage.window.open_conversation(Target(conversation_id=60))


def lost(stage: Stage) -> None:
    """Show the bar about messages that a restored cluster does not have."""
    chat(stage)
    lost_listed(stage.window)


def from_the_right(stage: Stage) -> None:
    """Show a conversation of people who write from the right."""
    QApplication.setLayoutDirection(Qt.LayoutDirection.RightToLeft)
    stage.words = FROM_THE_RIGHT
    chat(stage)
    stage.apply(events.DraftLoaded(TO_BEN, "سأحضر المفتاح. Parley\nand the map."))


def from_both_sides(stage: Stage) -> None:
    """Show the same in a window that begins at the left."""
    stage.words = FROM_THE_RIGHT
    chat(stage)


def channel_from_the_right(stage: Stage) -> None:
    """Show a channel of people who write from the right."""
    QApplication.setLayoutDirection(Qt.LayoutDirection.RightToLeft)
    stage.words = FROM_THE_RIGHT
    stage.channel()


def waiting_from_the_right(stage: Stage) -> None:
    """Show messages that wait or failed, in a window that begins at the right."""
    QApplication.setLayoutDirection(Qt.LayoutDirection.RightToLeft)
    waiting(stage)


def over_chat(show: Callable[[MainWindow], None]) -> Scene:
    """Return the scene of a conversation after `show`."""

    def scene(stage: Stage) -> None:
        chat(stage)
        show(stage.window)

    return scene


SCENES: tuple[tuple[str, Theme, Scene], ...] = (
    ("gui-sign-in", LIGHT, sign_in),
    ("gui-chat-light", LIGHT, chat),
    ("gui-chat-dark", DARK, typing),
    ("gui-channel", LIGHT, channel),
    ("gui-failover", LIGHT, failover),
    ("gui-no-majority", LIGHT, no_majority),
    ("gui-waiting", LIGHT, waiting),
)
MORE_SCENES: tuple[tuple[str, Theme, Scene], ...] = (
    ("gui-unread", LIGHT, unread),
    ("gui-gap", LIGHT, gap),
    ("gui-list", LIGHT, listed),
    ("gui-one-down", LIGHT, one_down),
    ("gui-new-account", LIGHT, new_account),
    ("gui-invited", LIGHT, invited),
    ("gui-uninvited", LIGHT, uninvited),
    ("gui-signing-in", LIGHT, signing_in),
    ("gui-no-device", LIGHT, no_device_to_spare),
    ("gui-first-day", LIGHT, first_day),
    ("gui-loading", LIGHT, loading),
    ("gui-urgent", LIGHT, urgent),
    ("gui-left-channel", LIGHT, left_channel),
    ("gui-long-names", LIGHT, muted),
    ("gui-lost", LIGHT, lost),
    ("gui-locked", LIGHT, locked),
    ("gui-rtl", LIGHT, from_the_right),
    ("gui-rtl-channel", LIGHT, channel_from_the_right),
    ("gui-rtl-waiting", LIGHT, waiting_from_the_right),
    ("gui-both-directions", LIGHT, from_both_sides),
    *((name, LIGHT, scene) for name, scene in MENTIONS),
    *((name, LIGHT, over_chat(show)) for name, show in DIALOGS),
)
