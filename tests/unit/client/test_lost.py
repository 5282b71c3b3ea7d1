"""The list of what a restored cluster lost, as the file has it: made whole or not at all, bounded, emptied once.

A process is killed at each statement. What is found then is the file of before or of after.
"""

import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import apsw
import pytest

from parley import (
    Account,
    BadInputError,
    Conversation,
    HistoryPage,
    HistoryStart,
    LostOrigin,
    MessageStatus,
    OutboxFullError,
    Outgoing,
    Target,
)
from parley.device import directory, drafts, identity, inbox, lost, outbox, restored, schema
from parley.device.restored import Compared, Evidence
from parley.wire.position import Life, Position
from tests.support.forking import exit_code_of
from tests.unit.client.records import BOB, accepted, account, channel, direct, message

ANNA, BEN = Account(1, "anna"), Account(2, "bob")
THEN, NOW = Position(0, ((0, 90),)), Position(1, ((0, 40),))
HELD = message(50, "held")
AT_BACKUP = Evidence(
    Life(NOW, last_send_number=2), (replace(direct(), last=HELD),), (ANNA, BEN), {7: HistoryPage((HELD,), False)}
)
Work = Callable[[apsw.Connection], object]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A device that holds more than the backup.

    Sends 1 to 4 were accepted, 5 has no result, one more waits. The backup has sends 1 and 2 and message 50.
    """
    path = tmp_path / "client.sqlite"
    with closing(schema.open_database(path)) as connection:
        identity.load(connection)
        schema.set_meta(connection, "account_id", ANNA.id)
        directory.learn(connection, [ANNA, BEN], [direct()])
        outbox.add(connection, [(BOB, f"send {number}") for number in range(1, 7)], 1)
        outbox.claim(connection, 5)
        outbox.settle(connection, [accepted(number, 50 + number, sent_at_ms=2000 + number) for number in range(1, 5)])
        # The node gives ids in the order of the log: 51 and 52 are in the backup, and so is 50.
        inbox.insert(connection, [HELD, message(60, "lost")], before=b"", after=b"c")
        identity.raise_position(connection, THEN)
    return path


def at_52(evidence: Evidence = AT_BACKUP) -> Evidence:
    """What the cluster tells: its newest message is the own one with id 52."""
    own = replace(message(52, "send 2", mine=True, number=2), sent_at_ms=2002)
    return replace(evidence, conversations=(replace(direct(), last=own),), pages={})


def carry_out(path: Path, work: Work) -> object:
    with closing(schema.open_database(path)) as connection, connection:
        return work(connection)
    raise AssertionError("the file was not opened")


def content(path: Path) -> dict[str, object]:
    """All of the file but what differs by chance."""
    with closing(schema.open_database(path)) as connection:
        tables = ("outbox", "inbox", "lost", "accounts", "conversations", "members", "reads", "drafts")
        found: dict[str, object] = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables}
        found["meta"] = connection.execute("SELECT * FROM meta ORDER BY key").fetchall()
        return found


def _die_at(path: Path, statement: int, work: Work) -> None:
    connection = schema.open_database(path)
    left = statement

    def count(_cursor: apsw.Cursor, _statement: str, _bindings: object) -> bool:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), 9)
        return True

    connection.exec_trace = count
    with connection:
        work(connection)


def kill_at_any_statement(path: Path, work: Work) -> None:
    """Do the work, after processes that were killed at each of its statements and left the file of before."""
    before, statement = content(path), 0
    while True:
        code = exit_code_of(partial(_die_at, path, statement, work))
        if code == 0:
            break
        assert code == -9
        assert content(path) == before, f"killed at statement {statement}"
        statement += 1
    assert statement > 2
    assert content(path) != before


def test_a_process_killed_at_any_statement_leaves_the_file_of_before_or_of_after(path: Path) -> None:
    works: list[Work] = [
        lambda c: restored.begin_life(c, at_52()),
        lambda c: lost.resend(c, [one.id for one in lost.listing(c, 9) if one.origin is LostOrigin.THIS_DEVICE], 5),
        lambda c: lost.discard(c, [one.id for one in lost.listing(c, 9)]),
    ]
    for work in works:
        kill_at_any_statement(path, work)
    assert [one.body for one in carry_out_listing(path)] == [
        *(f"send {number}" for number in (1, 2, 5, 6)),
        "send 3",
        "send 4",
    ]


def carry_out_listing(path: Path) -> list[Outgoing]:
    with closing(schema.open_database(path)) as connection:
        return outbox.listing(connection, 20)


def test_numbers_go_on_where_the_backup_ends(path: Path) -> None:
    compared = carry_out(path, lambda c: restored.begin_life(c, at_52()))
    assert compared == Compared(sent=2, received=1, since_ms=1060, until_ms=2004, has_until_ms=2002)
    assert [(one.body, one.status, one.number, one.message_id) for one in carry_out_listing(path)] == [
        ("send 1", MessageStatus.ACCEPTED, 1, 51),
        ("send 2", MessageStatus.ACCEPTED, 2, 52),
        ("send 5", MessageStatus.WAITING, 0, 0),
        ("send 6", MessageStatus.WAITING, 0, 0),
    ]
    with closing(schema.open_database(path)) as connection:
        assert [one.number for one in outbox.claim(connection, 9)] == [3, 4]
        assert identity.load_position(connection) == NOW
        assert identity.load(connection).cursor == b""
        assert [one.body for one in inbox.page(connection, BOB, HistoryStart(), 9).messages] == [
            "held",
            "send 1",
            "send 2",
        ]


def test_an_unanswered_send_that_the_backup_has_keeps_its_number(path: Path) -> None:
    evidence = replace(at_52(), life=Life(NOW, last_send_number=5))
    carry_out(path, lambda c: restored.begin_life(c, evidence))
    with closing(schema.open_database(path)) as connection:
        assert [(one.body, one.number) for one in outbox.unanswered(connection)] == [("send 5", 5)]
        assert [one.number for one in outbox.claim(connection, 9)] == [6]


def test_a_superseded_copy_sends_nothing_that_the_other_copy_may_send(path: Path) -> None:
    evidence = replace(at_52(), life=Life(NOW, last_send_number=2, superseded=True))
    carry_out(path, lambda c: restored.begin_life(c, evidence))
    found = {one.body: one.status for one in carry_out_listing(path)}
    assert (found["send 5"], found["send 6"]) == (MessageStatus.UNKNOWN, MessageStatus.WAITING)


def test_a_lost_message_that_is_sent_again_is_a_new_one_with_its_urgency(path: Path) -> None:
    carry_out(path, lambda c: c.execute("UPDATE outbox SET urgent = 1 WHERE number = 4"))
    carry_out(path, lambda c: restored.begin_life(c, at_52()))
    with closing(schema.open_database(path)) as connection:
        one = next(one for one in lost.listing(connection, 9) if one.body == "send 4")
        assert (one.urgent, one.target, one.conversation) == (True, BOB, "bob")
        [again] = lost.resend(connection, [one.id], 99, 7)
        assert (again.status, again.created_at_ms, again.known_index, again.urgent) == (1, 99, 7, True)
        with pytest.raises(BadInputError):
            lost.resend(connection, [one.id], 99)


def test_a_full_outbox_keeps_the_list_as_it_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    carry_out(path, lambda c: restored.begin_life(c, at_52()))
    monkeypatch.setattr(outbox, "MAX_OPEN", 1)
    before = content(path)
    with closing(schema.open_database(path)) as connection, pytest.raises(OutboxFullError), connection:
        lost.resend(connection, [one.id for one in lost.listing(connection, 9) if one.origin == 1], 99)
    assert content(path) == before


def test_a_page_has_what_stood_beside_its_messages_however_many_newer_ones_are_lost(path: Path) -> None:
    carry_out(path, lambda c: restored.begin_life(c, at_52()))
    with closing(schema.open_database(path)) as connection:
        listed = lost.listing(connection, 9)
        connection.executemany(
            "UPDATE lost SET after_id = ? WHERE id = ?", [(51 + at, listed[at].id) for at in range(3)]
        )
        first, second, third = (one.body for one in listed)
        held = (message(50), message(51))
        for page, limit, found in (
            (HistoryPage(held, False, has_newer=True), 1, [first]),
            (HistoryPage((message(52),), True, has_newer=True), 9, [second]),
            (HistoryPage((message(53),), True), 9, [third]),
            (HistoryPage(held, False), 9, [first, second, third]),
            (HistoryPage(held, False), 2, [second, third]),
            (HistoryPage((), False), 9, [first, second, third]),
            (HistoryPage((), False, has_newer=True), 9, []),
        ):
            assert [one.body for one in lost.of_page(connection, BOB, page, limit)] == found, page


def test_the_list_is_bounded_and_the_oldest_go_first(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost, "MAX_SENT", 1)
    monkeypatch.setattr(lost, "MAX_RECEIVED", 0)
    carry_out(path, lambda c: restored.begin_life(c, at_52()))
    with closing(schema.open_database(path)) as connection:
        assert [one.body for one in lost.listing(connection, 9)] == ["send 4"]


def gone(listed: tuple[Conversation, ...] = ()) -> Evidence:
    """A cluster in which conversation 9 is another channel, or none."""
    return replace(at_52(), conversations=(*at_52().conversations, *listed))


@pytest.mark.parametrize("listed", [(), (channel(title="lunch"),)])
def test_what_waits_for_a_channel_that_is_gone_is_listed_and_goes_to_no_other(
    path: Path, listed: tuple[Conversation, ...]
) -> None:
    ops = Target(conversation_id=9)

    def write(connection: apsw.Connection) -> None:
        directory.learn(connection, [account(3, "eve")], [channel()])
        outbox.add(connection, [(ops, "for ops")], 5)
        drafts.save(connection, ops, "a draft")
        inbox.set_read(connection, 9, 70)

    carry_out(path, write)
    carry_out(path, lambda c: restored.begin_life(c, gone(listed)))
    with closing(schema.open_database(path)) as connection:
        assert [one.target for one in outbox.claim(connection, 9)] == [BOB, BOB]
        [one] = [one for one in lost.listing(connection, 9) if one.body == "for ops"]
        assert (one.conversation, one.target, one.conversation_id) == ("ops", None, 0)
        assert drafts.load(connection, ops) == ""
        assert inbox.unsent_reads(connection) == []
        with pytest.raises(BadInputError, match="no recipient"):
            lost.resend(connection, [one.id], 1)


def test_what_waits_for_a_channel_that_the_cluster_has_is_sent_there(path: Path) -> None:
    ops = Target(conversation_id=9)

    def write(connection: apsw.Connection) -> None:
        directory.learn(connection, [account(3, "eve")], [channel()])
        outbox.add(connection, [(ops, "for ops")], 5)
        drafts.save(connection, ops, "a draft")

    carry_out(path, write)
    carry_out(path, lambda c: restored.begin_life(c, gone((channel(),))))
    with closing(schema.open_database(path)) as connection:
        assert outbox.claim(connection, 9)[-1].target == ops
        assert drafts.load(connection, ops) == "a draft"


def test_a_waiting_message_by_the_id_of_an_account_goes_to_the_one_of_that_name(path: Path) -> None:
    carry_out(path, lambda c: outbox.add(c, [(Target(account_id=2), "by id")], 5))
    other = replace(at_52(), accounts=(ANNA, account(2, "eve"), account(3, "bob")))
    carry_out(path, lambda c: restored.begin_life(c, other))
    with closing(schema.open_database(path)) as connection:
        assert outbox.claim(connection, 9)[-1].target == Target(account="bob")


def test_what_was_received_and_not_shown_yet_is_shown_if_the_cluster_has_it(path: Path) -> None:
    carry_out(path, lambda c: restored.begin_life(c, at_52()))
    with closing(schema.open_database(path)) as connection:
        assert [one.body for _, one in inbox.after(connection, 0, 9, own=True)] == ["held"]


def test_signing_out_of_a_deleted_account_removes_the_list(path: Path) -> None:
    carry_out(path, lambda c: restored.begin_life(c, at_52()))
    carry_out(path, lambda c: identity.forget(c, ANNA.id))
    with closing(schema.open_database(path)) as connection:
        assert lost.listing(connection, 9) == []


def test_what_the_cluster_removed_after_a_time_is_not_lost(path: Path) -> None:
    """A conversation of which it has no message any more, old or new."""
    removed = replace(at_52(), conversations=(direct(),), pages={7: HistoryPage((), False)})
    carry_out(path, lambda c: restored.begin_life(c, replace(removed, life=Life(NOW, last_send_number=4))))
    with closing(schema.open_database(path)) as connection:
        assert lost.listing(connection, 9) == []
        assert [one.body for _, one in inbox.after(connection, 0, 9, own=True)] == ["held", "lost"]


def test_a_read_position_of_a_conversation_without_a_common_message_is_forgotten(path: Path) -> None:
    carry_out(path, lambda c: inbox.set_read(c, 7, 60))
    new = replace(message(61, "new life"), sent_at_ms=99_000)
    evidence = replace(at_52(), conversations=(replace(direct(), last=new),), pages={7: HistoryPage((new,), False)})
    carry_out(path, lambda c: restored.begin_life(c, evidence))
    with closing(schema.open_database(path)) as connection:
        assert inbox.unsent_reads(connection) == []
        assert [one.body for one in lost.listing(connection, 9)][-3:] == ["lost", "send 3", "send 4"]
