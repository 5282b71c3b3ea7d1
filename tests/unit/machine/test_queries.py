"""Reading the applied state: right, bounded, one consistent moment per call, and never in the writer's way."""

from __future__ import annotations

import time

import apsw
import pytest

from parleyd.machine import queries
from parleyd.machine.machine import MessageRecord
from parleyd.machine.queries import StateReader
from tests.unit.machine.harness import (
    Node,
    close_session,
    delete_account,
    mark_delivered,
    mark_read,
    message_count,
    queued,
    register,
)

ADA, BOB, CID = 1, 2, 3


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
    assert [account.name for account in node.reader.list_accounts(pattern, "", 100)] == expected


def test_accounts_are_listed_page_by_page(node: Node, names: list[str]) -> None:
    found: list[str] = []
    while page := node.reader.list_accounts("*", found[-1] if found else "", 2):
        assert len(page) <= 2
        found.extend(account.name for account in page)
    assert found == sorted(names, key=str.lower)


def test_deleted_accounts_are_not_listed(node: Node, people: dict[str, int]) -> None:
    node.one(delete_account(node.token))
    assert [account.name for account in node.reader.list_accounts("", "", 10)] == ["ada", "bob"]


def test_hostile_pattern_costs_no_more_than_a_plain_one(node: Node) -> None:
    for number in range(100):
        node.one(register("a" * 60 + f"{number:02}"))
    started = time.process_time()
    assert node.reader.list_accounts("*a" * 500 + "*b", "", 10) == ()
    assert node.reader.list_accounts("*" * 5000 + "b", "", 10) == ()
    assert time.process_time() - started < 2


# ---- the queue


def test_queue_holds_all_conversations_in_order_without_the_devices_own_sends(
    node: Node, people: dict[str, int]
) -> None:
    node.send(people["ada"], (1, "bob", "1"))
    node.send(people["cid"], (1, "bob", "2"), (2, "ada", "not for bob"))
    node.send(people["bob"], (1, "ada", "own"))
    node.send(people["ada"], (2, "bob", "3"))
    found = queued(node.reader, BOB, 0, 10, exclude_device_id=2)
    assert [(message.body, message.peer, message.sender) for message in found] == [
        ("1", "ada", "ada"),
        ("2", "cid", "cid"),
        ("3", "ada", "ada"),
    ]
    assert [message.id for message in found] == sorted(message.id for message in found)


def test_queue_has_what_another_device_of_the_account_sent(node: Node, people: dict[str, int]) -> None:
    node.send(people["bob"], (1, "ada", "from my phone"))
    other = node.login(BOB, 50)
    assert other
    (message,) = queued(node.reader, BOB, 0, 10, exclude_device_id=4)
    assert (message.body, message.sender, message.peer) == ("from my phone", "bob", "ada")


def test_queue_is_read_page_by_page_without_loss_or_repeat(node: Node, people: dict[str, int]) -> None:
    for turn in range(1, 41):
        node.send(people["ada"], (turn, "bob", f"a{turn}"))
        node.send(people["cid"], *[(2 * turn - back, "bob", f"c{turn}{back}") for back in (1, 0)])
    everything = queued(node.reader, BOB, 0, 1000, 2)
    assert len(everything) == 120
    found: list[MessageRecord] = []
    while page := queued(node.reader, BOB, found[-1].id if found else 0, 7, 2):
        found.extend(page)
    assert found == everything


def test_queue_ends_only_where_there_is_no_more_however_many_own_sends_lie_between(
    node: Node, people: dict[str, int]
) -> None:
    node.send(people["bob"], *[(number, "ada", "own") for number in range(1, 501)])
    node.send(people["ada"], (1, "bob", "at last"))
    assert [message.body for message in queued(node.reader, BOB, 0, 2, 2)] == ["at last"]


