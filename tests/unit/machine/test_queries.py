"""Reading the applied state: right, bounded, one consistent moment per call, and never in the writer's way."""

from __future__ import annotations

import json
import time
from typing import Any

import apsw
import pytest

from parleyd.delivery.encoding import encode_message
from parleyd.machine.features import (
    accounts,
    conversations,
    history,
    members,
    memberships,
    messages,
    receipts,
    sessions,
    waiting,
)
from parleyd.machine.features.conversations import direct_with
from parleyd.machine.features.memberships import MemberRecord
from parleyd.machine.features.messages import MessageRecord
from parleyd.machine.features.waiting import QueuedPage
from parleyd.machine.limits import MAX_ID
from parleyd.machine.reader import StateReader
from tests.unit.machine.harness import (
    Node,
    close_session,
    delete_account,
    digest,
    external,
    mark_delivered,
    mark_read,
    message_count,
    queued,
    read_back,
    register,
)

ADA, BOB, CID = 1, 2, 3
BOBS_DEVICE = external(11)


@pytest.fixture
def people(node: Node) -> dict[str, int]:
    """Sessions of ada, bob and cid, whose account ids are 1, 2 and 3 and whose device rows are 1, 2 and 3."""
    return {name: node.user(name, 10 + place) for place, name in enumerate(("ada", "bob", "cid"))}


# ---- accounts


@pytest.fixture
def names(node: Node) -> list[str]:
    names = ["Anna", "anton", "ben", "Bert", "carl.x", "carl_x", "carl-x"]
    for name in names:
        node.one(register(name))
    return names


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", ["Anna", "anton", "ben", "Bert", "carl-x", "carl.x", "carl_x"]),
        ("*", ["Anna", "anton", "ben", "Bert", "carl-x", "carl.x", "carl_x"]),
        ("AN*", ["Anna", "anton"]),
        ("*n", ["anton", "ben"]),
        ("b?n", ["ben"]),
        ("b???", ["Bert"]),
        ("**e**", ["ben", "Bert"]),
        ("anna", ["Anna"]),
        ("ann", []),
        ("carl_x", ["carl_x"]),
        ("carl.x", ["carl.x"]),
        ("carl?x", ["carl-x", "carl.x", "carl_x"]),
        ("[a-b]*", []),
        ("%", []),
        ("ä*", []),
        ("a'*", []),
        ("\x00", []),
    ],
)
def test_accounts_are_listed_by_pattern_in_order(
    node: Node, names: list[str], pattern: str, expected: list[str]
) -> None:
    assert [account.name for account in accounts.matching(node.reader, pattern, "", 100)] == expected


def test_accounts_are_listed_page_by_page(node: Node, names: list[str]) -> None:
    found: list[str] = []
    while page := accounts.matching(node.reader, "*", found[-1] if found else "", 2):
        assert len(page) <= 2
        found.extend(account.name for account in page)
    assert found == sorted(names, key=str.lower)


def test_deleted_accounts_are_not_listed(node: Node, people: dict[str, int]) -> None:
    node.one(delete_account(node.token))
    assert [account.name for account in accounts.matching(node.reader, "", "", 10)] == ["ada", "bob"]


def test_hostile_pattern_costs_no_more_than_a_plain_one(node: Node) -> None:
    for number in range(100):
        node.one(register("a" * 60 + f"{number:02}"))
    started = time.process_time()
    assert accounts.matching(node.reader, "*a" * 500 + "*b", "", 10) == ()
    assert accounts.matching(node.reader, "*" * 5000 + "b", "", 10) == ()
    assert time.process_time() - started < 2


# ---- the queue


def test_queue_holds_all_conversations_in_order_without_the_devices_own_sends(
    node: Node, people: dict[str, int]
) -> None:
    node.send(people["ada"], (1, "bob", "1"))
    node.send(people["cid"], (1, "bob", "2"), (2, "ada", "not for bob"))
    node.send(people["bob"], (1, "ada", "own"))
    node.send(people["ada"], (2, "bob", "3"))
    found = queued(node.reader, BOB, 0, 10, exclude_device_id=BOBS_DEVICE)
    with_ada, with_cid = (conversations.direct_with(node.reader, BOB, other) for other in (ADA, CID))
    assert [(message.body, message.conversation_id, message.sender_id) for message in found] == [
        ("1", with_ada, ADA),
        ("2", with_cid, CID),
        ("3", with_ada, ADA),
    ]
    assert [message.id for message in found] == sorted(message.id for message in found)


