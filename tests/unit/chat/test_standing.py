"""Whether one can write in a channel: who left, what is archived, where nobody else is, and who came back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from parley import Conversation, Member, MessageKind
from parley.chat import Chats, Standing, conversation_key, row_text
from tests.unit.chat.people import ANN, BEN, DANA, NOTES, PEOPLE, WARD, channel, direct, event, message, page

WARD_KEY = conversation_key(WARD)
OPEN = channel((BEN, 0, 0))
WITHOUT_ANN = replace(OPEN, members=(Member(BEN.id), Member(DANA.id)))
LEFT, JOINED = MessageKind.MEMBERS_LEFT, MessageKind.MEMBERS_JOINED


def chats(*listed: Conversation) -> Chats:
    made = Chats("ann")
    made.take_accounts(PEOPLE)
    made.take_list(listed)
    return made


def standing(made: Chats) -> Standing:
    assert made.item(WARD_KEY).standing is made.standing(WARD_KEY)
    return made.standing(WARD_KEY)


@pytest.mark.parametrize("sender", [ANN, BEN])
def test_who_left_or_was_removed_is_in_again_with_the_row_of_the_return(sender: object) -> None:
    by = ANN if sender is ANN else BEN
    made = chats(OPEN)
    assert standing(made) is Standing.OPEN
    made.take_arrived((event(5, LEFT, "", ANN, sender=by),))
    assert standing(made) is Standing.LEFT
    assert not standing(made).takes_messages
    assert made.item(WARD_KEY).about == "left"
    assert standing(made).text.startswith("You are no longer in this channel.")
    made.take_arrived((event(9, JOINED, "", DANA, ANN),))
    assert standing(made) is Standing.OPEN
    assert made.item(WARD_KEY).preview == "Ben Ortiz (ben) added dana and you."
    assert made.item(WARD_KEY).about == "2 members"


def test_that_somebody_else_left_or_joined_changes_nothing_for_oneself() -> None:
    made = chats(OPEN)
    made.take_arrived((event(5, LEFT, "", BEN),))
    assert standing(made) is Standing.OPEN
    made.take_arrived((event(6, LEFT, "", ANN, BEN),))
    made.take_arrived((message(4, "older, late", conversation_id=WARD),))
    assert standing(made) is Standing.LEFT


def test_a_list_and_a_page_of_history_tell_it_too() -> None:
    left = event(5, LEFT, "", ANN)
    assert standing(chats(replace(OPEN, last=left))) is Standing.LEFT
    made = chats(OPEN)
    key, _, _ = made.open(WARD_KEY)
    made.load(made.target(key), 0, page(message(4, conversation_id=WARD), left, conversation=OPEN))
    assert standing(made) is Standing.LEFT


def test_without_the_row_the_whole_list_of_members_decides() -> None:
    assert standing(chats(WITHOUT_ANN)) is Standing.LEFT
    first_64_of_many = replace(WITHOUT_ANN, member_count=200)
    assert standing(chats(first_64_of_many)) is Standing.OPEN, "ann may be behind the first ones"
    rejoined = replace(WITHOUT_ANN, last=event(9, JOINED, "", ANN, sender=ANN))
    assert standing(chats(rejoined)) is Standing.OPEN, "the row is newer than the list"
    unknown = Chats("ann")  # the own account is not known yet
    unknown.take_list((WITHOUT_ANN,))
    assert standing(unknown) is Standing.OPEN


def test_an_archived_channel_takes_no_messages_until_it_is_reopened() -> None:
    made = chats(replace(OPEN, archived=True))
    assert (standing(made), standing(made).takes_messages) == (Standing.ARCHIVED, False)
    assert made.item(WARD_KEY).about == "2 members, archived"
    assert "archived" in standing(made).text
    made.take_conversations((OPEN,))
    assert standing(made) is Standing.OPEN


def test_nobody_else_is_in_a_channel_with_one_member_and_notes_say_nothing_of_the_kind() -> None:
    made = chats(channel(), direct(NOTES, ANN))
    assert (standing(made), standing(made).takes_messages) == (Standing.ALONE, True)
    assert standing(made).text == "Nobody else is here."
    assert made.standing(conversation_key(NOTES)) is Standing.OPEN


def test_the_topic_is_part_of_the_line_without_characters_that_mislead() -> None:
    made = chats(replace(OPEN, topic="Night\u202e shift\n"), direct())
    assert {item.title: item.topic for item in made.items()} == {
        "Ward 4": "Night\ufffd shift\ufffd",
        "Ben Ortiz (ben)": "",
    }


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        (MessageKind.TOPIC_CHANGED, "Night\u202e", "Ben Ortiz (ben) changed the topic to “Night\ufffd”."),
        (MessageKind.TOPIC_CHANGED, "", "Ben Ortiz (ben) removed the topic."),
        (MessageKind.ARCHIVED, "", "Ben Ortiz (ben) archived the channel."),
        (MessageKind.REOPENED, "", "Ben Ortiz (ben) reopened the channel."),
    ],
)
def test_what_was_done_to_a_channel_is_a_sentence(kind: MessageKind, body: str, text: str) -> None:
    assert row_text(event(1, kind, body), chats().book) == text
    assert row_text(event(1, kind, body, sender=ANN), chats().book) == text.replace("Ben Ortiz (ben)", "You")
