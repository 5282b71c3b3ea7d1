"""Targets, positions, marks and what is known of conversations: decided in one place each, without files or nodes."""

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import (
    Account,
    BadInputError,
    Changes,
    Conversation,
    Member,
    MessageStatus,
    Progress,
    Receipt,
    ReceiptCounts,
    StatePublisher,
    Target,
    progress,
    with_progress,
)
from parley.known import Known
from parley.wire.position import Position, merge, raised, was_restored
from tests.unit.client.records import OWN_ID, accepted, account, channel, direct


def test_a_target_names_exactly_one() -> None:
    assert Target.of("bob") == Target(account="bob")
    assert Target.of(Target(conversation_id=4)) == Target(conversation_id=4)
    for wrong in ({}, {"account": ""}, {"account": "bob", "account_id": 1}, {"account_id": 1, "conversation_id": 1}):
        with pytest.raises(BadInputError, match="Nothing was sent"):
            Target(**wrong)


# ---- positions


positions = st.builds(
    lambda generation, indices: Position(generation, tuple(sorted(indices.items()))),
    st.integers(0, 3),
    st.dictionaries(st.integers(0, 3), st.integers(1, 9), max_size=3),
)


def test_a_higher_generation_replaces_and_a_lower_one_is_ignored() -> None:
    old, new = Position(1, ((0, 900), (1, 5))), Position(2, ((0, 3),))
    assert merge(old, new) == merge(new, old) == new


def test_a_device_does_not_take_a_higher_generation_before_it_has_forgotten_the_lower_one() -> None:
    old, new, none = Position(1, ((0, 900),)), Position(2, ((0, 3),)), Position()
    assert raised(old, new) == old
    assert raised(none, new) == new
    assert raised(new, old) == new
    assert [was_restored(known, 2) for known in (old, new, none)] == [True, False, False]


def test_within_a_generation_each_group_keeps_its_maximum() -> None:
    assert merge(Position(1, ((0, 9), (1, 2))), Position(1, ((0, 4), (2, 7)))) == Position(1, ((0, 9), (1, 2), (2, 7)))


@given(positions, positions, positions)
def test_merging_does_not_depend_on_the_order_of_answers(a: Position, b: Position, c: Position) -> None:
    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a, b) == merge(b, a)
    assert merge(a, a) == a


@given(positions)
def test_a_position_comes_back_from_the_wire_and_from_the_file(position: Position) -> None:
    assert Position.from_wire(position.to_wire()) == Position.from_bytes(position.to_bytes()) == position


# ---- marks


def with_marks(conversation: Conversation, marks: dict[int, tuple[int, int]]) -> Conversation:
    members = tuple(
        replace(m, delivered_up_to=marks.get(m.account_id, (0, 0))[0], read_up_to=marks.get(m.account_id, (0, 0))[1])
        for m in conversation.members
    )
    return replace(conversation, members=members)


@pytest.mark.parametrize(
    ("marks", "status", "delivered", "read"),
    [
        ({}, MessageStatus.ACCEPTED, 0, 0),
        ({2: (5, 5)}, MessageStatus.ACCEPTED, 1, 1),
        ({2: (5, 5), 3: (4, 4)}, MessageStatus.ACCEPTED, 1, 1),
        ({2: (5, 5), 3: (5, 0)}, MessageStatus.DELIVERED, 2, 1),
        ({2: (0, 5), 3: (9, 9)}, MessageStatus.READ, 2, 2),
        ({1: (9, 9)}, MessageStatus.ACCEPTED, 0, 0),
    ],
)
def test_a_message_in_a_channel_is_read_only_when_all_other_members_have_read_it(
    marks: dict[int, tuple[int, int]], status: MessageStatus, delivered: int, read: int
) -> None:
    conversation = with_marks(channel(), marks)
    counted = progress(5, conversation, OWN_ID)
    assert (counted.delivered, counted.read, counted.others, counted.status) == (delivered, read, 2, status)
    assert with_progress(accepted(1, 5, 9), conversation, OWN_ID).status is status


