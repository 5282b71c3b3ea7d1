"""Client files of other releases are refused by name and left alone; older ones change whole or not at all."""

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Barrier

import apsw
import pytest

from parley import Receipt, ReceiptCounts
from parley.device import directory, file_format, outbox, schema
from parley.device.file_format import FIRST_FORMAT, MIGRATIONS, Migration, current_format, own_release
from parley.device.profile import FileLock, Hosts, StateDirectory
from parley.errors import StoreError
from tests.support.forking import exit_code_of
from tests.unit.client.records import BOB, channel

STATEMENTS = 4


def add_notes(connection: apsw.Connection) -> None:
    """A change of several statements."""
    for number in range(STATEMENTS):
        connection.execute(f"CREATE TABLE notes{number} (id INTEGER PRIMARY KEY)")


NOW = current_format()
LATER = (*MIGRATIONS, Migration(NOW + 1, add_notes))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A client's file with one message that waits."""
    path = tmp_path / "client.sqlite"
    with closing(schema.open_database(path)) as connection:
        outbox.add(connection, [(BOB, "waiting")], 1)
    return path


def mark_of(path: Path) -> tuple[object, ...]:
    with closing(apsw.Connection(str(path))) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchall()[0]
        return (version, *connection.execute("SELECT version, release FROM format").fetchall()[0])


def tables_of(path: Path) -> int:
    with closing(apsw.Connection(str(path))) as connection:
        return int(str(connection.execute("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'notes%'").get))


def test_a_file_names_its_format_and_the_release_that_wrote_it(path: Path) -> None:
    assert mark_of(path) == (NOW, NOW, own_release())


def test_a_message_that_waits_since_format_2_claims_to_know_nothing(path: Path) -> None:
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("ALTER TABLE outbox DROP COLUMN known_index; ALTER TABLE outbox DROP COLUMN told")
        drop_channel_columns(connection)
        connection.execute("UPDATE format SET version = 2")
        connection.execute("PRAGMA user_version = 2")
    with closing(schema.open_database(path)) as connection:
        assert [(m.body, m.known_index) for m in outbox.listing(connection, 10)] == [("waiting", 1)]
    assert mark_of(path) == (NOW, NOW, own_release())


def drop_channel_columns(connection: apsw.Connection) -> None:
    """Give the file the tables of conversations and members as formats 2 to 4 have them."""
    for column in ("topic", "public", "archived", "open_history"):
        connection.execute(f"ALTER TABLE conversations DROP COLUMN {column}")
    drop_receipt_counts(connection)


def drop_receipt_counts(connection: apsw.Connection) -> None:
    """Give the file these tables as format 5 has them."""
    drop_urgent(connection)
    connection.execute("ALTER TABLE conversations DROP COLUMN counts")
    connection.execute("ALTER TABLE members DROP COLUMN first_message_id")


def drop_muted(connection: apsw.Connection) -> None:
    """Give the file the table of conversations as format 7 has it."""
    connection.execute("DROP TABLE lost")
    connection.execute("ALTER TABLE conversations DROP COLUMN muted")
    drop_put_away(connection)


def drop_put_away(connection: apsw.Connection) -> None:
    """Give the file the table of conversations as format 9 has it."""
    connection.execute("ALTER TABLE conversations DROP COLUMN put_away_up_to")
    drop_removed(connection)


def drop_removed(connection: apsw.Connection) -> None:
    """Give the file the table of conversations as format 10 has it."""
    connection.execute("ALTER TABLE conversations DROP COLUMN removed_up_to")
    drop_mentions(connection)


def drop_mentions(connection: apsw.Connection) -> None:
    """Give the file the table of received messages as format 11 has it."""
    connection.execute("DROP INDEX inbox_mentions; ALTER TABLE inbox DROP COLUMN mentions_me")


def drop_urgent(connection: apsw.Connection) -> None:
    """Give the file the tables of messages as format 6 has them."""
    for table in ("outbox", "inbox"):
        connection.execute(f"ALTER TABLE {table} DROP COLUMN urgent")
    drop_muted(connection)


def test_what_waits_since_format_6_is_not_urgent(path: Path) -> None:
    with closing(schema.open_database(path)) as connection:
        drop_urgent(connection)
        connection.execute("UPDATE format SET version = 6; PRAGMA user_version = 6")
    with closing(schema.open_database(path)) as connection:
        assert [(m.body, m.urgent) for m in outbox.listing(connection, 10)] == [("waiting", False)]
        outbox.add(connection, [(BOB, "fire")], 1, urgent=True)
        assert [m.urgent for m in outbox.listing(connection, 10)] == [False, True]
    assert mark_of(path) == (NOW, NOW, own_release())