def test_page_of_the_queue_is_bounded_in_own_sends_passed_over(node: Node, people: dict[str, int]) -> None:
    node.send(people["bob"], *[(number, "ada", "own") for number in range(1, 501)])
    (result,) = node.send(people["ada"], (1, "bob", "at last"))
    pages = [node.reader.queued_page(BOB, 0, 10, 2)]
    while pages[-1].more:
        pages.append(node.reader.queued_page(BOB, pages[-1].up_to, 10, 2))
    assert [message.id for page in pages for message in page.messages] == [result.message_id]
    assert 2 < len(pages) < 10


def test_page_of_the_queue_is_bounded_in_bytes(
    node: Node, people: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "QUEUED_PAGE_BYTES", 1000)
    node.send(people["ada"], *[(number, "bob", "x" * 400) for number in range(1, 11)])
    page = node.reader.queued_page(BOB, 0, 100, 2)
    assert len(page.messages) == 3
    assert page.more
    assert len(queued(node.reader, BOB, 0, 100, 2)) == 10


def test_last_page_of_the_queue_reaches_to_the_newest_message_of_all(node: Node, people: dict[str, int]) -> None:
    node.send(people["ada"], (1, "bob", "x"), (2, "cid", "y"))
    page = node.reader.queued_page(BOB, 0, 10, 2)
    assert not page.more
    assert page.up_to == message_count(node.reader), "ids and messages are counted alike"
    assert node.reader.queued_page(BOB, page.up_to, 10, 2) == queries.QueuedPage((), page.up_to, more=False)


def test_queue_of_one_who_knows_nobody_is_empty(node: Node, people: dict[str, int]) -> None:
    assert queued(node.reader, BOB, 0, 10, 2) == []
    assert queued(node.reader, 999, 0, 10, 999) == []


# ---- conversations


def test_conversations_come_latest_first_with_last_message_and_unread_count(node: Node, people: dict[str, int]) -> None:
    first, second = node.send(people["ada"], (1, "bob", "one"), (2, "bob", "two"))
    node.send(people["bob"], (1, "ada", "reply"))
    (third,) = node.send(people["cid"], (1, "bob", "hi"))
    node.one(mark_read(people["bob"], first.conversation_id, first.message_id))
    latest, older = node.reader.conversations(BOB, 0, 10)
    assert (latest.peer, latest.last_message.body, latest.unread) == ("cid", "hi", 1)
    assert (older.peer, older.last_message.body, older.unread) == ("ada", "reply", 1)
    assert (older.read_up_to, older.last_message.peer) == (first.message_id, "ada")
    assert node.reader.conversations(BOB, third.message_id, 10) == (older,)
    (seen_by_ada,) = node.reader.conversations(ADA, 0, 10)
    assert (seen_by_ada.peer_read_up_to, seen_by_ada.peer_delivered_up_to) == (first.message_id, first.message_id)
    assert (seen_by_ada.peer, seen_by_ada.unread) == ("bob", 1)
    assert second.message_id > first.message_id


def test_conversations_are_paged(node: Node, people: dict[str, int]) -> None:
    for place in range(5):
        node.one(register(f"friend{place}"))
        node.send(people["ada"], (place + 1, f"friend{place}", "hi"))
    peers: list[str] = []
    before = 0
    while page := node.reader.conversations(ADA, before, 2):
        peers.extend(record.peer for record in page)
        before = page[-1].last_message.id
    assert peers == [f"friend{place}" for place in (4, 3, 2, 1, 0)]