def test_queue_has_what_another_device_of_the_account_sent(node: Node, people: dict[str, int]) -> None:
    node.send(people["bob"], (1, "ada", "from my phone"))
    other = node.login(BOB, 50)
    assert other
    (message,) = queued(node.reader, BOB, 0, 10, exclude_device_id=external(50))
    assert (message.body, message.sender_id) == ("from my phone", BOB)
    assert message.conversation_id == conversations.direct_with(node.reader, BOB, ADA)


def test_queue_is_read_page_by_page_without_loss_or_repeat(node: Node, people: dict[str, int]) -> None:
    for turn in range(1, 41):
        node.send(people["ada"], (turn, "bob", f"a{turn}"))
        node.send(people["cid"], *[(2 * turn - back, "bob", f"c{turn}{back}") for back in (1, 0)])
    everything = queued(node.reader, BOB, 0, 1000, BOBS_DEVICE)
    assert len(everything) == 120
    found: list[MessageRecord] = []
    while page := queued(node.reader, BOB, found[-1].id if found else 0, 7, BOBS_DEVICE):
        found.extend(page)
    assert found == everything


def test_queue_ends_only_where_there_is_no_more_however_many_own_sends_lie_between(
    node: Node, people: dict[str, int]
) -> None:
    node.send(people["bob"], *[(number, "ada", "own") for number in range(1, 501)])
    node.send(people["ada"], (1, "bob", "at last"))
    assert [message.body for message in queued(node.reader, BOB, 0, 2, BOBS_DEVICE)] == ["at last"]


@pytest.mark.parametrize("limit", [1, 10])
def test_page_of_the_queue_is_bounded_in_own_sends_passed_over_and_not_by_its_limit(
    node: Node, people: dict[str, int], limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "SCANNED", 100)
    node.send(people["bob"], *[(number, "ada", "own") for number in range(1, 501)])
    (result,) = node.send(people["ada"], (1, "bob", "at last"))
    pages = [waiting.queued_page(node.reader, BOB, 0, limit, BOBS_DEVICE)]
    while pages[-1].more:
        pages.append(waiting.queued_page(node.reader, BOB, pages[-1].up_to, limit, BOBS_DEVICE))
    assert [message.id for page in pages for message in page.messages] == [result.message_id]
    assert 5 < len(pages) < 8


