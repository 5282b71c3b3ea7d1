"""Outbox, inbox, identity and profile as files: what survives, what is refused, who holds which lock."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from parley.device import directory, drafts, identity, inbox, outbox, schema
from parley.device.profile import FileLock, Hosts, StateDirectory
from parley.errors import BadInputError, OutboxFullError, StoreError, TooLateError
from parley.model import NEWEST, HistoryStart, Message, MessageKind, MessageStatus, Receipt, Target
from parley.wire import convert
from parley.wire.endpoints import parse_endpoints
from parley.wire.position import Position
from parley_proto.v1 import model_pb2
from tests.unit.client.records import BOB, OWN_ID, accepted, account, channel, direct, message, refused


@pytest.fixture
def file(tmp_path: Path) -> apsw.Connection:
    return schema.open_database(tmp_path / "client.sqlite")


def store(file: apsw.Connection, *messages: Message, after: bytes = b"") -> int:
    """Store a batch on top of what is there; the cursor is made up."""
    before = inbox.load_cursor(file)
    return inbox.insert(file, messages, before=before, after=after or before + b".")


def stored(file: apsw.Connection, *, own: bool = False) -> list[tuple[int, int]]:
    """Return (conversation, id) of the inbox in the order of arrival."""
    return [(m.conversation_id, m.id) for _, m in inbox.after(file, 0, 10_000, own=own)]


# ---- outbox


def test_numbers_are_given_in_the_order_of_typing_and_without_holes(file: apsw.Connection) -> None:
    a, b, c, d = outbox.add(file, [(BOB, x) for x in "abcd"], 1)
    outbox.cancel(file, b.local_id)
    outbox.edit(file, c.local_id, "C")
    assert [(m.number, m.body) for m in outbox.claim(file, 2)] == [(1, "a"), (2, "C")]
    assert [(m.number, m.body) for m in outbox.claim(file, 10)] == [(3, "d")]
    assert outbox.claim(file, 10) == []
    assert [m.local_id for m in outbox.unanswered(file)] == [a.local_id, c.local_id, d.local_id]


def test_what_was_handed_over_can_neither_be_changed_nor_withdrawn(file: apsw.Connection) -> None:
    (sent,) = outbox.add(file, [(BOB, "a")], 1)
    outbox.claim(file, 1)
    with pytest.raises(TooLateError, match="already sent to the cluster"):
        outbox.edit(file, sent.local_id, "b")
    with pytest.raises(TooLateError, match="already sent to the cluster"):
        outbox.cancel(file, sent.local_id)
    with pytest.raises(BadInputError, match="no such message"):
        outbox.edit(file, 999, "b")


def test_a_result_is_written_once_and_a_second_one_changes_nothing(file: apsw.Connection) -> None:
    (sent,) = outbox.add(file, [(BOB, "a")], 1)
    outbox.claim(file, 1)
    outbox.settle(file, [accepted(1, 11, 7, 99)])
    outbox.settle(file, [refused(1, "late"), accepted(5, 12)])
    view = outbox.get(file, sent.local_id)
    assert view is not None
    assert (view.status, view.message_id, view.conversation_id, view.sent_at_ms) == (MessageStatus.ACCEPTED, 11, 7, 99)


def test_a_restored_old_file_skips_the_numbers_the_cluster_has_applied(file: apsw.Connection) -> None:
    outbox.add(file, [(BOB, "a")], 1)
    assert outbox.begin_session(file, 41) == []
    assert [m.number for m in outbox.claim(file, 1)] == [42]
    assert [m.number for m in outbox.begin_session(file, 41)] == [42], "an unanswered one keeps its number"


@pytest.mark.parametrize("target", [BOB, Target(account_id=5), Target(conversation_id=9)])
def test_the_target_stays_as_it_was_given(file: apsw.Connection, target: Target) -> None:
    (sent,) = outbox.add(file, [(target, "a")], 1)
    outbox.edit(file, sent.local_id, "b")
    directory.learn(file, [account(5, "bob")], [direct(9, other=5)])
    assert [(m.target, m.body) for m in outbox.claim(file, 1)] == [(target, "b")]
    assert [m.target for m in outbox.begin_session(file, 0)] == [target], "sent again"
    outbox.settle(file, [refused(1)])
    again = outbox.retry(file, sent.local_id, 2)
    assert (again.target, again.status) == (target, MessageStatus.WAITING)


def test_own_messages_of_a_conversation_are_found_however_they_named_it(file: apsw.Connection) -> None:
    identity.signed_in(file, identity.load(file).device_id, "t", OWN_ID, Position())
    by_name, by_id, by_conversation = Target(account="Bob"), Target(account_id=2), Target(conversation_id=7)
    outbox.add(file, [(by_name, "a"), (by_id, "b"), (by_conversation, "c"), (Target(account="cleo"), "d")], 1)
    directory.learn(file, [account(2, "bob")], [direct()])
    for target in (by_name, by_id, by_conversation):
        assert [m.body for m in outbox.listing(file, 10, target=target)] == ["a", "b", "c"]


def test_a_full_outbox_takes_nothing_and_keeps_what_it_has(
    file: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MAX_OPEN", 3)
    outbox.add(file, [(BOB, x) for x in "ab"], 1)
    with pytest.raises(OutboxFullError, match="are kept"):
        outbox.add(file, [(BOB, x) for x in "cd"], 1)
    outbox.add(file, [(BOB, "c")], 1)
    outbox.claim(file, 3)
    outbox.settle(file, [accepted(1, 1)])
    outbox.add(file, [(BOB, "d")], 1)
    assert outbox.count_open(file) == 3


def test_only_settled_messages_are_forgotten(file: apsw.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "KEEP_SETTLED", 2)
    outbox.add(file, [(BOB, str(i)) for i in range(6)], 1)
    outbox.claim(file, 4)
    outbox.settle(file, [accepted(i, i) for i in (1, 2, 4)])
    outbox.prune(file)
    assert [m.body for m in outbox.listing(file, 100)] == ["2", "4", "5"]


def test_changes_are_found_by_revision_whoever_made_them(file: apsw.Connection) -> None:
    first, second = outbox.add(file, [(BOB, "a"), (BOB, "b")], 1)
    changed, revision = outbox.changed_since(file, 0, 1)
    assert [m.local_id for m in changed] == [first.local_id, second.local_id], "a revision is told whole"
    outbox.edit(file, second.local_id, "B")
    changed, latest = outbox.changed_since(file, revision, 100)
    assert [m.body for m in changed] == ["B"]
    assert outbox.changed_since(file, latest, 100) == ([], latest)


@pytest.mark.parametrize("body", ["a\x00b", "😀", '"quoted" \\ back', "\u2028", "x" * 65536])
def test_bodies_come_back_as_they_were(file: apsw.Connection, body: str) -> None:
    outbox.add(file, [(BOB, body)], 1)
    assert [m.body for m in outbox.claim(file, 1)] == [body]
    store(file, message(1, body))
    assert [m.body for _, m in inbox.after(file, 0, 10, own=False)] == [body]


_WRITER = """
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from parley.device import outbox
from parley.device import schema
from parley.model import Target
from tests.unit.client.records import accepted
file = schema.open_database(Path(sys.argv[1]))
def step(operation):
    file.execute("BEGIN IMMEDIATE")
    operation()
    file.execute("COMMIT")
    print(".", flush=True)