def test_unread_count_is_exact_up_to_its_bound(
    node: Node, people: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    node.send(people["ada"], *[(number, "bob", "x") for number in range(1, 31)])
    assert node.reader.conversations(BOB, 0, 1)[0].unread == 30
    monkeypatch.setattr(queries, "UNREAD_SCAN_LIMIT", 20)
    assert node.reader.conversations(BOB, 0, 1)[0].unread == 20


def test_conversation_is_found_by_the_name_of_the_other_party(node: Node, people: dict[str, int]) -> None:
    (result,) = node.send(people["ada"], (1, "bob", "x"))
    assert node.reader.conversation_with(ADA, "BOB") == result.conversation_id
    assert node.reader.conversation_with(BOB, "ada") == result.conversation_id
    assert node.reader.conversation_with(CID, "ada") is None
    assert node.reader.conversation_with(ADA, "nobody") is None


def test_conversation_with_a_deleted_account_is_found_until_the_name_is_taken_again(
    node: Node, people: dict[str, int]
) -> None:
    (result,) = node.send(people["cid"], (1, "ada", "x"))
    node.one(delete_account(node.token))
    assert node.reader.conversation_with(ADA, "cid") == result.conversation_id
    node.one(register("cid"))
    assert node.reader.conversation_with(ADA, "cid") is None
    assert node.reader.is_member(result.conversation_id, ADA)


def test_history_is_paged_backwards_and_each_page_is_oldest_first(node: Node, people: dict[str, int]) -> None:
    (first, *_) = node.send(people["ada"], *[(number, "bob", str(number)) for number in range(1, 8)])
    conversation = first.conversation_id
    bodies: list[list[str]] = []
    before = 0
    while page := node.reader.history(BOB, conversation, before, 3):
        bodies.append([message.body for message in page])
        before = page[0].id
        assert all(message.peer == "ada" for message in page)
    assert bodies == [["5", "6", "7"], ["2", "3", "4"], ["1"]]


@pytest.mark.parametrize("conversation", [0, 1, 5, 2**63, 2**64 - 1])
def test_history_of_others_is_empty(node: Node, people: dict[str, int], conversation: int) -> None:
    node.send(people["ada"], (1, "bob", "secret"))
    assert node.reader.history(CID, conversation, 0, 10) == ()
    assert not node.reader.is_member(conversation, CID)


def test_marks_of_peers_are_those_of_the_others_in_ones_own_conversations(node: Node, people: dict[str, int]) -> None:
    one, two = node.send(people["ada"], (1, "bob", "x"), (2, "cid", "y"))
    node.send(people["bob"], (1, "cid", "not ada's"))
    node.one(mark_delivered(people["cid"], two.message_id))
    marks = {mark.account_id: mark for mark in node.reader.peer_marks(ADA, 10)}
    assert set(marks) == {BOB, CID}
    assert marks[CID].delivered_up_to == two.message_id
    assert marks[BOB].delivered_up_to == 0
    assert [mark.account_id for mark in node.reader.peer_marks(ADA, 1)] == [CID]
    assert one.conversation_id != two.conversation_id


# ---- beside the writer


def test_reader_sees_new_commits_and_holds_no_transaction_between_calls(node: Node, people: dict[str, int]) -> None:
    reader = node.reader
    before = reader.applied_index()
    (result,) = node.send(people["ada"], (1, "bob", "x"))
    assert reader.applied_index() == before + 1
    for call in (
        reader.members,
        reader.summary,
        lambda: queued(reader, BOB, 0, 10, 2),
        lambda: reader.conversations(BOB, 0, 10),
        lambda: reader.history(BOB, result.conversation_id, 0, 10),
        lambda: reader.list_accounts("*", "", 1),
    ):
        call()
        assert reader._connection.txn_state() == apsw.SQLITE_TXN_NONE


def test_failed_query_leaves_no_transaction_open(
    node: Node, people: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    node.send(people["ada"], (1, "bob", "x"))

    def broken(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(queries, "_message", broken)
    for call in (lambda: queued(node.reader, BOB, 0, 10, 2), lambda: node.reader.conversations(BOB, 0, 10)):
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
        queued(node.reader, BOB, 0, 10, 2)
        sizes.append(wal.stat().st_size)
    assert max(sizes) < 24 << 20
    assert node.path.stat().st_size > 10 << 20


def test_sessions_of_closed_and_deleted_are_told_apart(node: Node, people: dict[str, int]) -> None:
    from tests.unit.machine.harness import digest

    token = node.token
    node.one(close_session(token))
    session = node.reader.session_by_digest(digest(token))
    assert session is not None
    assert (session.closed, session.account_active) == (True, True)


def test_reader_may_be_closed_twice(node: Node) -> None:
    reader = StateReader.open(node.path)
    reader.close()
    reader.close()