@pytest.mark.parametrize("letter", ["x", "é", "😀"])
def test_page_of_the_queue_is_bounded_in_encoded_bytes(node: Node, people: dict[str, int], letter: str) -> None:
    body = letter * (400 // len(letter.encode()))
    node.send(people["ada"], *[(number, "bob", body) for number in range(1, 11)])
    page = waiting.queued_page(node.reader, BOB, 0, 100, BOBS_DEVICE, max_bytes=1500)
    assert len(page.messages) == 3
    assert page.more
    assert sum(len(encode_message(message).entry) for message in page.messages) <= 1500
    assert [m.id for m in waiting.queued_page(node.reader, BOB, page.up_to, 1, BOBS_DEVICE).messages] == [4]
    assert len(queued(node.reader, BOB, 0, 100, BOBS_DEVICE)) == 10


def test_page_has_one_message_even_if_that_is_larger_than_the_bound(node: Node, people: dict[str, int]) -> None:
    node.send(people["ada"], (1, "bob", "x" * 400), (2, "bob", "y" * 400))
    pages = [waiting.queued_page(node.reader, BOB, 0, 100, BOBS_DEVICE, max_bytes=10)]
    while pages[-1].more:
        pages.append(waiting.queued_page(node.reader, BOB, pages[-1].up_to, 100, BOBS_DEVICE, max_bytes=10))
    assert [len(page.messages) for page in pages] == [1, 1]


def test_history_page_is_bounded_in_encoded_bytes_and_every_message_is_on_one(
    node: Node, people: dict[str, int]
) -> None:
    node.send(people["ada"], *[(number, "bob", "😀" * 100) for number in range(1, 11)])
    conversation = direct_with(node.reader, ADA, BOB)
    found: list[int] = []
    while page := read_back(node.reader, BOB, conversation or 0, found[0] if found else 0, 1000, 1500):
        assert sum(len(encode_message(message).entry) for message in page) <= 1500
        assert bool(read_back(node.reader, BOB, conversation or 0, page[0].id, 1)) == (page[0].id > 1)
        found = [message.id for message in page] + found
    assert found == list(range(1, 11))


def test_last_page_of_the_queue_reaches_to_the_newest_message_of_all(node: Node, people: dict[str, int]) -> None:
    node.send(people["ada"], (1, "bob", "x"), (2, "cid", "y"))
    page = waiting.queued_page(node.reader, BOB, 0, 10, BOBS_DEVICE)
    assert not page.more
    assert page.up_to == message_count(node.reader), "ids and messages are counted alike"
    assert waiting.queued_page(node.reader, BOB, page.up_to, 10, BOBS_DEVICE) == QueuedPage((), page.up_to, more=False)


def test_queue_of_one_who_knows_nobody_is_empty(node: Node, people: dict[str, int]) -> None:
    assert queued(node.reader, BOB, 0, 10, BOBS_DEVICE) == []
    assert queued(node.reader, 999, 0, 10, external(999)) == []


# ---- conversations


def seen(node: Node, account_id: int, before: int = 0, limit: int = 10) -> list[tuple[int, str, int, int]]:
    """A page of conversations: the other member, the last message's text, unread count and read mark."""
    found = []
    for summary in conversations.page(node.reader, account_id, before, limit):
        conversation = summary.conversation
        (other,) = [member.account_id for member in conversation.members if member.account_id != account_id]
        last = messages.by_id(node.reader, conversation.id, conversation.last_message_id)
        assert last is not None
        found.append((other, last.body, summary.unread, summary.read_up_to))
    return found


def test_conversations_come_latest_first_with_last_message_and_unread_count(node: Node, people: dict[str, int]) -> None:
    first, second = node.send(people["ada"], (1, "bob", "one"), (2, "bob", "two"))
    node.send(people["bob"], (1, "ada", "reply"))
    (third,) = node.send(people["cid"], (1, "bob", "hi"))
    node.one(mark_read(people["bob"], first.conversation_id, first.message_id))
    latest, older = seen(node, BOB)
    assert latest == (CID, "hi", 1, 0)
    assert older == (ADA, "reply", 1, first.message_id)
    assert seen(node, BOB, before=third.message_id) == [older]
    assert seen(node, ADA) == [(BOB, "reply", 1, 0)]
    assert second.message_id > first.message_id


def test_conversation_shows_its_members_and_how_far_each_has_come(node: Node, people: dict[str, int]) -> None:
    first, second = node.send(people["ada"], (1, "bob", "one"), (2, "bob", "two"))
    node.one(mark_delivered(people["bob"], second.message_id))
    node.one(mark_read(people["bob"], first.conversation_id, first.message_id))
    found = conversations.by_id(node.reader, first.conversation_id)
    assert found is not None
    assert (found.kind, found.title, found.member_count, found.last_message_id) == (
        conversations.DIRECT,
        "",
        2,
        second.message_id,
    )
    assert found.members == (
        MemberRecord(ADA, memberships.ROLE_MEMBER, 0, 0),
        MemberRecord(BOB, memberships.ROLE_MEMBER, second.message_id, first.message_id),
    )


def test_conversations_are_paged(node: Node, people: dict[str, int]) -> None:
    friends = [node.register(f"friend{place}") for place in range(5)]
    for place in range(5):
        node.send(people["ada"], (place + 1, f"friend{place}", "hi"))
    others: list[int] = []
    before = 0
    while page := list(conversations.page(node.reader, ADA, before, 2)):
        others.extend(member.account_id for one in page for member in one.conversation.members[1:])
        before = page[-1].conversation.last_message_id
    assert others == list(reversed(friends))


def test_a_conversation_that_the_caller_does_not_take_is_not_read(
    node: Node, people: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in range(5):
        node.register(f"friend{place}")
        node.send(people["ada"], (place + 1, f"friend{place}", "hi"))
    read: list[int] = []
    by_id = conversations.by_id

    def counted(reader: StateReader, conversation_id: int) -> conversations.ConversationRecord | None:
        read.append(conversation_id)
        return by_id(reader, conversation_id)

    monkeypatch.setattr(conversations, "by_id", counted)
    page = conversations.page(node.reader, ADA, 0, 5)
    newest = next(page).conversation.id
    assert read == [newest]


def test_conversation_is_found_by_the_name_of_the_other_party(node: Node, people: dict[str, int]) -> None:
    (result,) = node.send(people["ada"], (1, "bob", "x"))
    assert conversations.direct_with_name(node.reader, ADA, "BOB") == result.conversation_id
    assert conversations.direct_with_name(node.reader, BOB, "ada") == result.conversation_id
    assert conversations.direct_with_name(node.reader, CID, "ada") is None
    assert conversations.direct_with_name(node.reader, ADA, "nobody") is None


def test_conversation_with_a_deleted_account_is_found_until_the_name_is_taken_again(
    node: Node, people: dict[str, int]
) -> None:
    (result,) = node.send(people["cid"], (1, "ada", "x"))
    node.one(delete_account(node.token))
    assert conversations.direct_with_name(node.reader, ADA, "cid") == result.conversation_id
    node.one(register("cid"))
    assert conversations.direct_with_name(node.reader, ADA, "cid") is None
    assert memberships.is_member(node.reader, result.conversation_id, ADA)


def test_history_is_paged_backwards_and_each_page_is_oldest_first(node: Node, people: dict[str, int]) -> None:
    (first, *_) = node.send(people["ada"], *[(number, "bob", str(number)) for number in range(1, 8)])
    conversation = first.conversation_id
    bodies: list[list[str]] = []
    before = 0
    while page := read_back(node.reader, BOB, conversation, before, 3):
        bodies.append([message.body for message in page])
        before = page[0].id
        assert all(message.sender_id == ADA for message in page)
    assert bodies == [["5", "6", "7"], ["2", "3", "4"], ["1"]]


@pytest.mark.parametrize("conversation", [0, 1, 5, 2**63, 2**64 - 1])
def test_history_of_others_is_empty(node: Node, people: dict[str, int], conversation: int) -> None:
    node.send(people["ada"], (1, "bob", "secret"))
    assert read_back(node.reader, CID, conversation, 0, 10) == ()
    assert not memberships.is_member(node.reader, conversation, CID)


def test_marks_of_peers_are_those_of_the_others_in_ones_own_conversations(node: Node, people: dict[str, int]) -> None:
    one, two = node.send(people["ada"], (1, "bob", "x"), (2, "cid", "y"))
    node.send(people["bob"], (1, "cid", "not ada's"))
    node.one(mark_delivered(people["cid"], two.message_id))
    found = {mark.account_id: mark for mark in receipts.of_others(node.reader, ADA, 10)}
    assert set(found) == {BOB, CID}
    assert found[CID].delivered_up_to == two.message_id
    assert found[BOB].delivered_up_to == 0
    assert [mark.account_id for mark in receipts.of_others(node.reader, ADA, 1)] == [CID]
    assert one.conversation_id != two.conversation_id


def test_marks_above_what_is_applied_are_not_looked_up_and_others_in_one_statement(
    node: Node, people: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = node.send(people["ada"], (1, "bob", "one"), (2, "bob", "two"))
    (foreign,) = node.send(people["ada"], (3, "cid", "three"))
    conversation, newest = first.conversation_id, foreign.message_id
    looked_up: list[object] = []
    rows = StateReader.rows

    def counted(reader: StateReader, query: str, bindings: tuple[int | str | bytes, ...] = ()) -> list[tuple[Any, ...]]:
        looked_up.extend([json.loads(str(bindings[0]))] if bindings else [])
        return rows(reader, query, bindings)

    monkeypatch.setattr(StateReader, "rows", counted)
    marks = {conversation: newest, foreign.conversation_id: 1, 0: 1, 999: 1}
    known = {conversation: receipts.ReadState(second.message_id, 0)}
    assert receipts.read_states(node.reader, BOB, marks) == receipts.MarkedStates(known, frozenset({999}))
    assert looked_up == [[conversation, foreign.conversation_id, 0]]
    looked_up.clear()
    beyond = receipts.MarkedStates({}, frozenset({conversation, MAX_ID}))
    assert receipts.read_states(node.reader, BOB, {conversation: newest + 1, MAX_ID: 1}) == beyond
    assert looked_up == [[]]


def test_the_marks_that_a_device_missed_cost_what_it_is_told(
    node: Node, people: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    friends = [node.register(f"friend{place}") for place in range(20)]
    for number in range(5):
        node.channel(people["ada"], "Ward", *friends, request_id=bytes([number]) * 16)
    returned: list[int] = []
    rows = StateReader.rows

    def counted(reader: StateReader, query: str, bindings: tuple[int | str | bytes, ...] = ()) -> list[tuple[Any, ...]]:
        found = rows(reader, query, bindings)
        returned.append(len(found))
        return found

    monkeypatch.setattr(StateReader, "rows", counted)
    assert len(receipts.of_others(node.reader, ADA, 30)) == 30
    assert returned == [1, 5, 20, 10]


# ---- beside the writer


def test_reader_sees_new_commits_and_holds_no_transaction_between_calls(node: Node, people: dict[str, int]) -> None:
    reader = node.reader
    before = reader.applied_index()
    (result,) = node.send(people["ada"], (1, "bob", "x"))
    assert reader.applied_index() == before + 1
    for call in (
        lambda: members.current(reader),
        reader.summary,
        lambda: queued(reader, BOB, 0, 10, BOBS_DEVICE),
        lambda: list(conversations.page(reader, BOB, 0, 10)),
        lambda: read_back(reader, BOB, result.conversation_id, 0, 10),
        lambda: accounts.matching(reader, "*", "", 1),
    ):
        call()
        assert reader._connection.txn_state() == apsw.SQLITE_TXN_NONE


def test_failed_query_leaves_no_transaction_open(
    node: Node, people: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    node.send(people["ada"], (1, "bob", "x"))

    def broken(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(waiting, "record", broken)
    monkeypatch.setattr(history, "record", broken)
    for call in (
        lambda: queued(node.reader, BOB, 0, 10, BOBS_DEVICE),
        lambda: read_back(node.reader, BOB, 1, 0, 10),
    ):
        with pytest.raises(KeyError):
            call()
        assert node.reader._connection.txn_state() == apsw.SQLITE_TXN_NONE


def test_reader_cannot_write(node: Node) -> None:
    with pytest.raises(apsw.ReadOnlyError):
        node.reader._connection.execute("DELETE FROM meta")


def test_write_ahead_log_is_reused_although_readers_stay_open(node: Node, people: dict[str, int]) -> None:
    wal = node.path.with_name(node.path.name + "-wal")
    number = 0
    sizes = []
    for _ in range(40):
        node.send(people["ada"], *[((number := number + 1), "bob", "x" * 2000) for _ in range(200)])
        queued(node.reader, BOB, 0, 10, BOBS_DEVICE)
        sizes.append(wal.stat().st_size)
    assert max(sizes) < 24 << 20
    assert node.path.stat().st_size > 10 << 20


def test_sessions_of_closed_and_deleted_are_told_apart(node: Node, people: dict[str, int]) -> None:
    token = node.token
    node.one(close_session(token))
    session = sessions.with_account(node.reader, digest(token))
    assert session is not None
    assert (session.closed, session.account_active) == (True, True)


def test_reader_may_be_closed_twice(node: Node) -> None:
    reader = StateReader.open(node.path)
    reader.close()
    reader.close()
