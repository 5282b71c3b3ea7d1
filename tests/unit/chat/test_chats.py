"""Dialogues with the folding: what the SDK tells goes in, the list and the threads come out."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from parley import (
    Account,
    Changes,
    ClientState,
    Conversation,
    ConversationKind,
    Member,
    MessageKind,
    MessageStatus,
    Receipt,
    Target,
)
from parley.chat import (
    Chats,
    ConversationItem,
    ConversationKey,
    ListChanged,
    Noticed,
    Output,
    RowsChanged,
    ThreadEdited,
    ThreadReplaced,
    account_key,
    conversation_key,
)
from tests.unit.chat.people import (
    ANN,
    BEN,
    CARL,
    DANA,
    NOTES,
    PEOPLE,
    WARD,
    WITH_BEN,
    WITH_DANA,
    channel,
    direct,
    event,
    message,
    own,
    page,
)

BEN_KEY = conversation_key(WITH_BEN)
WARD_KEY = conversation_key(WARD)
TO_BEN = Target(account="ben")


def chats(*conversations: Conversation) -> Chats:
    made = Chats("ann")
    made.take_accounts(PEOPLE)
    made.take_list(conversations)
    return made


def line(made: Chats, key: ConversationKey) -> ConversationItem:
    return next(item for item in made.items() if item.key == key)


def made_again(made: Chats) -> list[ConversationItem]:
    """Return the list with every item made again."""
    for _, one in made.conversations:
        one.made = None
    return made.items()


def kept(before: list[ConversationItem], after: list[ConversationItem]) -> set[ConversationKey]:
    """Return the conversations whose item was not made again."""
    return {new.key for old in before for new in after if new is old}


def bodies(made: Chats, key: ConversationKey) -> list[str]:
    thread = made.thread(key)
    assert thread is not None
    return [row.body for row in thread.rows]


# ---- unread counts


def test_a_list_and_what_arrived_before_it_are_counted_once() -> None:
    made = chats(direct())
    made.take_arrived((message(4), message(5)))
    made.take_list((direct(last=message(5), unread=3, read_up_to=2),))
    assert line(made, BEN_KEY).unread == 3
    made.take_arrived((message(6),))
    assert line(made, BEN_KEY).unread == 4
    made.take_arrived((message(7, sender=ANN),))
    assert line(made, BEN_KEY).unread == 4
    assert made.unread == 4


def test_what_the_person_has_read_here_stays_read_whatever_an_older_list_says() -> None:
    listed = direct(last=message(5), unread=3, read_up_to=2)
    made = chats(listed)
    key, fetch, _ = made.open("ben")
    assert (key, fetch) == (BEN_KEY, True)
    made.load(TO_BEN, 0, page(message(4), message(5), conversation=listed))
    assert made.saw(key, 5) == (WITH_BEN, [ListChanged()])
    assert made.saw(key, 5) == (0, []), "the cluster is told once"
    made.take_list((listed,))
    assert line(made, key).unread == 0


def test_a_part_that_was_read_leaves_the_rest_unread() -> None:
    listed = direct(last=message(6), unread=3, read_up_to=2)
    made = chats(listed)
    made.take_list((listed,))
    key, _, _ = made.open("ben")
    made.load(TO_BEN, 0, page(*map(message, (1, 2, 4)), message(5, sender=ANN), message(6), conversation=listed))
    made.take_arrived((message(7),))
    assert line(made, key).unread == 4
    made.saw(key, 5)
    assert (line(made, key).unread, made.read_up_to(key)) == (3, 5)
    made.take_list((listed,))
    assert line(made, key).unread == 3, "the list is older than the mark of this device"
    made.saw(key, 6)
    assert line(made, key).unread == 1
    made.saw(key, 7)
    assert line(made, key).unread == 0


def test_what_was_read_on_another_device_is_learned_from_a_page() -> None:
    listed = direct(last=message(6), unread=3, read_up_to=2)
    made = chats(listed)
    made.take_list((listed,))
    made.open("ben")
    made.load(TO_BEN, 0, replace(page(*map(message, range(1, 7)), conversation=listed), read_up_to=6))
    assert line(made, BEN_KEY).unread == 0


def test_what_happens_in_a_channel_is_shown_and_does_not_count_as_unread() -> None:
    made = chats(channel((BEN, 0, 0)))
    out = made.take_arrived((event(3, MessageKind.MEMBERS_JOINED, "", CARL),))
    assert (line(made, WARD_KEY).unread, line(made, WARD_KEY).preview) == (0, "Ben Ortiz (ben) added carl.")
    assert not any(isinstance(one, Noticed) for one in out)


# ---- the list


def test_the_latest_conversation_comes_first_and_own_waiting_messages_count() -> None:
    made = chats(direct(), direct(WITH_DANA, DANA))
    made.take_arrived((message(1), message(2, sender=DANA, conversation_id=WITH_DANA)))
    assert [item.title for item in made.items()] == ["dana", "Ben Ortiz (ben)"]
    made.take_outgoing((own(1, MessageStatus.WAITING),))
    first = made.items()[0]
    assert (first.title, first.preview, first.status) == ("Ben Ortiz (ben)", "own1", MessageStatus.WAITING)
    made.take_removed((1,))
    assert made.items()[0].title == "dana"


def test_a_line_shows_how_far_the_last_own_message_has_come() -> None:
    made = chats(direct())
    made.take_outgoing((own(1, MessageStatus.ACCEPTED, message_id=9),))
    made.take_list((direct(last=message(9, "own1", sender=ANN)),))
    assert line(made, BEN_KEY).status is MessageStatus.ACCEPTED
    made.take_receipts((Receipt(WITH_BEN, BEN.id, 9, 0),))
    assert line(made, BEN_KEY).status is MessageStatus.DELIVERED
    made.take_receipts((Receipt(WITH_BEN, BEN.id, 9, 9),))
    assert line(made, BEN_KEY).status is MessageStatus.READ
    made.take_conversations((direct(delivered=3),))
    assert line(made, BEN_KEY).status is MessageStatus.READ, "marks only move forward"


def test_the_list_names_channels_notes_to_oneself_and_deleted_accounts() -> None:
    gone = Account(5, "eve", deleted=True)
    made = chats(
        channel((BEN, 0, 0), (DANA, 0, 0), last=message(5, "hi", conversation_id=WARD)),
        direct(NOTES, ANN, last=message(4, "milk", sender=ANN, conversation_id=NOTES)),
        direct(WITH_DANA, gone, last=message(3, sender=gone, conversation_id=WITH_DANA)),
        Conversation(99, ConversationKind.CHANNEL, "\u202eevil", (Member(1),), 1),
    )
    made.take_accounts((gone,))
    assert [(item.title, item.preview, item.member_count, item.deleted) for item in made.items()] == [
        ("Ward 4", "ben: hi", 3, False),
        ("Notes to yourself", "milk", 0, False),
        ("eve", "m3", 0, True),
        ("\ufffdevil", "", 1, False),
    ]
    assert made.target(conversation_key(WITH_DANA)) == Target(conversation_id=WITH_DANA)
    assert made.target(conversation_key(NOTES)) == Target(account="ann")
    assert made.target(WARD_KEY) == Target(conversation_id=WARD)


def test_a_new_display_name_is_shown_everywhere_at_once() -> None:
    made = chats(channel((BEN, 0, 0), last=message(1, conversation_id=WARD)), direct())
    key, _, _ = made.open(WARD_KEY)
    made.load(Target(conversation_id=WARD), 0, page(message(1, conversation_id=WARD)))
    out = made.take_accounts((Account(BEN.id, "ben", "Dr Ortiz"),))
    thread = made.thread(key)
    assert thread is not None
    assert out == [ThreadEdited(key, (RowsChanged(0, tuple(thread.rows)),)), ListChanged()]
    assert (thread.rows[0].sender, line(made, BEN_KEY).title) == ("Dr Ortiz (ben)", "Dr Ortiz (ben)")
    assert made.take_accounts((Account(BEN.id, "ben", "Dr Ortiz"),)) == []


# ---- a channel


def test_a_channel_that_one_of_three_has_read_says_so_and_is_not_called_read() -> None:
    made = chats(channel((BEN, 0, 0), (DANA, 0, 0)))
    key, _, _ = made.open(WARD_KEY)
    made.take_outgoing((own(1, MessageStatus.WAITING, target=Target(conversation_id=WARD)),))
    sent = own(1, MessageStatus.ACCEPTED, message_id=9, target=Target(conversation_id=WARD), conversation_id=WARD)
    made.take_outgoing((sent,))
    made.changed(Changes(ClientState(), receipts=(Receipt(WARD, BEN.id, 9, 9), Receipt(WARD, DANA.id, 8, 8))))
    thread = made.thread(key)
    assert thread is not None
    row = thread.rows[0]
    assert (row.status, row.delivered, row.read, row.others) == (MessageStatus.ACCEPTED, 1, 1, 2)
    assert line(made, key).status is MessageStatus.ACCEPTED
    made.take_receipts((Receipt(WARD, DANA.id, 9, 0),))
    assert thread.rows[0].status is MessageStatus.DELIVERED
    made.take_receipts((Receipt(WARD, DANA.id, 9, 9),))
    assert (thread.rows[0].status, thread.rows[0].read) == (MessageStatus.READ, 2)


def test_in_a_large_channel_members_whose_marks_are_not_known_count_as_not_having_it() -> None:
    made = chats(channel((BEN, 9, 9), member_count=4))
    made.open(WARD_KEY)
    made.take_arrived((message(9, sender=ANN, conversation_id=WARD),))
    assert line(made, WARD_KEY).status is MessageStatus.ACCEPTED
    made.take_receipts((Receipt(WARD, DANA.id, 9, 9), Receipt(WARD, CARL.id, 9, 9)))
    assert line(made, WARD_KEY).status is MessageStatus.READ


# ---- keys


def test_names_do_not_tell_upper_from_lower_case() -> None:
    made = chats()
    made.take_outgoing((own(1, MessageStatus.WAITING, target="BEN"), own(2, MessageStatus.WAITING, target="Ben")))
    assert [(item.key, item.title) for item in made.items()] == [(account_key("ben"), "Ben Ortiz (ben)")]


def test_a_conversation_without_an_id_becomes_one_with_it_and_keeps_its_rows_and_draft() -> None:
    made = chats()
    former, fetch, _ = made.open("ben")
    assert (former, fetch) == (account_key("ben"), True)
    made.keep_draft(former, "half")
    made.take_outgoing((own(1, MessageStatus.WAITING),))
    out = made.take_conversations((direct(),))
    assert ThreadReplaced(former, BEN_KEY) in out
    assert made.open_key == BEN_KEY
    assert made.draft(former) == made.draft(BEN_KEY) == "half"
    assert bodies(made, former) == bodies(made, BEN_KEY) == ["own1"]
    made.take_outgoing((own(1, MessageStatus.ACCEPTED, message_id=3),))
    made.take_arrived((message(4),))
    assert bodies(made, BEN_KEY) == ["own1", "m4"]
    assert len(made.items()) == 1


def test_the_conversation_of_an_accepted_message_is_known_before_anything_is_told_of_it() -> None:
    made = chats()
    former, _, _ = made.open("ben")
    made.take_outgoing((own(1, MessageStatus.WAITING),))
    out = made.take_outgoing((own(1, MessageStatus.ACCEPTED, message_id=3),))
    assert ThreadReplaced(former, BEN_KEY) in out
    assert made.key_of("ben") == BEN_KEY
    assert made.saw(former, 3)[0] == WITH_BEN
    assert line(made, BEN_KEY).title == "Ben Ortiz (ben)"


def test_messages_that_come_before_their_conversation_is_told_join_the_open_one() -> None:
    made = chats()
    made.open("ben")
    made.load(TO_BEN, 0, page())
    made.take_outgoing((own(1, MessageStatus.WAITING),))
    made.take_arrived((message(4), message(5)))
    assert len(made.items()) == 2
    made.take_conversations((direct(),))
    assert (len(made.items()), line(made, BEN_KEY).unread) == (1, 2)
    made.load(TO_BEN, 0, page(message(4), message(5), conversation=direct()))
    assert bodies(made, BEN_KEY) == ["m4", "m5", "own1"]


def test_the_own_account_may_become_known_last() -> None:
    made = Chats("ann")
    made.take_list((direct(last=message(1)), direct(NOTES, ANN)))
    assert {item.title for item in made.items()} == {f"Conversation #{WITH_BEN}", f"Conversation #{NOTES}"}
    made.open("ben")
    made.take_accounts((BEN,))
    out = made.take_accounts((ANN,))
    assert ThreadReplaced(account_key("ben"), BEN_KEY) in out
    assert {item.title for item in made.items()} == {"Ben Ortiz (ben)", "Notes to yourself"}


def test_a_name_that_belongs_to_a_new_account_does_not_lead_to_the_old_conversation() -> None:
    made = chats(direct(last=message(1)))
    made.take_accounts((Account(BEN.id, "ben", deleted=True), Account(12, "ben")))
    assert made.key_of("ben") == account_key("ben")
    assert made.target(BEN_KEY) == Target(conversation_id=WITH_BEN)


def test_the_old_conversation_of_a_name_does_not_hide_that_of_its_new_account() -> None:
    made = Chats("ann")
    made.take_accounts((ANN,))
    made.take_outgoing((own(1, MessageStatus.ACCEPTED, message_id=3),))
    assert made.key_of("ben") == BEN_KEY
    made.take_conversations((direct(),))
    made.take_accounts((Account(BEN.id, "ben", deleted=True), Account(12, "ben")))
    assert made.open("ben")[0] == account_key("ben")
    made.take_outgoing((own(2, MessageStatus.WAITING),))
    assert bodies(made, account_key("ben")) == ["own2"]
    made.take_outgoing((own(2, MessageStatus.ACCEPTED, message_id=9, conversation_id=99),))
    made.take_conversations((direct(99, Account(12, "ben")),))
    assert made.key_of("ben") == conversation_key(99)
    assert bodies(made, conversation_key(99)) == ["own2"]


def test_a_message_to_a_name_leads_to_the_conversation_of_its_newest_account_before_any_account_is_told() -> None:
    made = Chats("ann")
    made.take_outgoing((own(1, MessageStatus.ACCEPTED, message_id=3),))
    made.take_outgoing((own(2, MessageStatus.ACCEPTED, message_id=9, conversation_id=99),))
    assert made.key_of("ben") == conversation_key(99)


def test_of_two_accounts_of_one_name_the_older_one_is_deleted_though_nobody_said_so() -> None:
    older, newer = BEN, Account(12, "ben")
    for order in ((older, newer), (newer, older)):
        made = Chats("ann")
        made.take_accounts((ANN,))
        made.take_conversations((direct(),))
        for account in order:
            made.take_accounts((account,))
        assert made.key_of("ben") == account_key("ben")
        assert made.target(BEN_KEY) == Target(conversation_id=WITH_BEN), "what is written there never reaches 12"
        assert line(made, BEN_KEY).deleted


def test_whatever_is_told_first_the_outcome_is_the_same() -> None:
    steps: list[Callable[[Chats], object]] = [
        lambda made: made.take_accounts((ANN,)),
        lambda made: made.take_accounts((BEN,)),
        lambda made: made.take_conversations((direct(),)),
        lambda made: made.take_outgoing((own(1, MessageStatus.ACCEPTED, message_id=2),)),
        lambda made: made.take_outgoing((own(2, MessageStatus.WAITING),)),
        lambda made: made.take_arrived((message(3),)),
        lambda made: made.load(TO_BEN, 0, page(message(1), message(3), conversation=direct())),
        lambda made: made.take_receipts((Receipt(WITH_BEN, BEN.id, 2, 2),)),
        lambda made: made.take_list((direct(last=message(3), unread=1, read_up_to=2, delivered=2, read=2),)),
    ]
    for seed in range(200):
        made = Chats("ann")
        made.open("ben")
        random.Random(seed).shuffle(steps)
        for step in steps:
            step(made)
            assert made.items() == made_again(made), seed
        thread = made.thread(made.key_of("ben"))
        assert thread is not None
        assert [(row.body, row.status) for row in thread.rows if row.message_id != 1] == [
            ("own1", MessageStatus.READ),
            ("m3", None),
            ("own2", MessageStatus.WAITING),
        ], seed
        assert [(item.key, item.title, item.unread) for item in made.items()] == [(BEN_KEY, "Ben Ortiz (ben)", 1)], seed


# ---- a long list


def test_a_new_message_makes_the_item_of_its_own_conversation_again_and_no_other() -> None:
    made = chats(*(direct(100 + number, Account(100 + number, f"p{number}")) for number in range(50)))
    before = made.items()
    made.take_arrived((message(1, conversation_id=107, sender=Account(107, "p7")),))
    after = made.items()
    assert kept(before, after) == {item.key for item in before} - {conversation_key(107)}
    assert after[0].preview == "m1"


def test_a_new_name_makes_the_items_again_that_name_the_account() -> None:
    ward, notes = channel((BEN, 0, 0), (CARL, 0, 0)), direct(NOTES, ANN)
    made = chats(direct(), direct(WITH_DANA, DANA), notes, ward)
    made.take_arrived((event(3, MessageKind.MEMBERS_JOINED, "", CARL),))
    before = made.items()
    made.take_accounts((replace(BEN, display_name="Ben O."),))
    after = made.items()
    assert kept(before, after) == {conversation_key(WITH_DANA), conversation_key(NOTES)}
    assert after == made_again(made)
    after = made.items()
    made.take_accounts((replace(CARL, display_name="Carl C."),))
    assert kept(after, made.items()) == {BEN_KEY, conversation_key(WITH_DANA), conversation_key(NOTES)}


def test_whatever_happens_the_list_is_the_one_that_is_made_anew() -> None:
    listed = direct(last=message(5), unread=3, read_up_to=2)
    steps: list[Callable[[Chats], object]] = [
        lambda made: made.open("ben"),
        lambda made: made.leave(),
        lambda made: made.open("dana"),
        lambda made: made.keep_draft(BEN_KEY, "dr"),
        lambda made: made.draft_sent(BEN_KEY),
        lambda made: made.return_to_draft(TO_BEN, "back"),
        lambda made: made.take_list((listed, channel((BEN, 1, 1), (CARL, 0, 0)))),
        lambda made: made.saw(BEN_KEY, 4),
        lambda made: made.take_arrived((message(6), message(7, sender=ANN))),
        lambda made: made.take_arrived((event(9, MessageKind.MEMBERS_LEFT, "", ANN),)),
        lambda made: made.take_outgoing((own(1, MessageStatus.WAITING), own(2, MessageStatus.WAITING, target="dana"))),
        lambda made: made.take_removed((1, 2)),
        lambda made: made.take_receipts((Receipt(WITH_BEN, BEN.id, 7, 7),)),
        lambda made: made.take_accounts((replace(BEN, deleted=True),)),
        lambda made: made.take_accounts((replace(BEN, id=12),)),
        lambda made: made.take_accounts((ANN,)),
        lambda made: made.take_conversations((replace(direct(), muted=True),)),
        lambda made: made.take_conversations((replace(direct(), put_away_up_to=8),)),
        lambda made: made.take_outgoing((own(1, MessageStatus.ACCEPTED, message_id=2),)),
        lambda made: made.load(TO_BEN, 0, page(message(1), message(8), conversation=direct())),
    ]
    for seed in range(200):
        made = Chats("ann")
        made.take_accounts((BEN, DANA, CARL))
        for step in random.Random(seed).choices(steps, k=30):
            step(made)
            assert made.items() == made_again(made), seed


# ---- dividers, notices, pages, drafts


def test_opening_puts_the_divider_where_reading_stopped_and_leaving_takes_it_away() -> None:
    made = chats(direct(last=message(5), unread=2, read_up_to=3))
    key, _, _ = made.open("ben")
    made.load(TO_BEN, 0, page(*(message(n) for n in range(1, 6))))
    thread = made.thread(key)
    assert thread is not None
    assert thread.divider_row == 3
    made.saw(key, 5)
    made.open("dana")
    assert thread.divider_row is None


def noticed(out: list[Output]) -> list[ConversationKey]:
    return [one.key for one in out if isinstance(one, Noticed)]


def test_messages_are_announced_only_when_nobody_looks_at_them() -> None:
    made = chats(direct(), direct(WITH_DANA, DANA))
    key, _, _ = made.open("ben")
    made.attentive = True
    out = made.take_arrived((message(1), message(2, sender=DANA, conversation_id=WITH_DANA)))
    assert noticed(out) == [conversation_key(WITH_DANA)]
    made.saw(key, 1)
    made.attentive = False
    assert noticed(made.take_arrived((message(3),))) == [key]
    thread = made.thread(key)
    assert thread is not None
    assert thread.divider_row == 1


def test_a_page_is_asked_for_once_and_again_only_after_a_reconnect() -> None:
    made = chats(direct())
    key, _, _ = made.open("ben")
    made.load(TO_BEN, 0, page(*(message(n) for n in range(50, 60)), more=True))
    assert made.wants_history(key, 0) == 50
    assert made.wants_history(key, 0) is None
    assert made.paging.is_pending(key)
    made.load_failed(TO_BEN, 50)
    assert not made.paging.is_pending(key)
    assert made.wants_history(key, 0) is None, "nothing has changed since it failed"
    made.take_answering(answering=True)
    assert made.wants_history(key, 0) == 50


def test_a_draft_is_shown_in_the_list_and_saved_once_per_change() -> None:
    made = chats(direct())
    key, _, _ = made.open("ben")
    assert made.keep_draft(key, "half a sen")
    assert not made.keep_draft(key, "half a sen")
    assert made.take_unsaved_draft(key)
    assert not made.take_unsaved_draft(key)
    made.open("dana")
    item = line(made, key)
    assert (item.draft, item.preview) == (True, "half a sen")
    made.draft_sent(key)
    assert made.draft(key) == ""


def test_a_stored_draft_replaces_the_one_here_unless_something_was_typed_since_it_was_asked_for() -> None:
    """Another window writes drafts, too, and sends them."""
    made = chats(direct())
    key, _, _ = made.open("ben")
    assert made.load_draft(TO_BEN, "from the other window") != []
    assert made.draft(key) == "from the other window"
    assert made.load_draft(TO_BEN, "from the other window") == []
    made.keep_draft(key, "mine")
    made.ask_draft(key)
    assert made.load_draft(TO_BEN, "late") == [], "what is not stored yet is newer"
    made.take_unsaved_draft(key)
    assert made.load_draft(TO_BEN, "asked for before mine was stored") == []
    made.ask_draft(key)
    assert made.load_draft(TO_BEN, "") != [], "the other window sent it"
    assert made.draft(key) == ""


def test_a_text_that_was_not_taken_comes_back_before_what_was_typed_since() -> None:
    made = chats(direct())
    key, _, _ = made.open("ben")
    made.keep_draft(key, "later")
    assert made.return_to_draft(TO_BEN, "first")[0] == "first\nlater"
    assert made.load_draft(TO_BEN, "from the file") == [], "what was typed since wins"
