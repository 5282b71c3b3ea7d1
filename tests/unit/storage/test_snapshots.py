"""Whole copies of a database: consistent beside a writer, verified on arrival, installed atomically."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import apsw
import pytest

from parleyd.page_checksums import checksum_vfs, reserve_checksums
from parleyd.raft.types import SnapshotMeta
from parleyd.storage import files, snapshots
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.errors import CopyFailedError, SnapshotTransferError, StorageError
from parleyd.storage.snapshots import (
    SnapshotFile,
    SnapshotReceiver,
    finish_install,
    install,
    read_chunks,
    write_snapshot,
)
from tests.unit.storage.log_helpers import meta

ROWS = 300


def make_state(path: Path, value: int) -> apsw.Connection:
    """A database in which every row holds `value`, all of it in the WAL's care."""
    connection = apsw.Connection(str(path), vfs=checksum_vfs())
    reserve_checksums(connection)
    connection.pragma("journal_mode", "wal")
    connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, value INTEGER, filler BLOB)")
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO t VALUES(?, ?, zeroblob(500))", [(row, value) for row in range(ROWS)])
    connection.execute("COMMIT")
    return connection


def set_all(connection: apsw.Connection, value: int) -> None:
    connection.execute("UPDATE t SET value = ?", (value,))


def values(path: Path) -> set[int]:
    """All values in the file and its WAL: one, unless two states were mixed."""
    connection = apsw.Connection(str(path), vfs=checksum_vfs())
    try:
        assert connection.pragma("integrity_check") == "ok"
        return {row[0] for row in connection.execute("SELECT value FROM t").fetchall()}  # type: ignore[misc]
    finally:
        connection.close()


def describe(connection: apsw.Connection) -> SnapshotMeta:
    return meta(connection.execute("SELECT min(value) FROM t").get, 1)


def receive(snapshot: SnapshotFile, folder: Path) -> Path:
    receiver = SnapshotReceiver(folder, snapshot.total_bytes, snapshot.sha256)
    for chunk in read_chunks(snapshot.path, 10_000):
        receiver.write(chunk)
    return receiver.finish()


# ---- making


def test_snapshot_holds_what_is_only_in_the_wal_and_says_what_it_covers(tmp_path: Path) -> None:
    connection = make_state(tmp_path / "state.sqlite", 7)
    snapshot = write_snapshot(tmp_path / "state.sqlite", tmp_path / "copy.sqlite", describe)
    connection.close()
    content = snapshot.path.read_bytes()
    assert snapshot == SnapshotFile(
        tmp_path / "copy.sqlite", meta(7, 1), len(content), hashlib.sha256(content).digest()
    )
    assert values(snapshot.path) == {7}


def test_snapshot_beside_a_busy_writer_is_of_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "PAGES_PER_STEP", 3)
    connection = make_state(tmp_path / "state.sqlite", 0)
    stop = threading.Event()
    written = 0

    def keep_writing() -> None:
        nonlocal written
        while not stop.is_set():
            set_all(connection, written + 1)
            written += 1

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        for number in range(5):
            before = written  # may be one behind what is stored, never ahead
            snapshot = write_snapshot(tmp_path / "state.sqlite", tmp_path / f"copy{number}.sqlite", describe)
            assert values(snapshot.path) == {snapshot.meta.index}
            assert snapshot.meta.index >= before
    finally:
        stop.set()
        writer.join()
        connection.close()


def test_writer_is_not_held_up_while_a_copy_is_made(tmp_path: Path) -> None:
    connection = make_state(tmp_path / "state.sqlite", 1)

    def write_meanwhile(source: apsw.Connection) -> SnapshotMeta:
        found = describe(source)
        set_all(connection, 2)
        return found

    snapshot = write_snapshot(tmp_path / "state.sqlite", tmp_path / "copy.sqlite", write_meanwhile)
    connection.close()
    assert values(snapshot.path) == {1}
    assert values(tmp_path / "state.sqlite") == {2}


