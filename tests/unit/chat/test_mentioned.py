"""Mentions of the own account in the list, in what is announced, and in the rows of a thread."""

from __future__ import annotations

from dataclasses import replace

from parley import EVERYONE, Account, Conversation, ConversationKind, Member, Message, MessageKind, MessageStatus
from parley.chat import Chats, Mention, Noticed, Output, Row, conversation_key
from parley.model import MAX_UNREAD_MENTIONS
from tests.unit.chat.people import ANN, BEN, PEOPLE, WARD, channel, direct, event, message, own, page
from tests.unit.chat.test_chats import WARD_KEY, chats

EVERYONE_ID = EVERYONE.conversation_id
EVERYONE_KEY = conversation_key(EVERYONE_ID)


def said(number: int, body: str = "@ann", *, sender: Account = BEN) -> Message:
    return message(number, body, conversation_id=WARD, sender=sender)


def noticed(out: list[Output]) -> list[int]:
    return [message.id for one in out if isinstance(one, Noticed) for message in one.messages]


def count(made: Chats) -> int:
    return made.item(WARD_KEY).mentions


def test_what_arrives_is_counted_if_it_names_the_account_and_is_of_somebody_else() -> None:
    made = chats(channel((BEN, 0, 0)))
    renamed = replace(event(6, MessageKind.TITLE_CHANGED), body="@ann")
    made.take_arrived((said(1), said(2, "ann"), said(3, "hi @ANN!"), said(4, "@annie"), said(5, sender=ANN), renamed))
    assert (made.item(WARD_KEY).unread, count(made), made.mentions) == (4, 2, 2)


def test_a_direct_conversation_has_no_mentions() -> None:
    made = chats(direct())
    made.take_arrived((message(1, "@ann"),))
    assert made.mentions == 0


def test_a_name_that_belongs_to_a_longer_one_is_no_mention_until_that_account_is_deleted() -> None:
    made = chats(channel((BEN, 0, 0)))
    made.take_accounts((Account(9, "ann-2"),))
    made.take_arrived((said(1, "@ann-2"),))
    assert count(made) == 0
    made.take_accounts((Account(9, "ann-2", deleted=True),))
    made.take_arrived((said(2, "@ann-2"),))
    assert count(made) == 1


def test_what_was_listed_and_what_arrived_is_counted_once() -> None:
    made = chats(channel((BEN, 0, 0)))
    made.take_arrived((said(1), said(2)))
    made.take_list((replace(channel(last=said(2), unread=2), mentions=(1, 2)),))
    assert count(made) == 2
    made.take_arrived((said(2), said(3)))
    assert count(made) == 3
    made.take_list((channel(last=said(3), unread=3),))
    assert count(made) == 3, "a list that says nothing of mentions takes none away"


def test_a_mention_that_arrives_after_the_list_that_counts_it_is_a_mention() -> None:
    """The list comes at once when a client connects, and what was written before comes with the stream."""
    made = chats(channel((BEN, 0, 0), last=said(4), unread=3, read_up_to=1))
    assert noticed(made.take_arrived((said(1), said(2), said(3, "calm"), said(4)))) == []
    assert (made.item(WARD_KEY).unread, count(made)) == (3, 2)
    made.saw(WARD_KEY, 4)
    assert count(made) == 0


def test_of_very_many_mentions_the_newest_are_counted_as_they_come() -> None:
    """As many as a list has. Without a bound, each message was compared with all of them."""
    made = chats(channel((BEN, 0, 0)))
    for first in range(1, MAX_UNREAD_MENTIONS + 2, 7):
        made.take_arrived(tuple(said(number) for number in range(first, first + 7)))
    assert count(made) == MAX_UNREAD_MENTIONS
    made.saw(WARD_KEY, 7)
    assert made.item(WARD_KEY).unread == first + 6 - 7
    assert made.conversations.look(WARD_KEY).mentions[-1] == first + 6


def test_what_was_read_here_or_elsewhere_does_not_count_any_more() -> None:
    made = chats(channel((BEN, 0, 0)))
    made.take_arrived((said(1), said(2), said(3)))
    made.saw(WARD_KEY, 1)
    assert count(made) == 2
    made.take_list((channel(last=said(3), unread=1, read_up_to=2),))
    assert count(made) == 1
    made.take_list((replace(channel(last=said(3), unread=3), mentions=(1, 2, 3)),))
    assert count(made) == 1, "the mark of this device is still on its way"


def test_what_was_removed_does_not_count() -> None:
    made = chats(channel((BEN, 0, 0)))
    made.take_arrived((said(1), said(2)))
    made.take_conversations((replace(channel(), removed_up_to=1),))
    assert count(made) == 1
    made.take_list((replace(channel(last=said(2)), mentions=(1, 2)),))
    assert count(made) == 1


