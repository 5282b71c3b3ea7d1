"""A node makes one backup at a time beside its writer, and leaves nothing behind, however a backup ends.

What can go wrong: two at once; a reader that leaves at any moment; a disk without room; a folder that fills up; files
of others in the folder; a killed process's unfinished file.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import aclosing, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from parley_proto.v1 import admin_pb2 as pb
from parleyd.backup import making
from parleyd.backup.backup_file import BackupFile, Piece
from parleyd.backup.errors import BackupBusyError
from parleyd.backup.making import Backups
from parleyd.backup.schedule import BackupSchedule
from parleyd.backup.verify import verify
from parleyd.machine.machine import StateMachine
from parleyd.machine.records import CommittedEntry
from parleyd.storage import disk_space
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.disk_space import DiskSpace
from parleyd.storage.errors import CopyFailedError
from parleyd.storage.identity import NodeIdentity
from tests.support.raw import until_so
from tests.unit.backup.helpers import IDENTITY, batch, files_in, history, make_node
from tests.unit.machine.harness import register


@pytest.fixture
def data(tmp_path: Path) -> Iterator[DataDirectory]:
    make_node(tmp_path / "n1", history())
    with DataDirectory.open(tmp_path / "n1") as data:
        yield data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups"


async def yes() -> bool:
    return True


async def no() -> bool:
    return False


def backups_of(data: DataDirectory, identity: NodeIdentity = IDENTITY) -> Backups:
    return Backups(data, identity, yes)


async def read_all(backups: Backups) -> bytes:
    async with aclosing(backups.stream()) as chunks:
        return b"".join([chunk.data async for chunk in chunks])


async def test_a_stream_is_the_file_of_a_sound_backup(data: DataDirectory, folder: Path) -> None:
    path = folder / "streamed.backup"
    path.write_bytes(await read_all(backups_of(data)))
    assert verify(path, folder).is_current
    assert files_in(data.snapshots) == set()


async def test_without_a_majority_a_backup_says_that_it_may_lack_entries(data: DataDirectory, folder: Path) -> None:
    path = await Backups(data, IDENTITY, no).write_into(folder)
    assert not verify(path, folder).is_current


async def test_a_second_backup_at_once_is_refused_and_the_first_one_goes_on(data: DataDirectory, folder: Path) -> None:
    backups = backups_of(data)
    async with aclosing(backups.stream()) as chunks:
        await anext(chunks)
        with pytest.raises(BackupBusyError, match="one at a time"):
            await read_all(backups)
        with pytest.raises(BackupBusyError):
            await backups.write_into(folder)
        assert [chunk async for chunk in chunks]
    assert await read_all(backups)


async def test_a_reader_that_leaves_while_the_copy_is_made_leaves_nothing(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    copy_state = data.copy_state

    def slowly(*arguments: Any) -> Any:
        go_on.wait(10)
        return copy_state(*arguments)

    monkeypatch.setattr(data, "copy_state", slowly)
    monkeypatch.setattr(making, "ALIVE_S", 0.001)
    backups = backups_of(data)
    chunks = backups.stream()
    assert await anext(chunks) == pb.BackupChunk(), "the reader hears from the node"
    await chunks.aclose()
    with pytest.raises(BackupBusyError):
        await read_all(backups)
    go_on.set()
    await until_so(lambda: not backups._busy)
    assert files_in(data.snapshots) == set()
    assert await read_all(backups)


async def test_a_reader_that_leaves_in_the_middle_leaves_nothing(data: DataDirectory) -> None:
    backups = backups_of(data)
    chunks = backups.stream()
    while not (await anext(chunks)).data:
        pass
    assert files_in(data.snapshots)
    await chunks.aclose()
    assert files_in(data.snapshots) == set()
    assert await read_all(backups)


async def test_a_backup_under_load_is_of_one_moment(
    data: DataDirectory, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes: dict[int, bytes] = {}
    stop = threading.Event()

    def write() -> None:
        with closing(StateMachine.open(data.state_db)) as machine:
            while not stop.is_set():
                index = machine.applied_index + 1
                payload = batch(register(f"more{index}"), level=machine.level)
                machine.apply([CommittedEntry(index, 7, payload)])
                hashes[index] = machine.state_hash

    writer = threading.Thread(target=write)
    writer.start()
    try:
        await until_so(lambda: len(hashes) >= 5)
        headers = []
        for number in range(3):
            path = folder / f"{number}.backup"
            path.write_bytes(await read_all(backups_of(data)))
            headers.append(verify(path, folder))
    finally:
        stop.set()
        writer.join()
    assert [header.state_hash for header in headers] == [hashes[header.index] for header in headers]


async def test_without_room_for_the_copy_nothing_is_made(
    data: DataDirectory, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "space", DiskSpace(data.path, 1000, measure=lambda _: 2000))
    with pytest.raises(CopyFailedError, match="kept in reserve"):
        await read_all(backups_of(data))
    monkeypatch.undo()
    assert await read_all(backups_of(data))


async def test_a_folder_without_room_above_the_reserve_gets_no_file(
    data: DataDirectory, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = disk_space.free_bytes_of
    monkeypatch.setattr(DiskSpace.__init__, "__defaults__", (lambda path: 10 if path == folder else measure(path),))
    with pytest.raises(CopyFailedError, match="does not fit"):
        await backups_of(data).write_into(folder)
    assert files_in(folder) == files_in(data.snapshots) == set()


async def test_a_folder_that_fills_up_keeps_no_part_of_a_file(
    data: DataDirectory, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(making, "fsync_path", full)
    with pytest.raises(OSError, match="No space left"):
        await backups_of(data).write_into(folder)
    assert files_in(folder) == files_in(data.snapshots) == set()


async def test_a_node_that_stops_does_not_wait_for_the_rest_of_the_backup_that_it_writes(
    data: DataDirectory, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, over = threading.Event(), threading.Event()

    def endless(header: pb.BackupHeader, content: Iterable[bytes]) -> Iterator[Piece]:
        while not over.wait(0.001):
            yield Piece(b"more", 0)
            begun.set()

    monkeypatch.setattr(making, "encode", endless)
    backups = backups_of(data)
    writing = asyncio.ensure_future(backups.write_into(folder))
    try:
        await asyncio.to_thread(begun.wait, 10)
        writing.cancel()
        await asyncio.wait({writing}, timeout=5)
        assert writing.cancelled()
        assert files_in(folder) == files_in(data.snapshots) == set()
    finally:
        over.set()
    monkeypatch.undo()
    assert await backups.write_into(folder)


# ---- the schedule


class Clock:
    """A wall clock that only the test moves."""

    def __init__(self) -> None:
        self.now_s = 2_000_000_000.0

    def __call__(self) -> float:
        return self.now_s


def schedule_of(backups: Backups, folder: Path, clock: Clock, *, keep: int = 2, may: bool = True) -> BackupSchedule:
    return BackupSchedule(backups, folder, 3600, keep, lambda: may, clock)


async def step(schedule: BackupSchedule, folder: Path, clock: Clock) -> set[str]:
    """One look; what it wrote gets the clock's time. Return the new files."""
    before = files_in(folder)
    await schedule.step(folder)
    new = files_in(folder) - before
    for name in new:
        os.utime(folder / name, (clock.now_s, clock.now_s))
    return new