def test_failed_copy_leaves_nothing_behind(tmp_path: Path) -> None:
    make_state(tmp_path / "state.sqlite", 1).close()

    def fail(_: apsw.Connection) -> SnapshotMeta:
        raise apsw.IOError("bad sector")

    with pytest.raises(CopyFailedError, match="state itself is untouched"):
        write_snapshot(tmp_path / "state.sqlite", tmp_path / "copy.sqlite", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["state.sqlite"]


def test_a_disk_that_fills_up_during_a_copy_is_told_by_its_name(tmp_path: Path) -> None:
    make_state(tmp_path / "state.sqlite", 1).close()

    def fill_up(_: apsw.Connection) -> SnapshotMeta:
        raise apsw.FullError("not an error")  # what SQLite says when its backup meets a full disk

    with pytest.raises(CopyFailedError, match="the disk is full"):
        write_snapshot(tmp_path / "state.sqlite", tmp_path / "copy.sqlite", fill_up)
    assert [path.name for path in tmp_path.iterdir()] == ["state.sqlite"]


def test_snapshot_is_durable_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_state(tmp_path / "state.sqlite", 1).close()
    calls: list[str] = []
    hooked(monkeypatch, calls.append)
    write_snapshot(tmp_path / "state.sqlite", tmp_path / "copy.sqlite", describe)
    done = [call.removeprefix("after ") for call in calls if call.startswith("after")]
    assert done == [*["unlink"] * 4, "fsync", "rename", "fsync", "unlink"]


# ---- receiving


@pytest.fixture
def snapshot(tmp_path: Path) -> SnapshotFile:
    (tmp_path / "source").mkdir()
    make_state(tmp_path / "source" / "state.sqlite", 9).close()
    return write_snapshot(tmp_path / "source" / "state.sqlite", tmp_path / "source" / "copy.sqlite", describe)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def test_received_snapshot_is_the_one_sent(snapshot: SnapshotFile, inbox: Path) -> None:
    received = receive(snapshot, inbox)
    assert received.read_bytes() == snapshot.path.read_bytes()
    assert list(inbox.iterdir()) == [received]


def test_received_snapshot_is_durable_before_it_has_its_name(
    snapshot: SnapshotFile, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced_bytes: list[int] = []
    renamed_after: list[list[int]] = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        synced_bytes.append(os.fstat(descriptor).st_size)
        real_fsync(descriptor)

    def replace(source: Path, target: Path) -> None:
        renamed_after.append(list(synced_bytes))
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    receive(snapshot, inbox)
    assert renamed_after == [[snapshot.total_bytes]]


def test_short_snapshot_is_refused_and_removed(snapshot: SnapshotFile, inbox: Path) -> None:
    receiver = SnapshotReceiver(inbox, snapshot.total_bytes, snapshot.sha256)
    receiver.write(snapshot.path.read_bytes()[:-1])
    with pytest.raises(SnapshotTransferError, match="ended after"):
        receiver.finish()
    assert list(inbox.iterdir()) == []


def test_long_snapshot_is_refused_before_it_is_written(snapshot: SnapshotFile, inbox: Path) -> None:
    receiver = SnapshotReceiver(inbox, snapshot.total_bytes, snapshot.sha256)
    receiver.write(snapshot.path.read_bytes())
    with pytest.raises(SnapshotTransferError, match="longer"):
        receiver.write(b"x")
    assert list(inbox.iterdir()) == []


def test_altered_snapshot_is_refused_and_removed(snapshot: SnapshotFile, inbox: Path) -> None:
    content = bytearray(snapshot.path.read_bytes())
    content[5000] ^= 1
    receiver = SnapshotReceiver(inbox, snapshot.total_bytes, snapshot.sha256)
    receiver.write(bytes(content))
    with pytest.raises(SnapshotTransferError, match="SHA-256"):
        receiver.finish()
    assert list(inbox.iterdir()) == []


def test_abort_removes_what_came_and_may_be_called_again(snapshot: SnapshotFile, inbox: Path) -> None:
    receiver = SnapshotReceiver(inbox, snapshot.total_bytes, snapshot.sha256)
    receiver.write(b"some")
    receiver.abort()
    receiver.abort()
    assert list(inbox.iterdir()) == []


def test_snapshot_that_does_not_fit_is_refused_before_it_starts(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, snapshots.FREE_BYTES_TO_KEEP + 99))
    with pytest.raises(SnapshotTransferError, match="does not fit"):
        SnapshotReceiver(inbox, 100, b"")
    assert list(inbox.iterdir()) == []


class _FailingFile:
    """Stands in for the open file of a receiver."""

    def __init__(self, error_number: int) -> None:
        self._error_number = error_number

    def write(self, _: object) -> int:
        raise OSError(self._error_number, os.strerror(self._error_number))

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("error_number", "expected"), [(errno.ENOSPC, SnapshotTransferError), (errno.EIO, StorageError)]
)
def test_full_disk_ends_the_transfer_and_a_broken_one_the_node(
    snapshot: SnapshotFile, inbox: Path, error_number: int, expected: type[Exception]
) -> None:
    receiver = SnapshotReceiver(inbox, snapshot.total_bytes, snapshot.sha256)
    receiver._file.close()
    receiver._file = _FailingFile(error_number)  # type: ignore[assignment]
    with pytest.raises(expected):
        receiver.write(b"x" * 100)
    assert list(inbox.iterdir()) == []