def test_members_that_are_not_known_here_count_as_not_having_it() -> None:
    conversation = replace(with_marks(channel(), {2: (5, 5), 3: (5, 5)}), member_count=70)
    counted = progress(5, conversation, OWN_ID)
    assert (counted.read, counted.others, counted.status) == (2, 69, MessageStatus.ACCEPTED)


def test_who_joined_after_a_message_was_not_sent_it() -> None:
    known, newcomer = (replace(m, delivered_up_to=9, read_up_to=9) for m in channel().members[1:])
    newcomer = replace(newcomer, first_message_id=6)
    conversation = replace(channel(), members=(Member(OWN_ID), known, newcomer))
    assert progress(5, conversation, OWN_ID) == Progress(1, 1, 1)
    assert progress(6, conversation, OWN_ID) == Progress(2, 2, 2)
    alone = replace(conversation, members=(Member(OWN_ID), newcomer), member_count=2)
    assert progress(5, alone, OWN_ID).status is MessageStatus.ACCEPTED, "nobody else has ever been sent it"


@pytest.mark.parametrize(
    ("message_id", "counted"),
    [
        (5, Progress(98, 97, 99)),  # the counted message itself
        (4, Progress(1, 1, 99)),  # older, and not all have it: what is known of single members
        (3, Progress(99, 1, 99)),  # delivered to all
        (2, Progress(99, 99, 99)),  # read by all
        (1, Progress(1, 1, 99)),  # nobody who is a member now was sent it
        (6, Progress(1, 1, 99)),  # newer than the counts
    ],
)
def test_in_a_large_channel_the_counts_of_the_node_say_what_no_mark_does(message_id: int, counted: Progress) -> None:
    counts = ReceiptCounts(5, 99, 98, 97, delivered_to_all=3, read_by_all=2, sent_from=2)
    conversation = replace(with_marks(channel(), {2: (9, 9)}), member_count=100, counts=counts)
    assert progress(message_id, conversation, OWN_ID) == counted
    assert progress(5, replace(conversation, counts=None), OWN_ID) == Progress(1, 1, 99)
    small = replace(conversation, member_count=3)
    assert progress(3, small, OWN_ID) == Progress(1, 1, 2), "the marks of a channel that became small are newer"


def test_counts_are_kept_by_a_directory_and_not_replaced_by_those_of_an_older_message() -> None:
    known = Known()
    known.learn_conversations([replace(channel(), member_count=100)])
    older = ReceiptCounts(4, 99, 9, 9, 0, 0, 0)
    newer = ReceiptCounts(5, 99, 3, 3, 2, 1, 0)
    assert [one.counts for one in known.count([(9, newer), (8, newer)])] == [newer]
    known.count([(9, older)])
    known.learn_conversations([replace(channel(), member_count=101)])
    found = known.conversation(9)
    assert found is not None
    assert (found.counts, found.member_count) == (newer, 101)
    further = replace(newer, read=4)
    assert [one.counts for one in known.count([(9, further)])] == [further]


def test_a_note_to_oneself_and_an_unknown_conversation_stay_accepted() -> None:
    alone = replace(direct(), members=(Member(OWN_ID, read_up_to=9),), member_count=1)
    assert with_progress(accepted(1, 5), alone, OWN_ID).status is MessageStatus.ACCEPTED
    assert with_progress(accepted(1, 5), None, OWN_ID).status is MessageStatus.ACCEPTED


# ---- what is known


def test_only_what_is_new_is_told() -> None:
    known = Known()
    bob = account(2, "bob")
    assert known.learn_accounts([bob]) == (bob,)
    assert known.learn_accounts([bob]) == ()
    assert known.learn_accounts([replace(bob, display_name="Ben")]) == (Account(2, "bob", "Ben"),)
    assert known.learn_conversations([replace(direct(), unread=3)]) == (direct(),)
    assert known.learn_conversations([replace(direct(), unread=4)]) == ()


