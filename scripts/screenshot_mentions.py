"""The pictures of mentions: the completion in the field, messages that mention somebody, and the mark in the list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from parley import Account, Conversation, ConversationKind, HistoryPage, Member, MessageStatus, Outgoing
from parley.gui import events
from scripts.screenshot_stage import IDS, TO_WARD, WARD, Stage, direct
from scripts.screenshot_talk import Said

TALK = (
    Said(False, 40, "@ann can you come to bed 9? @ben is still in the lab.", "dana"),
    Said(
        False,
        38,
        "Urgent for @Ann and @ruth: the monitor of bed 12 is silent, please look at it now.",
        "ben",
        urgent=True,
    ),
    Said(True, 30, "@dana I am on my way, and @ruth takes bed 12. Notes: https://wiki.ward.example/@ben/12"),
    Said(True, 29, "Note to @ann and @ben: the spare monitor goes back to @chief.engineer."),
    Said(False, 12, "شكرا @ann، السرير 12 جاهز الآن.", "dana"),
    Said(False, 4, "👍 @ann, @ben: write to ann@ward.example if it happens again, @nobody reads the list.", "ruth"),
)


def completion(stage: Stage) -> None:
    """Show the members of a channel while somebody begins a mention."""
    stage.channel()
    people = tuple(Account(50 + n, name, shown) for n, (name, shown) in enumerate(NEIGHBOURS))
    everybody = tuple(Member(id_) for id_ in (*sorted(IDS.values()), *(one.id for one in people)))
    ward = Conversation(WARD, ConversationKind.CHANNEL, stage.words.ward, everybody, len(everybody))
    stage.apply(events.Learned(people, (ward,)))
    QTest.keyClicks(stage.window.chat.composer.editor, "Thank you @")
    QTest.keyClick(stage.window.chat.composer.editor, Qt.Key.Key_Down)


NEIGHBOURS = (
    ("carla", "Carla de la Fuente y Montenegro, night shift of the surgical wards"),
    ("dmitri.k", "Дмитрий К."),
    ("salma", "سلمى حداد"),
)


def mentioned(stage: Stage) -> None:
    """Show messages that mention the person and others."""
    stage.sign_in(ward_unread=0)
    thread = tuple(stage.message(WARD, said) for said in TALK)
    stage.window.open_conversation(TO_WARD)
    stage.apply(events.HistoryLoaded(TO_WARD, 0, HistoryPage(thread, False)))
    failed = "The message has 70312 bytes; a node takes at most 65536. It was not sent; shorten or split it."
    stage.apply(
        events.OwnListed(
            (
                Outgoing(
                    1, TO_WARD, "@ben the whole log, for @ann too", stage.ms(2), MessageStatus.FAILED, detail=failed
                ),
                Outgoing(2, TO_WARD, "@dana see you at noon", stage.ms(1), MessageStatus.WAITING),
            )
        )
    )


def in_the_list(stage: Stage) -> None:
    """Show the list with mentions: in a channel, in a muted one, and many of them."""
    stage.sign_in()
    call = stage.message(WARD, Said(False, 1, "@ann please call the lab, they have questions about bed 7.", "dana"))
    many = tuple(
        stage.message(60, Said(False, 2, f"@ann entry {number} of the log needs your name.", "ben"))
        for number in range(12)
    )
    members = tuple(Member(account_id) for account_id in sorted(IDS.values()))
    muted = Conversation(60, ConversationKind.CHANNEL, "Log of the night shift, all houses", members, 7, muted=True)
    stage.apply(
        events.Learned((), (muted,)),
        events.Arrived((call, *many)),
        events.Arrived((replace(call, id=call.id + 100, conversation_id=24, sender_id=IDS["ruth"], body="See you!"),)),
        events.Learned((), (direct("ruth", 24),)),
    )


MENTIONS: tuple[tuple[str, Callable[[Stage], None]], ...] = (
    ("gui-mention-completion", completion),
    ("gui-mentions", mentioned),
    ("gui-mentions-list", in_the_list),
)