class _ShortWrites:
    """A file that takes at most a hundred bytes at a time, as write(2) may."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        return self._file.write(data[:100])

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()


def test_write_that_takes_less_than_given_is_continued(snapshot: SnapshotFile, inbox: Path) -> None:
    receiver = SnapshotReceiver(inbox, snapshot.total_bytes, snapshot.sha256)
    receiver._file = _ShortWrites(receiver._file)  # type: ignore[assignment]
    receiver.write(snapshot.path.read_bytes())
    assert receiver.finish().read_bytes() == snapshot.path.read_bytes()


# ---- installing


class _Crash(BaseException):
    """The process dies here."""


@pytest.fixture
def data(tmp_path: Path, snapshot: SnapshotFile) -> tuple[Path, Path]:
    """A data directory whose old state (1) was left by kill -9, its rows in the WAL only, and a received copy (9)."""
    live = tmp_path / "live"
    live.mkdir()
    connection = make_state(live / "state.sqlite", 0)
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    set_all(connection, 1)
    folder = tmp_path / "data"
    shutil.copytree(live, folder)
    connection.close()
    (folder / "snapshots").mkdir()
    assert (folder / "state.sqlite-wal").stat().st_size > 0
    return folder, receive(snapshot, folder / "snapshots")


def test_installed_state_replaces_the_old_one_and_its_wal(data: tuple[Path, Path]) -> None:
    folder, received = data
    install(received, folder / "state.sqlite")
    assert sorted(path.name for path in folder.iterdir()) == ["snapshots", "state.sqlite"]
    assert values(folder / "state.sqlite") == {9}


def hooked(monkeypatch: pytest.MonkeyPatch, hook: Callable[[str], None]) -> None:
    """Call `hook` before and after every step that changes the disk."""
    real_replace, real_unlink, real_fsync = os.replace, Path.unlink, files.fsync_path

    def replace(source: Path, target: Path) -> None:
        hook("before rename")
        real_replace(source, target)
        hook("after rename")

    def unlink(path: Path, missing_ok: bool = False) -> None:
        hook("before unlink")
        real_unlink(path, missing_ok)
        hook("after unlink")

    def fsync(path: Path) -> None:
        hook("before fsync")
        real_fsync(path)
        hook("after fsync")

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(Path, "unlink", unlink)
    monkeypatch.setattr(files, "fsync_path", fsync)
    monkeypatch.setattr(snapshots, "fsync_path", fsync)


def count_steps(tmp_path: Path, data: tuple[Path, Path]) -> int:
    folder, _ = data
    copy = tmp_path / "counting"
    shutil.copytree(folder, copy)
    steps = 0

    def count(_: str) -> None:
        nonlocal steps
        steps += 1

    with pytest.MonkeyPatch.context() as monkeypatch:
        hooked(monkeypatch, count)
        install(next((copy / "snapshots").iterdir()), copy / "state.sqlite")
    return steps


def test_crash_between_any_two_steps_leaves_the_old_state_or_the_new_never_a_mixture(
    tmp_path: Path, data: tuple[Path, Path]
) -> None:
    folder, _ = data
    steps = count_steps(tmp_path, data)
    assert steps >= 12
    outcomes = []
    for crash_at in range(steps):
        copy = tmp_path / f"crash-{crash_at}"
        shutil.copytree(folder, copy)
        left = crash_at

        def crash(_: str) -> None:
            nonlocal left
            if left == 0:
                raise _Crash
            left -= 1

        with pytest.MonkeyPatch.context() as monkeypatch:
            hooked(monkeypatch, crash)
            with pytest.raises(_Crash):
                install(next((copy / "snapshots").iterdir()), copy / "state.sqlite")
        with DataDirectory.open(copy) as reopened:
            outcomes.append(values(reopened.state_db))
            assert list(reopened.snapshots.iterdir()) == []
    assert all(outcome in ({1}, {9}) for outcome in outcomes), outcomes
    # Once the new state counts, it counts for good.
    first_new = outcomes.index({9})
    assert outcomes == [{1}] * first_new + [{9}] * (steps - first_new)
    assert first_new > 0


def test_crash_while_finishing_an_interrupted_install_is_finished_by_the_next_start(
    tmp_path: Path, data: tuple[Path, Path]
) -> None:
    folder, received = data
    os.replace(received, folder / "state.sqlite.installing")
    for crash_at in range(8):
        copy = tmp_path / f"crash-{crash_at}"
        shutil.copytree(folder, copy)
        left = crash_at

        def crash(_: str) -> None:
            nonlocal left
            if left == 0:
                raise _Crash
            left -= 1

        with pytest.MonkeyPatch.context() as monkeypatch:
            hooked(monkeypatch, crash)
            with pytest.raises(_Crash):
                finish_install(copy / "state.sqlite")
        with DataDirectory.open(copy) as reopened:
            assert values(reopened.state_db) == {9}


def test_removals_are_durable_before_the_new_file_has_its_name(
    data: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, received = data
    steps: list[str] = []
    hooked(monkeypatch, steps.append)
    install(received, folder / "state.sqlite")
    done = [step.removeprefix("after ") for step in steps if step.startswith("after")]
    assert done == ["rename", "fsync", "unlink", "unlink", "unlink", "fsync", "rename", "fsync"]


def test_nothing_to_finish_is_told(tmp_path: Path) -> None:
    assert not finish_install(tmp_path / "state.sqlite")


def test_install_that_fails_is_a_storage_error(data: tuple[Path, Path]) -> None:
    folder, received = data
    received.unlink()
    with pytest.raises(StorageError):
        install(received, folder / "state.sqlite")
    assert values(folder / "state.sqlite") == {1}
