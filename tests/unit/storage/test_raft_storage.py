"""The log on disk: what goes in comes back, in order, whole or not at all."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parleyd.raft.types import ConfState, Entry, EntryType, HardState, Index, NodeId, Term
from parleyd.raft.update import Persist
from parleyd.storage.errors import StorageDamagedError, StorageError, StorageInvariantError
from parleyd.storage.raft_storage import ENTRY_OVERHEAD_BYTES, GARBAGE_ROWS_PER_WRITE, LogContents, RaftStorage
from tests.unit.storage.faulty_vfs import faulty_disk
from tests.unit.storage.log_helpers import BOOTSTRAP_MEMBERS, entries, hard_state, meta, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "raft.sqlite"


@pytest.fixture
def log(path: Path) -> Iterator[RaftStorage]:
    log = RaftStorage.open(path)
    log.initialize(BOOTSTRAP_MEMBERS)
    yield log
    log.close()


def reopened(log: RaftStorage, path: Path) -> LogContents:
    log.close()
    again = RaftStorage.open(path)
    try:
        return again.load()
    finally:
        again.close()


def test_new_log_holds_nothing_but_the_first_membership(log: RaftStorage) -> None:
    assert log.load() == LogContents(HardState(), (), meta(0, 0))


def test_everything_appended_comes_back_after_a_restart(log: RaftStorage, path: Path) -> None:
    change = Entry(Term(2), Index(3), EntryType.CONF_CHANGE_V2, b"\x00\xff")
    log.append([Persist(hard_state=hard_state(2, vote=3, commit=1), entries=(*entries(1, 1, 2), change))])
    contents = reopened(log, path)
    assert contents.hard_state == hard_state(2, vote=3, commit=1)
    assert contents.entries == (*entries(1, 1, 2), change)
    assert contents.snapshot == meta(0, 0)


def test_writes_of_one_append_are_carried_out_in_order(log: RaftStorage) -> None:
    log.append([write(1, 1, 5, b"old"), write(2, 3, 4, b"new"), Persist(hard_state=hard_state(2, vote=1))])
    assert log.load().entries == (*entries(1, 1, 2, b"old"), *entries(2, 3, 4, b"new"))
    assert log.last_index == 4


def test_one_append_of_many_writes_costs_one_fsync(path: Path) -> None:
    with faulty_disk() as disk:
        log = RaftStorage.open(path, vfs=disk.name)
        log.initialize(BOOTSTRAP_MEMBERS)
        disk.calls.clear()
        log.append([Persist(hard_state=hard_state(1, vote=1)), write(1, 1, 1), write(1, 2, 2), write(1, 3, 200)])
        assert disk.syncs("wal") == 1
        assert disk.syncs("main") == 0
        log.close()


def test_append_returns_only_after_the_fsync(path: Path) -> None:
    with faulty_disk() as disk:
        log = RaftStorage.open(path, vfs=disk.name)
        log.initialize(BOOTSTRAP_MEMBERS)
        disk.calls.clear()
        log.append([write(1, 1, 1)])
        assert disk.calls[-1] == ("sync", "wal")
        log.close()


def test_commit_index_alone_is_not_worth_an_fsync_and_rides_with_the_next_write(path: Path) -> None:
    with faulty_disk() as disk:
        log = RaftStorage.open(path, vfs=disk.name)
        log.initialize(BOOTSTRAP_MEMBERS)
        log.append([Persist(hard_state=hard_state(1, vote=1), entries=entries(1, 1, 3))])
        disk.calls.clear()
        log.append([Persist(hard_state=hard_state(1, vote=1, commit=2), must_sync=False), Persist()])
        assert disk.calls == []
        log.append([write(1, 4, 4)])
        assert disk.syncs("wal") == 1
        assert reopened(log, path).hard_state == hard_state(1, vote=1, commit=2)


def test_commit_index_that_waits_is_written_on_close(log: RaftStorage, path: Path) -> None:
    log.append([Persist(hard_state=hard_state(1, vote=1), entries=entries(1, 1, 3))])
    log.append([Persist(hard_state=hard_state(1, vote=1, commit=3), must_sync=False)])
    assert reopened(log, path).hard_state.commit_index == 3


def test_vote_is_synced_even_when_the_caller_says_it_need_not_be(path: Path) -> None:
    with faulty_disk() as disk:
        log = RaftStorage.open(path, vfs=disk.name)
        log.initialize(BOOTSTRAP_MEMBERS)
        disk.calls.clear()
        log.append([Persist(hard_state=hard_state(1, vote=2), must_sync=False)])
        assert disk.syncs("wal") == 1
        log.close()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (hard_state(3), hard_state(2)),
        (hard_state(3, vote=1), hard_state(3, vote=2)),
        (hard_state(3, vote=1), hard_state(3, vote=0)),
        (hard_state(3, commit=2), hard_state(4, commit=1)),
    ],
)
def test_hard_state_never_goes_backwards(log: RaftStorage, path: Path, before: HardState, after: HardState) -> None:
    log.append([Persist(hard_state=before, entries=entries(1, 1, 2))])
    with pytest.raises(StorageInvariantError):
        log.append([Persist(hard_state=after)])
    assert reopened(log, path).hard_state == before


@pytest.mark.parametrize("first", [7, 9])
def test_entries_that_leave_a_gap_are_refused(log: RaftStorage, first: int) -> None:
    log.append([write(1, 1, 5)])
    with pytest.raises(StorageInvariantError, match="gap"):
        log.append([write(1, first, first)])


def test_entries_with_a_hole_inside_are_refused_and_nothing_of_them_stays(log: RaftStorage, path: Path) -> None:
    with pytest.raises(StorageInvariantError, match="contiguous"):
        log.append([write(1, 1, 1), Persist(entries=(*entries(1, 2, 2), *entries(1, 4, 4)))])
    assert reopened(log, path).entries == ()


def test_committed_entries_are_never_replaced(log: RaftStorage) -> None:
    log.append([Persist(hard_state=hard_state(1, commit=2), entries=entries(1, 1, 3))])
    with pytest.raises(StorageInvariantError, match="committed"):
        log.append([write(2, 2, 2)])


def test_uncommitted_tail_is_replaced_by_a_shorter_one(log: RaftStorage, path: Path) -> None:
    log.append([Persist(hard_state=hard_state(1, commit=1), entries=entries(1, 1, 9))])
    log.append([Persist(hard_state=hard_state(2, commit=1), entries=entries(2, 2, 2))])
    assert reopened(log, path).entries == (*entries(1, 1, 1), *entries(2, 2, 2))


def test_snapshot_replaces_the_whole_log(log: RaftStorage, path: Path) -> None:
    log.append([write(1, 1, 9)])
    joint = ConfState(voters=(NodeId(1),), voters_outgoing=(NodeId(2),), learners=(NodeId(4),), auto_leave=True)
    log.append([Persist(hard_state=hard_state(3, commit=50), snapshot=meta(50, 3, joint)), write(3, 51, 52)])
    contents = reopened(log, path)
    assert contents.snapshot == meta(50, 3, joint)
    assert contents.entries == entries(3, 51, 52)


def test_snapshot_before_the_start_of_the_log_is_refused(log: RaftStorage) -> None:
    log.append([Persist(hard_state=hard_state(3, commit=50), snapshot=meta(50, 3))])
    with pytest.raises(StorageInvariantError):
        log.append([Persist(snapshot=meta(49, 3))])


def test_compaction_keeps_what_lies_behind_it(log: RaftStorage, path: Path) -> None:
    log.append([Persist(hard_state=hard_state(1, commit=10), entries=entries(1, 1, 10))])
    log.compact(meta(7, 1))
    assert (log.first_index, log.last_index) == (8, 10)
    contents = reopened(log, path)
    assert contents.entries == entries(1, 8, 10)
    assert contents.snapshot == meta(7, 1)


def test_compaction_of_the_whole_log_goes_on_behind_it(log: RaftStorage, path: Path) -> None:
    log.append([Persist(hard_state=hard_state(1, commit=10), entries=entries(1, 1, 10))])
    log.compact(meta(10, 1))
    log.append([write(1, 11, 12)])
    assert reopened(log, path).entries == entries(1, 11, 12)


def test_compaction_backwards_changes_nothing(log: RaftStorage) -> None:
    log.append([Persist(hard_state=hard_state(1, commit=10), entries=entries(1, 1, 10))])
    log.compact(meta(7, 1))
    log.compact(meta(3, 1))
    assert log.first_index == 8


@pytest.mark.parametrize("wrong", [meta(11, 1), meta(7, 2)])
def test_compaction_to_an_entry_the_log_does_not_have_is_refused(log: RaftStorage, wrong: object) -> None:
    log.append([Persist(hard_state=hard_state(1, commit=10), entries=entries(1, 1, 10))])
    with pytest.raises(StorageInvariantError):
        log.compact(wrong)  # type: ignore[arg-type]


def test_compacted_entries_count_as_committed_after_a_restart(log: RaftStorage, path: Path) -> None:
    log.append([write(1, 1, 10)])
    log.compact(meta(7, 1))
    assert reopened(log, path).hard_state.commit_index == 7


def test_long_compaction_removes_rows_a_few_at_a_time(log: RaftStorage, path: Path) -> None:
    count = GARBAGE_ROWS_PER_WRITE * 3 + 10
    log.append([write(1, 1, count)])
    log.compact(meta(count - 1, 1))
    rows = []
    for index in range(count + 1, count + 5):
        rows.append(log._connection.execute("SELECT count(*) FROM entries").get)
        log.append([write(1, index, index)])
    assert rows[0] == count - GARBAGE_ROWS_PER_WRITE
    assert log._connection.execute("SELECT count(*) FROM entries").get == 5
    assert reopened(log, path).entries == entries(1, count, count + 4)


def test_crash_in_the_middle_of_a_long_compaction_loses_and_revives_nothing(log: RaftStorage, path: Path) -> None:
    count = GARBAGE_ROWS_PER_WRITE * 3
    log.append([write(1, 1, count)])
    log.compact(meta(count - 1, 1))
    contents = reopened(log, path)
    assert contents.entries == entries(1, count, count)
    again = RaftStorage.open(path)
    again.append([write(1, count + 1, count + 1), write(1, count + 2, count + 2)])
    assert again.load().entries == entries(1, count, count + 2)
    again.close()


def test_bytes_used_counts_live_entries_only(log: RaftStorage, path: Path) -> None:
    one = ENTRY_OVERHEAD_BYTES + 100
    log.append([write(1, 1, 10, bytes(100))])
    assert log.bytes_used() == 10 * one
    log.append([write(2, 6, 7, bytes(100))])
    assert log.bytes_used() == 7 * one
    log.compact(meta(4, 1))
    assert log.bytes_used() == 3 * one
    log.close()
    again = RaftStorage.open(path)
    assert again.bytes_used() == 3 * one
    again.close()


def test_file_does_not_grow_with_history(path: Path) -> None:
    log = RaftStorage.open(path)
    log.initialize(BOOTSTRAP_MEMBERS)
    sizes = []
    for start in range(1, 20_001, 500):
        log.append([write(1, start, start + 499, bytes(200))])
        log.compact(meta(start + 499, 1))
        sizes.append(path.stat().st_size + path.with_name("raft.sqlite-wal").stat().st_size)
    log.close()
    assert sizes[-1] < 8 << 20
    assert sizes[-1] <= max(sizes[: len(sizes) // 2]) * 1.1


def test_bootstrapping_over_a_log_is_refused(log: RaftStorage, path: Path) -> None:
    log.append([Persist(hard_state=hard_state(5, vote=2))])
    with pytest.raises(StorageInvariantError, match="lose a vote"):
        log.initialize(BOOTSTRAP_MEMBERS)
    assert reopened(log, path).hard_state == hard_state(5, vote=2)


def test_log_whose_file_vanished_is_damage_and_not_an_empty_log(log: RaftStorage, path: Path) -> None:
    log.append([Persist(hard_state=hard_state(5, vote=2))])
    log.close()
    path.unlink()
    again = RaftStorage.open(path)
    assert not again.initialized
    with pytest.raises(StorageDamagedError, match="no term and no vote"):
        again.load()
    again.close()


def test_second_process_cannot_open_the_log(log: RaftStorage, path: Path) -> None:
    log.append([write(1, 1, 1)])
    script = (
        "import sys; from pathlib import Path; from parleyd.storage.raft_storage import RaftStorage, StorageError\n"
        "try: RaftStorage.open(Path(sys.argv[1]))\n"
        "except StorageError: sys.exit(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode == 7


# ---- failing disks


@pytest.mark.parametrize("operation", ["write", "sync"])
def test_failed_write_is_never_retried(path: Path, operation: str) -> None:
    import apsw

    with faulty_disk() as disk:
        log = RaftStorage.open(path, vfs=disk.name)
        log.initialize(BOOTSTRAP_MEMBERS)
        log.append([write(1, 1, 1)])
        disk.fail[operation] = apsw.IOError
        with pytest.raises(StorageError, match="must not be repeated"):
            log.append([write(1, 2, 2)])
        disk.fail.clear()  # the disk is well again, which must not matter
        disk.calls.clear()
        for action in (lambda: log.append([write(1, 2, 2)]), lambda: log.compact(meta(1, 1)), log.load):
            with pytest.raises(StorageError, match="failed before"):
                action()
        log.close()
        assert disk.calls == []
        # What had been acknowledged is there; what failed may or may not be, but nothing else.
        again = RaftStorage.open(path)
        assert again.load().entries in (entries(1, 1, 1), entries(1, 1, 2))
        again.close()


def test_full_disk_stops_the_log_and_keeps_what_was_acknowledged(path: Path) -> None:
    import apsw

    with faulty_disk() as disk:
        log = RaftStorage.open(path, vfs=disk.name)
        log.initialize(BOOTSTRAP_MEMBERS)
        log.append([Persist(hard_state=hard_state(2, vote=1), entries=entries(1, 1, 3))])
        disk.fail["write"] = apsw.FullError
        with pytest.raises(StorageError, match="space"):
            log.append([Persist(hard_state=hard_state(3, vote=2))])
        disk.fail.clear()
        log.close()
        again = RaftStorage.open(path)
        assert again.load() == LogContents(hard_state(2, vote=1), entries(1, 1, 3), meta(0, 0))
        again.close()


def test_failure_while_closing_is_told(path: Path) -> None:
    import apsw

    with faulty_disk() as disk:
        log = RaftStorage.open(path, vfs=disk.name)
        log.initialize(BOOTSTRAP_MEMBERS)
        log.append([Persist(hard_state=hard_state(1, vote=1), entries=entries(1, 1, 1))])
        log.append([Persist(hard_state=hard_state(1, vote=1, commit=1))])
        disk.fail["sync"] = apsw.IOError
        with pytest.raises(StorageError):
            log.close()
        log.close()


def test_closed_log_takes_nothing_more(log: RaftStorage) -> None:
    log.close()
    with pytest.raises(StorageError):
        log.append([write(1, 1, 1)])


# ---- damage


def tamper(path: Path, statement: str, *values: object) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement, values)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("UPDATE entries SET data = x'00' WHERE idx = 2", "entry 2 does not match its checksum"),
        ("UPDATE entries SET term = 2 WHERE idx = 3", "entry 3 does not match its checksum"),
        ("UPDATE entries SET type = 1 WHERE idx = 2", "entry 2 does not match its checksum"),
        ("DELETE FROM entries WHERE idx = 2", "entry 2 is missing"),
        ("DELETE FROM entries WHERE idx = 1", "entry 1 is missing"),
        ("DELETE FROM entries WHERE idx = 3", "its end is missing"),
        ("UPDATE state SET current_term = 1", "term and vote do not match"),
        ("UPDATE state SET voted_for = 9", "term and vote do not match"),
        ("UPDATE state SET conf_state = x'00'", "term and vote do not match"),
        ("DELETE FROM state", "term and vote are missing"),
        ("PRAGMA user_version = 9", "mark 9"),
        ("DROP TABLE format", "its format is not known"),
        ("DELETE FROM format", "its format does not match"),
        ("UPDATE format SET version = 3", "its format does not match its checksum"),
        ("ALTER TABLE entries RENAME COLUMN term TO tern", "no such column"),
    ],
)
def test_damaged_log_refuses_to_start_and_says_how_to_rejoin(
    log: RaftStorage, path: Path, statement: str, text: str
) -> None:
    log.append([Persist(hard_state=hard_state(4, vote=2, commit=3), entries=entries(3, 1, 3))])
    log.close()
    tamper(path, statement)
    with pytest.raises(StorageDamagedError, match=text) as caught:
        RaftStorage.open(path).load()
    assert "joins as a new member" in str(caught.value)


def test_swapped_entries_are_found(log: RaftStorage, path: Path) -> None:
    log.append([Persist(entries=(*entries(1, 1, 1, b"one"), *entries(1, 2, 2, b"two")))])
    log.close()
    tamper(path, "UPDATE entries SET idx = -idx")
    tamper(path, "UPDATE entries SET idx = 3 + idx")
    with pytest.raises(StorageDamagedError, match="checksum"):
        RaftStorage.open(path).load()


def test_file_that_is_no_database_is_damage(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 500)
    with pytest.raises(StorageDamagedError):
        RaftStorage.open(path)


def test_every_flipped_byte_is_found_or_harmless(log: RaftStorage, path: Path) -> None:
    """No single flipped byte in the database file may change what the log says."""
    log.append([Persist(hard_state=hard_state(4, vote=2, commit=40), entries=entries(3, 1, 40, bytes(range(200))))])
    expected = log.load()
    log.close()
    sound = path.read_bytes()
    refused = 0
    for offset in range(0, len(sound), 97):
        damaged = bytearray(sound)
        damaged[offset] ^= 0x10
        path.write_bytes(damaged)
        try:
            again = RaftStorage.open(path)
            try:
                assert again.load() == expected, f"a flip at byte {offset} went unnoticed"
            finally:
                again.close()
        except StorageError:
            refused += 1
        path.with_name("raft.sqlite-wal").unlink(missing_ok=True)
    assert refused > 50


# ---- crashes


CRASHER = """
import os, sys
from pathlib import Path
from parleyd.raft.types import Entry, EntryType, HardState, Index, NodeId, Term, ConfState
from parleyd.raft.update import Persist
from parleyd.storage.raft_storage import RaftStorage
log = RaftStorage.open(Path(sys.argv[1]))
log.initialize(ConfState(voters=(NodeId(1),)))
index = 0
while True:
    term = Term(1 + index // 50)
    entries = tuple(Entry(term, Index(index + k), EntryType.NORMAL, bytes([index % 251]) * 700) for k in range(1, 8))
    index += 7
    log.append([Persist(hard_state=HardState(term, NodeId(1), Index(index)), entries=entries)])
    os.write(1, f"{index}\\n".encode())
"""


@pytest.mark.parametrize("acknowledged", [1, 13, 90])
def test_kill_9_keeps_all_that_was_acknowledged_and_nothing_half(path: Path, acknowledged: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", CRASHER, str(path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(acknowledged)]
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read().split()
        last = int(rest[-1] if rest else told[-1])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]
    log = RaftStorage.open(path)
    contents = log.load()
    log.close()
    assert contents.last_index in (last, last + 7)
    assert contents.hard_state.commit_index == contents.last_index
    assert contents.hard_state.current_term == contents.entries[-1].term


# ---- against a model


@st.composite
def histories(draw: st.DrawFn) -> list[list[tuple[int, int]]]:
    """Groups of (how far before the end to start, how many entries)."""
    one = st.tuples(st.integers(0, 4), st.integers(1, 5))
    return draw(st.lists(st.lists(one, min_size=1, max_size=4), min_size=1, max_size=8))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories())
def test_log_agrees_with_a_list_under_overwrites_and_restarts(
    tmp_path_factory: pytest.TempPathFactory, history: list[list[tuple[int, int]]]
) -> None:
    path = tmp_path_factory.mktemp("model") / "raft.sqlite"
    log = RaftStorage.open(path)
    log.initialize(BOOTSTRAP_MEMBERS)
    model: list[Entry] = []
    for term, group in enumerate(history, start=1):
        writes = []
        for back, count in group:
            first = max(len(model) - back, 0) + 1
            tail = entries(term, first, first + count - 1)
            model[first - 1 :] = tail
            writes.append(Persist(entries=tail))
        log.append([Persist(hard_state=hard_state(term, vote=1)), *writes])
        log.close()
        log = RaftStorage.open(path)
        assert list(log.load().entries) == model
        assert log.last_index == len(model)
    log.close()