n = 0
while True:
    n += 1
    step(lambda: outbox.add(file, [(Target(account="bob"), str(n))], 1))
    step(lambda: outbox.claim(file, 1))
    step(lambda: outbox.settle(file, [accepted(n - 1, n - 1)]))
"""


@pytest.mark.parametrize("commits", [1, 2, 3, 4, 5, 6, 7])
def test_a_process_killed_after_any_commit_leaves_a_file_that_goes_on(tmp_path: Path, commits: int) -> None:
    path = tmp_path / "client.sqlite"
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(("client", "proto", "."))},
    )
    try:
        assert writer.stdout is not None
        for _ in range(commits):
            assert writer.stdout.readline() == b".\n"
    finally:
        writer.kill()
        writer.communicate()
    file = schema.open_database(path)
    listed = outbox.listing(file, 10_000)
    assert [m.body for m in listed] == [str(i + 1) for i in range(len(listed))]
    assert len(listed) >= (commits + 2) // 3, "what was committed is there"
    numbers = [m.number for m in listed if m.number]
    assert numbers == list(range(1, len(numbers) + 1))
    assert outbox.next_number(file) == len(numbers) + 1
    resent = outbox.begin_session(file, len(numbers) - 1)
    assert [m.number for m in resent] == [m.number for m in listed if m.status is MessageStatus.SENDING]


# ---- inbox


def test_redelivered_messages_are_dropped_by_conversation_and_id(file: apsw.Connection) -> None:
    assert store(file, message(1), message(3)) == 2
    assert store(file, message(1), message(3), message(4)) == 1
    assert stored(file) == [(7, 1), (7, 3), (7, 4)]


def test_equal_ids_in_two_conversations_are_two_messages(file: apsw.Connection) -> None:
    assert store(file, message(1, conversation_id=7), message(1, conversation_id=8)) == 2
    assert store(file, message(1, conversation_id=8)) == 0
    assert stored(file) == [(7, 1), (8, 1)]


def test_messages_are_read_in_the_order_of_arrival_also_where_ids_go_back(file: apsw.Connection) -> None:
    store(file, message(100, conversation_id=7))
    store(file, message(3, conversation_id=8))
    (first, _), (second, later) = inbox.after(file, 0, 10, own=False)
    assert (first < second, later.id) == (True, 3)
    assert [m.id for _, m in inbox.after(file, first, 10, own=False)] == [3]


def test_the_cursor_and_the_messages_before_it_are_stored_together_or_not_at_all(file: apsw.Connection) -> None:
    store(file, message(1), after=b"one")
    file.execute("BEGIN")
    inbox.insert(file, [message(2)], before=b"one", after=b"two")
    file.execute("ROLLBACK")
    assert (inbox.load_cursor(file), stored(file)) == (b"one", [(7, 1)])
    file.execute("BEGIN")
    inbox.insert(file, [message(2)], before=b"one", after=b"two")
    file.execute("COMMIT")
    assert (inbox.load_cursor(file), stored(file)) == (b"two", [(7, 1), (7, 2)])


def test_a_batch_is_refused_where_the_one_before_it_was_not_stored(file: apsw.Connection) -> None:
    store(file, message(1), after=b"one")
    with pytest.raises(StoreError, match="sends all of them again"):
        inbox.insert(file, [message(3)], before=b"two", after=b"three")
    assert (inbox.load_cursor(file), stored(file)) == (b"one", [(7, 1)])


def test_the_echo_of_an_own_send_moves_the_cursor_only(file: apsw.Connection) -> None:
    outbox.add(file, [(BOB, "mine")], 1)
    outbox.claim(file, 1)
    assert store(file, message(8, "mine", mine=True, number=1), after=b"8") == 0
    assert store(file, message(9, "from a lost file", mine=True, number=2), after=b"9") == 1
    assert inbox.load_cursor(file) == b"9"


def test_large_batches_are_stored_whole_and_in_order(file: apsw.Connection) -> None:
    assert store(file, *map(message, range(1, 1400))) == 1399
    assert stored(file) == [(7, i) for i in range(1, 1400)]


def test_what_is_no_text_comes_back_with_its_kind_and_subjects(file: apsw.Connection) -> None:
    joined = Message(9, 4, MessageKind.MEMBERS_JOINED, 2, "", 5, False, subjects=(3, 4))
    store(file, joined)
    assert [m for _, m in inbox.after(file, 0, 10, own=False)] == [joined]


def test_a_page_of_what_is_known_joins_both_directions(file: apsw.Connection) -> None:
    identity.signed_in(file, identity.load(file).device_id, "t", OWN_ID, Position())
    directory.learn(file, [account(OWN_ID, "anna"), account(2, "bob")], [direct()])
    outbox.add(file, [(Target(account="Bob"), "mine")], 1)
    outbox.claim(file, 1)
    outbox.settle(file, [accepted(1, 2)])
    store(file, message(1, "one"), message(3, "three"), message(3, "elsewhere", conversation_id=8))
    for target in (Target(account="BOB"), Target(account_id=2), Target(conversation_id=7)):
        page = inbox.page(file, target, HistoryStart(), 2)
        assert [(m.body, m.sender_id, m.mine) for m in page.messages] == [("mine", 1, True), ("three", 2, False)]
        assert page.has_older
        assert page.conversation is not None
        assert page.conversation.id == 7
    (conversation,) = inbox.conversations(file, 10)
    assert conversation.last is not None
    assert (conversation.unread, conversation.last.body, conversation.member_count) == (2, "three", 2)
    inbox.set_read(file, 7, 1)
    assert [(c.unread, c.read_up_to) for c in inbox.conversations(file, 10)] == [(1, 1)]


def test_the_latest_conversation_comes_first_whatever_its_ids(file: apsw.Connection) -> None:
    directory.learn(file, [], [direct(7), direct(8, other=3)])
    store(file, message(900, conversation_id=7), replace(message(2, conversation_id=8), sent_at_ms=10_000))
    assert [c.id for c in inbox.conversations(file, 10)] == [8, 7]


def steps(file: apsw.Connection, work: Callable[[], object]) -> int:
    """How much SQLite does for some work, in tens of steps of its machine."""
    counted = [0]

    def count() -> bool:
        counted[0] += 1
        return False

    file.set_progress_handler(count, 10)
    work()
    file.set_progress_handler(None)
    return counted[0]


@pytest.mark.parametrize("start", [HistoryStart(), HistoryStart(before_id=90), HistoryStart(after_id=10)])
def test_a_page_and_the_list_cost_the_same_however_long_the_conversation_is(
    file: apsw.Connection, start: HistoryStart
) -> None:
    directory.learn(file, [], [direct()])
    outbox.add(file, [(BOB, "mine")], 1)
    outbox.claim(file, 1)
    outbox.settle(file, [accepted(1, 50)])
    store(file, *(message(id_) for id_ in range(1, 101) if id_ != 50))
    inbox.set_read(file, 7, 5000)

    def look() -> list[int]:
        inbox.conversations(file, 10)
        return [one.id for one in inbox.page(file, Target(conversation_id=7), start, 20).messages]

    assert len(look()) == 20
    before = steps(file, look)
    store(file, *map(message, range(101, 5001)))
    assert steps(file, look) < 1.2 * before


def sent(file: apsw.Connection, *ids: int) -> None:
    """Store own messages that the cluster accepted under these ids."""
    for id_ in ids:
        outbox.add(file, [(BOB, f"own{id_}")], 1)
        (one,) = outbox.claim(file, 1)
        outbox.settle(file, [accepted(one.number, id_, 7, id_ * 1000)])


def gapless(file: apsw.Connection, start: HistoryStart = NEWEST, limit: int = 100) -> tuple[int, int]:
    """Return the part of a page of conversation 7 in which no message is missing."""
    page = inbox.page(file, Target(conversation_id=7), start, limit)
    return page.gapless_from, page.gapless_below


def at(id_: int) -> Message:
    return replace(message(id_), sent_at_ms=id_ * 1000)


def test_a_page_has_no_gap_up_to_the_newest_received_message(file: apsw.Connection) -> None:
    directory.learn(file, [], [direct()])
    sent(file, 2, 5, 9)
    assert gapless(file) == (0, 0), "others may have written between them"
    store(file, at(1), at(3), at(6))
    assert gapless(file) == (1, 7)
    assert gapless(file, limit=2) == (6, 7)
    assert gapless(file, HistoryStart(before_id=6), limit=2) == (3, 6), "the page ends at what was asked for"
    assert gapless(file, HistoryStart(before_id=9), limit=9) == (1, 7), "7 and 8 may be on their way"
    assert gapless(file, HistoryStart(after_id=1), limit=2) == (2, 4)
    assert gapless(file, HistoryStart(before_id=1)) == (0, 0)


def test_own_messages_older_than_all_received_ones_that_were_kept_may_have_others_between(
    file: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.learn(file, [], [direct()])
    monkeypatch.setattr(inbox, "KEEP_MESSAGES", 2)
    sent(file, 2, 4, 7)
    store(file, at(1), at(3), at(5), at(6))
    inbox.mark_shown(file, inbox.last_place(file))
    inbox.prune(file)
    assert stored(file) == [(7, 5), (7, 6)]
    assert gapless(file) == (5, 7)
    assert gapless(file, HistoryStart(before_id=5)) == (4, 4), "others may have been there before it and after it"


def test_received_messages_may_have_removed_own_ones_between(
    file: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.learn(file, [], [direct()])
    monkeypatch.setattr(outbox, "KEEP_SETTLED", 1)
    sent(file, 2, 4)
    store(file, at(1), at(3), at(5))
    outbox.prune(file)
    assert gapless(file) == (3, 6)
    outbox.prune(file)
    assert gapless(file) == (3, 6)


def test_a_file_that_was_restored_from_a_backup_has_a_gap_where_the_backup_ends(file: apsw.Connection) -> None:
    directory.learn(file, [], [direct()])
    sent(file, 2)
    store(file, at(1), at(3))
    outbox.begin_session(file, 1)
    assert gapless(file) == (1, 4)
    outbox.begin_session(file, 5)  # the device has sent more since
    store(file, at(20), at(21))
    assert gapless(file) == (20, 22)


# ---- accounts, conversations, members


def test_marks_are_kept_for_each_member_and_only_move_forward(file: apsw.Connection) -> None:
    directory.learn(file, [], [channel()])
    directory.set_receipts(file, [Receipt(9, 2, 10, 5), Receipt(9, 3, 4, 0)])
    directory.set_receipts(file, [Receipt(9, 2, 8, 6)])
    directory.learn(file, [], [channel()])
    (conversation,) = directory.conversations(file)
    assert [(m.account_id, m.delivered_up_to, m.read_up_to) for m in conversation.members] == [
        (1, 0, 0),
        (2, 10, 6),
        (3, 4, 0),
    ]


def test_a_member_that_left_is_gone_and_a_new_title_is_known(file: apsw.Connection) -> None:
    directory.learn(file, [], [channel()])
    directory.learn(file, [], [channel(others=(3,), title="operations")])
    (conversation,) = directory.conversations(file)
    assert (conversation.title, [m.account_id for m in conversation.members]) == ("operations", [1, 3])


def test_what_changed_is_found_by_revision(file: apsw.Connection) -> None:
    directory.learn(file, [account(2, "bob")], [direct()])
    since = schema.next_revision(file) - 1
    assert not directory.accounts(file, since)
    assert not directory.conversations(file, since)
    directory.learn(file, [account(3, "cleo")], [channel()])
    directory.set_receipts(file, [Receipt(7, 2, 3, 3)])
    assert [a.name for a in directory.accounts(file, since)] == ["cleo"]
    assert [c.id for c in directory.conversations(file, since)] == [9]
    assert Receipt(7, 2, 3, 3) in directory.receipts(file, since)


def test_a_draft_is_found_by_any_name_of_its_conversation(file: apsw.Connection) -> None:
    identity.signed_in(file, identity.load(file).device_id, "t", OWN_ID, Position())
    drafts.save(file, Target(account="bob"), "half")
    directory.learn(file, [account(2, "bob")], [direct()])
    assert drafts.load(file, Target(conversation_id=7)) == drafts.load(file, Target(account_id=2)) == "half"
    drafts.save(file, Target(conversation_id=7), "more")
    assert drafts.load(file, Target(account="Bob")) == "more"
    drafts.save(file, Target(account_id=2), "")
    assert drafts.load(file, Target(account="bob")) == ""


def test_the_reader_s_mark_only_moves_forward(file: apsw.Connection) -> None:
    inbox.mark_shown(file, 9)
    inbox.mark_shown(file, 4)
    assert inbox.shown_place(file) == 9


def test_pruning_never_passes_what_a_reader_was_handed(file: apsw.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "KEEP_MESSAGES", 3)
    store(file, *(message(i) for i in range(1, 11)))
    inbox.prune(file)
    assert [m.id for _, m in inbox.after(file, 0, 100, own=False)] == list(range(1, 11))
    inbox.mark_shown(file, 5)
    inbox.prune(file)
    assert [m.id for _, m in inbox.after(file, 0, 100, own=False)] == list(range(6, 11))
    inbox.mark_shown(file, 10)
    inbox.prune(file)
    assert [m.id for _, m in inbox.after(file, 0, 100, own=False)] == [8, 9, 10]
    assert inbox.pruned_place(file) == 0


def test_what_nobody_ever_reads_is_bounded_and_the_next_reader_is_told(
    file: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "KEEP_MESSAGES", 3)
    monkeypatch.setattr(inbox, "MAX_UNREAD", 6)
    store(file, *(message(i) for i in range(1, 11)))
    inbox.mark_shown(file, 2)
    inbox.prune(file)
    assert [m.id for _, m in inbox.after(file, 0, 100, own=False)] == list(range(5, 11))
    assert inbox.pruned_place(file) == 4


def test_read_marks_are_told_again_after_a_broken_stream(file: apsw.Connection) -> None:
    inbox.set_read(file, 7, 10)
    assert inbox.unsent_reads(file) == [(7, 10)]
    inbox.reads_sent(file, [(7, 10)])
    assert inbox.unsent_reads(file) == []
    inbox.reads_lost(file, [7])
    assert inbox.unsent_reads(file) == [(7, 10)]


# ---- identity


def test_the_device_id_is_made_once(file: apsw.Connection) -> None:
    assert identity.load(file).device_id == identity.load(file).device_id
    assert len(identity.load(file).device_id) == 16


def test_a_token_is_hidden_from_logs(file: apsw.Connection) -> None:
    who = identity.signed_in(file, identity.load(file).device_id, "secret-token", 5, Position())
    assert "secret" not in repr(who)


def test_an_old_token_is_not_dropped_for_a_newer_one(file: apsw.Connection) -> None:
    device = identity.load(file).device_id
    identity.signed_in(file, device, "new", 5, Position())
    identity.signed_out(file, "old")
    assert identity.load(file).token == "new"


def test_an_account_made_anew_inherits_no_messages(file: apsw.Connection) -> None:
    device = identity.load(file).device_id
    identity.signed_in(file, device, "t", 5, Position())
    outbox.add(file, [(BOB, "in flight"), (BOB, "waiting")], 1)
    outbox.claim(file, 1)
    store(file, message(9))
    identity.signed_in(file, device, "t", 6, Position())
    assert [m.status for m in outbox.listing(file, 10)] == [MessageStatus.UNKNOWN, MessageStatus.WAITING]
    assert (inbox.load_cursor(file), stored(file, own=True)) == (b"", [])


def test_a_device_begun_anew_sends_what_was_called_a_gap_under_new_numbers(file: apsw.Connection) -> None:
    identity.signed_in(file, identity.load(file).device_id, "t", 5, Position())
    outbox.begin_session(file, 41)
    outbox.add(file, [(BOB, "a"), (BOB, "b")], 1)
    outbox.claim(file, 1)
    identity.set_out_of_step(file)
    assert (identity.load(file).token, identity.load(file).out_of_step) == ("", True)
    identity.signed_in(file, b"x" * 16, "t2", 5, Position())
    assert [(m.number, m.body) for m in outbox.claim(file, 5)] == [(1, "a"), (2, "b")]
    assert not identity.load(file).out_of_step


# ---- profiles and locks


def test_a_lock_is_held_by_one_and_freed_when_its_process_dies(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from parley.device.profile import FileLock;"
            "lock = FileLock(Path(sys.argv[1])); print(lock.try_acquire(), flush=True); sys.stdin.read()",
            str(tmp_path / "lock"),
        ],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(("client", "proto", "."))},
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"True\n"
    with FileLock(tmp_path / "lock") as lock:
        assert not lock.try_acquire()
        holder.kill()
        holder.communicate()
        assert lock.try_acquire()
        assert lock.try_acquire(), "it is ours already"


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a" * 65, "a b", "a\n"])
def test_names_that_cannot_be_accounts_make_no_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInputError, match="cannot be an account name"):
        StateDirectory(tmp_path).profile("c1", name)
    assert list(tmp_path.iterdir()) == []


def test_a_state_folder_that_is_not_utf_8_is_refused_and_not_told_as_damage(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="not UTF-8") as refused:
        StateDirectory(tmp_path / "\udc80")
    refused.value.text.encode()


def test_the_profile_is_found_by_any_known_address_and_the_newest_cluster_wins(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    for cluster in ("old", "new"):
        profile = state.profile(cluster, "anna")
        profile.make()
        profile.database.touch()
        state.remember_hosts(cluster, Hosts(("localhost:7001",), (("n2", f"{cluster}:7002"),), ""))
    os.utime(tmp_path / "old" / "hosts.json", ns=(1, 1))
    found = state.find("anna", parse_endpoints(["localhost:7001"]))
    assert found is not None
    assert found.cluster_id == "new"
    found = state.find("anna", parse_endpoints(["old:7002"]))
    assert found is not None
    assert found.cluster_id == "old"
    assert state.find("anna", parse_endpoints(["elsewhere:1"])) is None, "two clusters: which one is not known"
    assert state.find("bob", parse_endpoints(["localhost:7001"])) is None


def test_damaged_notes_are_as_good_as_none(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    (tmp_path / "last.json").write_text("{not json")
    assert state.last().account == ""
    state.profile("c1", "anna").make()
    state.profile("c1", "anna").database.touch()
    (tmp_path / "c1" / "hosts.json").write_text('["a list"]')
    assert state.hosts("c1") == Hosts()


def test_no_step_on_the_way_of_a_message_walks_over_what_is_settled(file: apsw.Connection) -> None:
    count = 2000
    with file:
        outbox.add(file, [(BOB, "x")] * count, 1)
        outbox.claim(file, count)
        outbox.settle(file, [accepted(i + 1, i + 1) for i in range(count)])
        directory.learn(file, [account(i, f"user{i}") for i in range(count)], [direct(i, i) for i in range(2, count)])
        store(file, *(message(i + 1) for i in range(count)))
    scanned: list[tuple[int, str]] = []

    def note(event: dict[str, Any]) -> None:
        scanned.append((event["stmt_status"]["SQLITE_STMTSTATUS_FULLSCAN_STEP"], event["sql"]))

    file.trace_v2(apsw.SQLITE_TRACE_PROFILE, note)
    (sent,) = outbox.add(file, [(BOB, "new")], 1)
    outbox.claim(file, 10)
    outbox.claim(file, 10)
    outbox.unanswered(file)
    outbox.count_open(file)
    outbox.open_messages(file, 10)
    outbox.get_many(file, [sent.local_id])
    outbox.changed_since(file, schema.next_revision(file) - 2, 100)
    outbox.settle(file, [accepted(count + 1, count + 1)])
    store(file, message(count + 1), message(count + 2, mine=True, number=5))
    inbox.after(file, count - 1, 10, own=True)
    directory.set_receipts(file, [Receipt(7, 2, 5, 5)])
    directory.learn(file, [account(9, "new")], [channel()])
    directory.receipts(file, schema.next_revision(file) - 2)
    directory.names_of(file, BOB)
    identity.raise_position(file, Position(1, ((0, 5),)))
    inbox.last_place(file)
    file.trace_v2(0)
    assert len(scanned) > 15
    assert [sql for steps, sql in scanned if steps > 20] == []


def test_an_urgent_message_stays_urgent_on_its_way_through_the_file(file: apsw.Connection) -> None:
    [one, two] = [
        outbox.add(file, [(Target(account="bob"), body)], 0, urgent=urgent)[0]
        for body, urgent in (("fire", True), ("calm", False))
    ]
    assert (one.urgent, two.urgent) == (True, False)
    assert [claimed.urgent for claimed in outbox.claim(file, 10)] == [True, False]
    assert convert.send(replace(one, number=1)).priority == model_pb2.MESSAGE_PRIORITY_URGENT
    outbox.settle(file, [refused(1)])
    assert outbox.retry(file, one.local_id, 0).urgent, "sent again as a new one, it is as urgent"
    store(file, replace(message(1, "flood"), urgent=True), message(2, "calm"))
    assert [row.urgent for _, row in inbox.after(file, 0, 10, own=True)] == [True, False]