def distinct_times(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """Let the names of backups follow the test's clock."""
    monkeypatch.setattr(making, "time", SimpleNamespace(time_ns=lambda: int(clock.now_s * 1e9)))


async def test_backups_are_written_when_they_are_due_and_the_oldest_ones_go(
    data: DataDirectory, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    distinct_times(monkeypatch, clock)
    schedule = schedule_of(backups_of(data), folder, clock)
    assert schedule.newest_at_s == 0.0
    [first] = await step(schedule, folder, clock)
    assert schedule.newest_at_s == clock.now_s
    assert await step(schedule, folder, clock) == set(), "the next one is not due"
    again = schedule_of(backups_of(data), folder, clock)
    assert await step(again, folder, clock) == set(), "a restart makes none either"
    assert again.newest_at_s == clock.now_s
    clock.now_s += 3601
    [second] = await step(again, folder, clock)
    clock.now_s += 3601
    [third] = await step(again, folder, clock)
    assert files_in(folder) == {second, third}
    assert first not in files_in(folder)
    assert again.outcomes == {"written": 2, "failed": 0}
    verify(folder / third, folder)


async def test_a_folder_whose_disk_hangs_stops_no_more_than_a_thread(
    data: DataDirectory, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat, loop_thread, looks = Path.stat, threading.get_ident(), []

    def noting(path: Path, **options: Any) -> os.stat_result:
        if path.is_relative_to(folder):
            looks.append(threading.get_ident())
        return stat(path, **options)

    schedule = schedule_of(backups_of(data), folder, Clock())
    monkeypatch.setattr(Path, "stat", noting)
    for _ in range(2):
        await schedule.step(folder)
    assert looks
    assert loop_thread not in looks


async def test_a_pipe_among_the_backups_holds_up_none(data: DataDirectory, folder: Path) -> None:
    """The node opened it, waited for a writer for ever, and made no backup any more."""
    pipe = folder / f"{making._prefix_of(IDENTITY)}-20200101T000000Z-1.backup"
    assert making.file_pattern(IDENTITY).fullmatch(pipe.name)
    os.mkfifo(pipe)
    clock = Clock()
    schedule = schedule_of(backups_of(data), folder, clock)
    async with asyncio.timeout(20):
        assert len(await step(schedule, folder, clock)) == 1
    assert pipe.is_fifo()


async def test_files_that_this_node_did_not_make_stay(
    data: DataDirectory, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    distinct_times(monkeypatch, clock)
    others = NodeIdentity(IDENTITY.node_id, "n1-2", IDENTITY.cluster_id, IDENTITY.bootstrap_members)
    theirs = await backups_of(data, others).write_into(folder)
    alike = folder / theirs.name.replace("-n1-2-", "-n1-")  # named like this node's, made by another
    alike.write_bytes(theirs.read_bytes())
    notes = folder / "notes.backup"
    notes.write_text("mine")
    schedule = schedule_of(backups_of(data), folder, clock, keep=1)
    for _ in range(3):
        clock.now_s += 3601
        await step(schedule, folder, clock)
    assert {theirs.name, alike.name, notes.name} < files_in(folder)
    assert len(files_in(folder)) == 4


async def test_an_older_backup_stays_if_the_new_one_fails(
    data: DataDirectory, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    distinct_times(monkeypatch, clock)
    schedule = schedule_of(backups_of(data), folder, clock, keep=1)
    kept = await step(schedule, folder, clock)
    clock.now_s += 3601

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "bad disk")

    with monkeypatch.context() as patch:
        patch.setattr(making, "rename_durably", fail)
        assert await step(schedule, folder, clock) == set()
    assert files_in(folder) == kept
    assert schedule.outcomes == {"written": 1, "failed": 1}
    assert schedule.age_s() == 3601, "the older one still counts"
    assert await step(schedule, folder, clock) == set(), "not at once again"
    clock.now_s += 301
    assert await step(schedule, folder, clock)


def test_without_a_backup_the_age_counts_from_the_start_and_is_0_if_none_are_planned(
    data: DataDirectory, folder: Path
) -> None:
    clock = Clock()
    planned = schedule_of(backups_of(data), folder, clock)
    none = BackupSchedule(backups_of(data), None, 3600, 2, lambda: True, clock)
    clock.now_s += 100
    assert (planned.age_s(), none.age_s()) == (100, 0)


async def test_a_folder_that_is_missing_is_reported_and_not_made(data: DataDirectory, tmp_path: Path) -> None:
    missing = tmp_path / "not mounted"
    assert await schedule_of(backups_of(data), missing, Clock()).step(missing) > 0
    assert not missing.exists()


async def test_a_node_whose_state_is_not_trusted_writes_none(data: DataDirectory, folder: Path) -> None:
    await schedule_of(backups_of(data), folder, Clock(), may=False).step(folder)
    assert files_in(folder) == set()


async def test_what_a_killed_node_left_of_a_backup_goes_with_the_next_one(data: DataDirectory, folder: Path) -> None:
    made = await backups_of(data).write_into(folder)
    left = made.with_name(made.name + ".tmp")
    made.rename(left)
    foreign = folder / "other.backup.tmp"
    foreign.write_text("mine")
    made = await backups_of(data).write_into(folder)
    assert files_in(folder) == {made.name, foreign.name}
    with BackupFile.open(made) as file:
        assert file.header.node_name == "n1"