def test_marks_survive_a_directory_that_is_older_than_the_receipts() -> None:
    known = Known()
    known.learn_conversations([channel()])
    assert known.move([Receipt(9, 2, 8, 3), Receipt(9, 2, 5, 6)])[-1] == Receipt(9, 2, 8, 6)
    known.learn_conversations([replace(channel(), title="renamed")])
    conversation = known.conversation(9)
    assert conversation is not None
    assert (conversation.title, conversation.members[1].delivered_up_to) == ("renamed", 8)


def test_a_member_that_left_does_not_hold_the_status_back() -> None:
    known = Known()
    known.learn_conversations([channel(others=(2, 3))])
    known.move([Receipt(9, 2, 5, 5)])
    assert with_progress(accepted(1, 5, 9), known.conversation(9), OWN_ID).status is MessageStatus.ACCEPTED
    known.learn_conversations([channel(others=(2,))])
    assert with_progress(accepted(1, 5, 9), known.conversation(9), OWN_ID).status is MessageStatus.READ


def test_marks_of_members_beyond_those_told_are_kept() -> None:
    known = Known()
    large = replace(channel(), member_count=70)
    known.learn_conversations([large])
    known.move([Receipt(9, 60, 5, 5)])
    known.learn_conversations([large])
    conversation = known.conversation(9)
    assert conversation is not None
    assert [m.account_id for m in conversation.members] == [1, 2, 3, 60]


def test_a_member_that_left_a_large_channel_is_forgotten() -> None:
    known = Known()
    known.learn_conversations([replace(channel(others=(2, 3, 4)), member_count=70)])
    known.learn_conversations([replace(channel(others=(2, 4)), member_count=69)])
    conversation = known.conversation(9)
    assert conversation is not None
    assert [m.account_id for m in conversation.members] == [1, 2, 4]


# ---- watching


async def take(publisher: StatePublisher, *changes: dict[str, tuple[object, ...]]) -> Changes:
    async with aclosing(publisher.watch()) as watched, asyncio.timeout(5):
        await anext(watched)
        for change in changes:
            publisher.changed(**change)  # type: ignore[arg-type]
        return await anext(watched)


async def test_receipts_coalesce_per_member_and_directories_per_id() -> None:
    change = await take(
        StatePublisher(),
        {"receipts": (Receipt(9, 2, 1, 1), Receipt(9, 3, 1, 1))},
        {"receipts": (Receipt(9, 2, 2, 2),), "accounts": (account(2, "bob"),)},
        {"accounts": (account(2, "ben"), account(3, "cleo")), "conversations": (channel(),)},
        {"conversations": (channel(title="new"), direct())},
    )
    assert change.receipts == (Receipt(9, 2, 2, 2), Receipt(9, 3, 1, 1))
    assert change.accounts == (account(2, "ben"), account(3, "cleo"))
    assert change.conversations == (channel(title="new"), direct())
    assert not change.reload


async def test_too_many_changes_become_a_request_to_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parley.state_publisher.MAX_PENDING", 3)
    change = await take(StatePublisher(), {"accounts": tuple(account(i, f"u{i}") for i in range(1, 6))})
    assert (change.reload, change.accounts) == (True, ())


def test_an_account_is_known_by_the_name_that_it_has_now(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Known()
    known.learn_accounts([account(2, "bob"), account(3, "carl")])
    assert known.account_named("BOB") == account(2, "bob")
    assert known.account_named("dora") is None
    known.learn_accounts([account(9, "Bob"), replace(account(2, "bob"), deleted=True)])
    assert known.account_named("bob") == account(9, "Bob")
    known.learn_accounts([replace(account(9, "Bob"), deleted=True)])
    assert known.account_named("bob") is None
    monkeypatch.setattr("parley.known.KEEP_ACCOUNTS", 1)
    known.learn_accounts([account(10, "dora")])
    assert (known.account_named("carl"), known.account_named("dora")) == (None, account(10, "dora"))
    assert known._ids == {"dora": 10}