def test_a_restored_cluster_has_no_mentions_of_before() -> None:
    made = chats(channel((BEN, 0, 0)))
    made.take_arrived((said(1),))
    made.begin_anew()
    assert made.mentions == 0


def test_a_mention_is_announced_in_a_muted_channel_and_is_not_shown_as_urgent() -> None:
    made = chats(replace(channel((BEN, 0, 0)), muted=True))
    assert noticed(made.take_arrived((said(1, "calm"), said(2), said(3, sender=ANN)))) == [2]
    item = made.item(WARD_KEY)
    assert (item.mentions, item.urgent, item.muted) == (1, False, True)


def test_a_muted_channel_that_was_put_away_comes_back_for_an_unread_mention_and_goes_when_it_is_read() -> None:
    made = chats(replace(channel((BEN, 0, 0), last=said(1)), muted=True, put_away_up_to=1))
    made.take_arrived((said(2, "calm"),))
    assert made.item(WARD_KEY).put_away
    assert made.mentions == 0
    made.take_arrived((said(3),))
    assert not made.item(WARD_KEY).put_away
    assert made.mentions == 1
    made.saw(WARD_KEY, 3)
    assert made.item(WARD_KEY).put_away


def test_a_mention_that_was_put_away_unread_does_not_bring_the_channel_back() -> None:
    made = chats(replace(channel((BEN, 0, 0), last=said(1)), muted=True, put_away_up_to=1, mentions=(1,)))
    made.take_arrived((said(2, "calm"),))
    assert made.item(WARD_KEY).put_away
    assert (made.item(WARD_KEY).mentions, made.mentions) == (1, 0)


def test_the_conversation_of_everyone_has_mentions_even_before_it_is_told() -> None:
    made = chats()
    made.take_arrived((message(1, "@ann", conversation_id=EVERYONE_ID),))
    assert made.item(EVERYONE_KEY).mentions == 1
    everyone = Conversation(
        EVERYONE_ID, ConversationKind.EVERYONE, members=(Member(ANN.id), Member(BEN.id)), member_count=2
    )
    made.take_conversations((everyone,))
    made.take_arrived((message(2, "@ann", conversation_id=EVERYONE_ID),))
    assert made.item(EVERYONE_KEY).mentions == 2


# ---- rows


def rows(made: Chats) -> list[Row]:
    thread = made.thread(WARD_KEY)
    assert thread is not None
    return thread.rows


def test_a_row_says_where_its_text_as_it_is_shown_names_accounts() -> None:
    made = chats(channel((BEN, 0, 0)))
    key, _, _ = made.open(WARD_KEY)
    text = "a\r\nb @Ann and @ben, @nobody"
    made.load(made.target(key), 0, page(said(1, text), said(2, "@ann", sender=ANN), said(3, "none")))
    one, mine, none = rows(made)
    assert one.mentions == (Mention(4, 8, "Ann", me=True), Mention(13, 17, "ben", me=False))
    assert [one.shown[found.start : found.end] for found in one.mentions] == ["@Ann", "@ben"]
    assert [row.mentions_me for row in (one, mine, none)] == [True, False, False]
    assert mine.mentions


def test_an_own_message_that_waits_names_accounts_too_and_an_event_does_not() -> None:
    made = chats(channel((BEN, 0, 0)))
    key, _, _ = made.open(WARD_KEY)
    made.load(made.target(key), 0, page(event(1, MessageKind.TITLE_CHANGED, "@ben")))
    made.take_outgoing((own(1, MessageStatus.WAITING, target=made.target(key), body="@ben"),))
    happened, waits = rows(made)
    assert happened.mentions == ()
    assert [one.name for one in waits.mentions] == ["ben"]


def test_a_row_is_made_again_when_an_account_becomes_known() -> None:
    made = Chats("ann")
    made.take_accounts(PEOPLE[:1])
    made.take_list((channel((BEN, 0, 0)),))
    key, _, _ = made.open(WARD_KEY)
    made.load(made.target(key), 0, page(said(1, "@ben")))
    assert rows(made)[0].mentions == ()
    assert made.take_accounts((BEN,))
    assert [one.name for one in rows(made)[0].mentions] == ["ben"]


def test_a_row_of_a_direct_conversation_names_nobody() -> None:
    made = chats(direct())
    key, _, _ = made.open("ben")
    made.load(made.target(key), 0, page(message(1, "@ann")))
    thread = made.thread(key)
    assert thread is not None
    assert thread.rows[0].mentions == ()