def test_a_channel_that_is_known_since_format_4_has_no_topic_and_keeps_what_it_learns(path: Path) -> None:
    known = channel(70, title="Ward 4")
    with closing(schema.open_database(path)) as connection:
        directory.learn(connection, (), (known,))
        drop_channel_columns(connection)
        connection.execute("UPDATE format SET version = 4; PRAGMA user_version = 4")
    changed = replace(known, topic="Nights", public=True, archived=True, open_history=True)
    with closing(schema.open_database(path)) as connection:
        assert directory.conversations(connection) == [known]
        directory.learn(connection, (), (changed,))
    with closing(schema.open_database(path)) as connection:
        assert directory.conversations(connection) == [changed]
    assert mark_of(path) == (NOW, NOW, own_release())


def test_a_channel_that_is_known_since_format_5_keeps_the_counts_that_it_learns(path: Path) -> None:
    known = channel(70)
    with closing(schema.open_database(path)) as connection:
        directory.learn(connection, (), (known,))
        drop_receipt_counts(connection)
        connection.execute("UPDATE format SET version = 5; PRAGMA user_version = 5")
    counts = ReceiptCounts(5, 99, 3, 2, 1, 1, 0)
    newcomer = replace(known.members[-1], first_message_id=4)
    changed = replace(known, members=(*known.members[:-1], newcomer))
    with closing(schema.open_database(path)) as connection:
        assert directory.conversations(connection) == [known]
        since = schema.next_revision(connection) - 1
        directory.set_receipts(connection, [Receipt(70, newcomer.account_id, 2, 1)], [(70, counts)])
        directory.learn(connection, (), (changed,))
        [found] = directory.conversations(connection, since)
        assert (found.counts, found.members[-1].first_message_id) == (counts, 4)
        assert (found.members[-1].delivered_up_to, found.members[-1].read_up_to) == (2, 1)
        directory.set_receipts(connection, [Receipt(70, newcomer.account_id, 3, 1)])
        [found] = directory.conversations(connection)
        assert (found.members[-1].first_message_id, found.members[-1].delivered_up_to) == (4, 3)
        for damage in ("[1]", "[1, 2, 3, 4, 5, 6, null]", "{"):
            connection.execute("UPDATE conversations SET counts = ?", (damage,))
            with pytest.raises(ValueError):  # noqa: PT011 - as of any damaged value
                directory.conversations(connection)


def test_a_conversation_that_is_known_since_format_7_is_not_muted_and_keeps_that_it_is(path: Path) -> None:
    known = channel(70)
    with closing(schema.open_database(path)) as connection:
        directory.learn(connection, (), (known,))
        drop_muted(connection)
        connection.execute("UPDATE format SET version = 7; PRAGMA user_version = 7")
    with closing(schema.open_database(path)) as connection:
        assert directory.conversations(connection) == [known]
    for muted in (True, False):
        with closing(schema.open_database(path)) as connection:
            directory.learn(connection, (), (replace(known, muted=muted),))
        with closing(schema.open_database(path)) as connection:
            assert [one.muted for one in directory.conversations(connection)] == [muted]
    assert mark_of(path) == (NOW, NOW, own_release())


def test_a_conversation_that_is_known_since_format_9_is_in_the_list_and_keeps_that_it_was_put_away(path: Path) -> None:
    known = channel(70)
    with closing(schema.open_database(path)) as connection:
        directory.learn(connection, (), (known,))
        drop_put_away(connection)
        connection.execute("UPDATE format SET version = 9; PRAGMA user_version = 9")
    with closing(schema.open_database(path)) as connection:
        assert directory.conversations(connection) == [known]
    for up_to in (2**48, 0):
        with closing(schema.open_database(path)) as connection:
            directory.learn(connection, (), (replace(known, put_away_up_to=up_to),))
        with closing(schema.open_database(path)) as connection:
            assert [one.put_away_up_to for one in directory.conversations(connection)] == [up_to]
    assert mark_of(path) == (NOW, NOW, own_release())


def test_a_conversation_that_is_known_since_format_10_is_not_removed_and_a_removal_is_kept(path: Path) -> None:
    known = channel(70)
    with closing(schema.open_database(path)) as connection:
        directory.learn(connection, (), (known,))
        drop_removed(connection)
        connection.execute("UPDATE format SET version = 10; PRAGMA user_version = 10")
    with closing(schema.open_database(path)) as connection:
        assert directory.conversations(connection) == [known]
    for up_to in (2**48, 0, 2**48 - 1):
        with closing(schema.open_database(path)) as connection:
            directory.learn(connection, (), (replace(known, removed_up_to=up_to),))
        with closing(schema.open_database(path)) as connection:
            assert [one.removed_up_to for one in directory.conversations(connection)] == [2**48]
    assert mark_of(path) == (NOW, NOW, own_release())


