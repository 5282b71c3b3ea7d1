"""What the account has removed: gone from list, thread and counts, however late something of it is told."""

from __future__ import annotations

from dataclasses import replace

from parley import Conversation, LostOrigin, MessageStatus, Target
from parley.chat import Chats, ConversationKey, Noticed, account_key, conversation_key
from parley.chat.thread import Thread
from tests.unit.chat.people import ANN, BEN, WITH_BEN, direct, message, own, page
from tests.unit.chat.test_chats import chats
from tests.unit.chat.test_lost import lost

BEN_KEY = conversation_key(WITH_BEN)


def gone(up_to: int) -> Conversation:
    return replace(direct(), removed_up_to=up_to)


def listed(made: Chats) -> list[ConversationKey]:
    return [item.key for item in made.items()]


def thread_of(made: Chats) -> Thread:
    thread = made.thread(BEN_KEY)
    assert thread is not None
    return thread


def bodies(made: Chats) -> list[str]:
    return [row.body for row in thread_of(made).rows]


def opened() -> Chats:
    """The conversation with ben is open and has messages 1 to 5, of which two are unread."""
    made = chats(direct(last=message(5), unread=2, read_up_to=3))
    made.open(Target(account="ben"))
    made.load(
        Target(account="ben"), 0, replace(page(*map(message, (1, 2, 3, 4, 5)), conversation=direct()), read_up_to=3)
    )
    assert bodies(made) == ["m1", "m2", "m3", "m4", "m5"]
    return made


def test_what_was_removed_leaves_list_thread_and_counts() -> None:
    made = opened()
    made.take_conversations((gone(5),))
    assert (bodies(made), made.unread) == ([], 0)
    assert listed(made) == [BEN_KEY], "what is open stays listed, so nothing disappears under the hands"
    assert made.item(BEN_KEY).preview == ""
    made.leave()
    assert listed(made) == []
    made.take_conversations((gone(0),))
    assert listed(made) == [], "an answer from before the removal"


def test_something_newer_brings_it_back_with_nothing_older_and_is_announced() -> None:
    made = opened()
    made.leave()
    made.take_conversations((gone(5),))
    out = made.take_arrived((message(4), message(5), message(6)))
    assert [(one.key, [each.id for each in one.messages]) for one in out if isinstance(one, Noticed)] == [
        (BEN_KEY, [6])
    ]
    assert listed(made) == [BEN_KEY]
    assert (made.unread, made.item(BEN_KEY).preview) == (1, "m6")
    made.open(BEN_KEY)
    assert bodies(made) == ["m6"]


def test_what_came_before_the_removal_and_was_not_shown_stays() -> None:
    made = opened()
    made.take_arrived((message(6),))
    made.take_conversations((gone(5),))
    assert bodies(made) == ["m6"]
    assert made.unread == 1
    assert not thread_of(made).loaded.more, "nothing older is to be fetched"
    assert thread_of(made).wants_before(0) is None


def test_a_list_and_a_page_that_are_older_than_the_removal_show_nothing() -> None:
    made = opened()
    made.take_conversations((gone(5),))
    made.leave()
    made.take_list((replace(direct(last=message(5), unread=2, read_up_to=3)),))
    assert (listed(made), made.unread) == ([], 0)
    made.open(BEN_KEY)
    made.load(Target(account="ben"), 0, page(*map(message, (4, 5, 6)), conversation=direct()))
    assert bodies(made) == ["m6"]


def test_own_messages_that_wait_or_need_the_person_stay_in_list_and_thread() -> None:
    made = opened()
    made.take_outgoing(
        (
            own(1, MessageStatus.ACCEPTED, message_id=5),
            own(2, MessageStatus.FAILED, number=2),
            own(3, MessageStatus.WAITING),
        )
    )
    made.take_conversations((gone(5),))
    assert bodies(made) == ["own2", "own3"]
    made.leave()
    assert listed(made) == [BEN_KEY]
    assert made.item(BEN_KEY).preview == "own3"
    made.take_outgoing((own(3, MessageStatus.ACCEPTED, message_id=7),))
    made.take_removed((2,))
    assert (listed(made), made.item(BEN_KEY).preview) == ([BEN_KEY], "own3"), "it is back with what was sent"


def test_an_own_message_whose_result_comes_after_its_removal_is_not_shown() -> None:
    made = opened()
    made.take_outgoing((own(1, MessageStatus.SENDING, number=1),))
    made.take_conversations((gone(6),))
    assert bodies(made) == ["own1"]
    made.take_outgoing((own(1, MessageStatus.ACCEPTED, message_id=6, number=1),))
    assert bodies(made) == []
    made.leave()
    assert listed(made) == []


def test_the_stored_draft_goes_and_one_that_is_being_typed_stays() -> None:
    for unsaved in (False, True):
        made = opened()
        made.keep_draft(BEN_KEY, "still to say")
        if not unsaved:
            made.take_unsaved_draft(BEN_KEY)
        made.take_conversations((gone(5),))
        assert made.draft(BEN_KEY) == ("still to say" if unsaved else "")
        made.keep_draft(BEN_KEY, "new thought")
        made.take_unsaved_draft(BEN_KEY)
        made.take_conversations((replace(gone(5), muted=True),))
        assert made.draft(BEN_KEY) == "new thought", "it is newer than the removal"


def test_of_lost_messages_only_the_own_ones_that_can_be_sent_again_stay() -> None:
    made = opened()
    mine = lost(1, "mine", after_id=3, origin=LostOrigin.THIS_DEVICE)
    made.take_lost([mine, lost(2, "of ben", after_id=3)])
    assert {"mine", "of ben"} <= set(bodies(made))
    made.take_conversations((gone(5),))
    assert bodies(made) == ["mine"]


def test_a_removal_that_is_told_before_the_conversation_is_known_by_name_holds() -> None:
    made = chats()
    made.take_arrived((message(5),))
    made.take_conversations((gone(5),))
    made.open("ben")
    assert made.conversations.resolve(account_key("ben")) == BEN_KEY
    assert bodies(made) == []


def test_a_conversation_that_is_known_only_as_removed_is_not_in_the_list() -> None:
    made = chats(gone(5))
    assert (listed(made), made.unread) == ([], 0)
    made.take_conversations((replace(direct(), removed_up_to=4),))
    assert made.conversations.look(BEN_KEY).removed_up_to == 5


def test_an_own_message_of_another_device_brings_it_back() -> None:
    made = chats(gone(5))
    made.take_arrived((message(6, sender=ANN),))
    assert listed(made) == [BEN_KEY]
    assert made.item(BEN_KEY).title == made.book.label(BEN.id)