def test_a_file_of_a_newer_release_is_refused_by_name(path: Path) -> None:
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute(f"UPDATE format SET version = {NOW + 1}, release = '9.1.0'; PRAGMA user_version = {NOW + 1}")
    with pytest.raises(
        StoreError, match=rf"written by release 9\.1\.0 \(format {NOW + 1}.*Start with 9\.1\.0 or newer"
    ):
        schema.open_database(path)
    assert mark_of(path) == (NOW + 1, NOW + 1, "9.1.0")


def test_a_file_of_parley_0_1_is_refused_by_name(path: Path) -> None:
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("DROP TABLE format; PRAGMA user_version = 1")
    with pytest.raises(StoreError, match=r"Parley 0\.1, which was never released.*--state-dir"):
        schema.open_database(path)


def test_an_older_file_is_changed_when_it_is_opened_and_keeps_what_waits(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_format, "MIGRATIONS", LATER)
    for _ in range(2):
        with closing(schema.open_database(path)) as connection:
            assert [m.body for m in outbox.listing(connection, 10)] == ["waiting"]
        assert mark_of(path) == (NOW + 1, NOW + 1, own_release())
        assert tables_of(path) == STATEMENTS


def _open_and_die(path: Path, at_statement: int) -> None:
    def die(connection: apsw.Connection) -> None:
        add_notes_until = at_statement

        def count(_cursor: apsw.Cursor, _statement: str, _bindings: object) -> bool:
            nonlocal add_notes_until
            add_notes_until -= 1
            if add_notes_until < 0:
                os.kill(os.getpid(), 9)
            return True

        connection.exec_trace = count
        add_notes(connection)

    file_format.MIGRATIONS = (*MIGRATIONS, Migration(NOW + 1, die))
    schema.open_database(path).close()


# The statements of the change, then those of the mark and the commit.
@pytest.mark.parametrize("at_statement", range(STATEMENTS + 4))
def test_a_process_killed_during_a_change_leaves_the_old_file(
    path: Path, at_statement: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert exit_code_of(partial(_open_and_die, path, at_statement)) == -9
    assert mark_of(path) == (NOW, NOW, own_release())
    assert tables_of(path) == 0
    monkeypatch.setattr(file_format, "MIGRATIONS", LATER)
    with closing(schema.open_database(path)) as connection:
        assert [m.body for m in outbox.listing(connection, 10)] == ["waiting"]
    assert tables_of(path) == STATEMENTS


def test_a_change_that_fails_leaves_the_old_file_unlocked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(connection: apsw.Connection) -> None:
        add_notes(connection)
        raise apsw.FullError("no room")

    change: Callable[[apsw.Connection], None] = fail
    with monkeypatch.context() as patched:
        patched.setattr(file_format, "MIGRATIONS", (*MIGRATIONS, Migration(NOW + 1, change)))
        with pytest.raises(apsw.FullError):
            schema.open_database(path)
    assert tables_of(path) == 0
    schema.open_database(path).close()


def test_notes_name_their_format_and_those_of_a_newer_release_are_never_written_over(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path)
    directory.remember_hosts("c1", Hosts(("h:1",), (), ""))
    notes = tmp_path / "c1" / "hosts.json"
    document = json.loads(notes.read_text())
    assert (document["format"], document["release"]) == (FIRST_FORMAT, own_release())
    assert directory.hosts("c1").given == ("h:1",)
    notes.write_text(json.dumps({**document, "format": 7, "given": {"in": "another form"}}))
    before = notes.read_text()
    assert directory.hosts("c1") == Hosts()
    directory.remember_hosts("c1", Hosts(("h:2",), (), ""))
    assert notes.read_text() == before


def test_two_that_make_one_file_at_once_take_turns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def opened(path: Path, together: Barrier) -> None:
        together.wait()
        with closing(schema.open_database(path)) as connection:
            assert connection.pragma("journal_mode") == "wal"

    with ThreadPoolExecutor(2) as threads:
        for number in range(60):
            folder = tmp_path / str(number)
            folder.mkdir()
            together = Barrier(2)
            for one in [threads.submit(opened, folder / "client.sqlite", together) for _ in range(2)]:
                one.result(60)
    assert caplog.records == [], "nobody takes the new file for one that lost its content"


def test_a_process_that_never_ends_to_open_a_file_is_told(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "BUSY_S", 0.05)
    with FileLock(path.with_name("open.lock")) as other:
        assert other.try_acquire()
        with pytest.raises(StoreError, match="Nothing was changed"):
            schema.open_database(path)
    schema.open_database(path).close()
