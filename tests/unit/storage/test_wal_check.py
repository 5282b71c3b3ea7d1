"""A write-ahead log cut short by a crash is normal; one with a flipped bit in the middle is a lost promise."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from parleyd.raft.types import Entry
from parleyd.raft.update import Persist
from parleyd.storage import wal_check
from parleyd.storage.errors import StorageDamagedError
from parleyd.storage.raft_storage import RaftStorage
from parleyd.storage.wal_check import find_wal_damage
from tests.unit.storage.log_helpers import BOOTSTRAP_MEMBERS, entries, hard_state, write

PAGE = 4096
FRAME = PAGE + 24
HEADER = 32


@pytest.fixture
def crashed(tmp_path: Path) -> Path:
    """A log as a power cut leaves it: ten acknowledged entries in the WAL, one transaction each."""
    live = tmp_path / "live" / "raft.sqlite"
    live.parent.mkdir()
    log = RaftStorage.open(live)
    log.initialize(BOOTSTRAP_MEMBERS)
    for index in range(1, 11):
        log.append([Persist(hard_state=hard_state(1, vote=1, commit=index - 1), entries=entries(1, index, index))])
    copy = tmp_path / "crashed" / "raft.sqlite"
    shutil.copytree(live.parent, copy.parent)
    log.close()
    return copy


def wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def frames(path: Path) -> int:
    return (wal(path).stat().st_size - HEADER) // FRAME


def flip(path: Path, offset: int) -> None:
    content = bytearray(wal(path).read_bytes())
    content[offset] ^= 0x01
    wal(path).write_bytes(content)


def read_back(path: Path) -> tuple[Entry, ...]:
    log = RaftStorage.open(path)
    try:
        return log.load().entries
    finally:
        log.close()


def test_sound_write_ahead_log_is_recovered_whole(crashed: Path) -> None:
    assert find_wal_damage(wal(crashed), PAGE) is None
    assert read_back(crashed) == entries(1, 1, 10)


@pytest.mark.parametrize("missing_bytes", [1, 100, PAGE, FRAME - 1])
def test_torn_last_write_is_cut_and_all_before_it_kept(crashed: Path, missing_bytes: int) -> None:
    content = wal(crashed).read_bytes()
    wal(crashed).write_bytes(content[:-missing_bytes])
    assert read_back(crashed) == entries(1, 1, 9)


def test_last_write_torn_in_its_first_page_is_cut(crashed: Path) -> None:
    """Pages may reach the disk in any order: the last frame there, the one before it not."""
    content = bytearray(wal(crashed).read_bytes())
    start = HEADER + (frames(crashed) - 2) * FRAME
    content[start : start + FRAME] = bytes(FRAME)
    wal(crashed).write_bytes(content)
    assert read_back(crashed) == entries(1, 1, 9)


@pytest.mark.parametrize("frame", [0, 1, 5, 12, 16])
@pytest.mark.parametrize("offset", [0, 10, 20, 24, 2000])
def test_flipped_bit_in_the_middle_refuses_to_start(crashed: Path, frame: int, offset: int) -> None:
    assert frames(crashed) > 18
    flip(crashed, HEADER + frame * FRAME + offset)
    with pytest.raises(StorageDamagedError, match="acknowledged entries are lost"):
        RaftStorage.open(crashed)


@pytest.mark.parametrize("offset", [0, 4, 8, 16, 20, 24, 31])
def test_flipped_bit_in_the_header_refuses_to_start(crashed: Path, offset: int) -> None:
    flip(crashed, offset)
    with pytest.raises(StorageDamagedError):
        RaftStorage.open(crashed)


def test_every_flipped_byte_is_refused_or_costs_only_the_last_write(crashed: Path, tmp_path: Path) -> None:
    """The last transaction cannot be told from a torn one; anything before it can."""
    size = wal(crashed).stat().st_size
    last_transaction = HEADER + (frames(crashed) - 4) * FRAME
    for offset in range(0, size, 509):
        copy = tmp_path / f"flip-{offset}" / "raft.sqlite"
        shutil.copytree(crashed.parent, copy.parent)
        flip(copy, offset)
        damage = find_wal_damage(wal(copy), PAGE)
        assert damage is not None or offset >= last_transaction, offset


def test_frames_of_an_earlier_generation_are_no_damage(tmp_path: Path) -> None:
    """After a checkpoint SQLite writes from the top again; behind the new frames stand old ones with other salts."""
    live = tmp_path / "live" / "raft.sqlite"
    live.parent.mkdir()
    log = RaftStorage.open(live)
    log.initialize(BOOTSTRAP_MEMBERS)
    log.append([write(1, 1, 200, bytes(3000))])
    log._connection.wal_checkpoint()
    log.append([write(1, 201, 201), write(1, 202, 202)])
    copy = tmp_path / "crashed" / "raft.sqlite"
    shutil.copytree(live.parent, copy.parent)
    log.close()
    assert frames(copy) > 100
    assert find_wal_damage(wal(copy), PAGE) is None
    assert len(read_back(copy)) == 202


def test_leftovers_of_a_torn_write_are_not_taken_for_damage_after_later_writes(crashed: Path, tmp_path: Path) -> None:
    content = wal(crashed).read_bytes()
    wal(crashed).write_bytes(content[:-1])
    log = RaftStorage.open(crashed)
    log.append([write(1, 10, 10)])
    again = tmp_path / "again" / "raft.sqlite"
    shutil.copytree(crashed.parent, again.parent)
    log.close()
    assert read_back(again) == entries(1, 1, 10)


def test_leftovers_of_an_earlier_crash_are_not_taken_for_damage_after_a_second_one(
    crashed: Path, tmp_path: Path
) -> None:
    """A long torn transaction, a start, then a short torn one over its beginning: nothing synced is lost."""
    log = RaftStorage.open(crashed)
    log.append([write(1, 11, 11)])
    log.append([write(1, 12, 60, bytes(3000))])
    first = tmp_path / "first" / "raft.sqlite"
    shutil.copytree(crashed.parent, first.parent)
    log.close()
    long_from = HEADER + (frames(first) - 40) * FRAME
    flip(first, long_from + 100)
    log = RaftStorage.open(first)
    assert log.load().last_index == 11
    log.append([write(1, 12, 12), write(1, 13, 13)])
    second = tmp_path / "second" / "raft.sqlite"
    shutil.copytree(first.parent, second.parent)
    log.close()
    last_valid = max(frame.number for frame in wal_check._frames(wal(second), PAGE) if frame.valid)
    flip(second, HEADER + (last_valid - 1) * FRAME + 100)
    assert read_back(second) == entries(1, 1, 11)


def test_absent_or_empty_write_ahead_log_is_sound(tmp_path: Path) -> None:
    assert find_wal_damage(tmp_path / "none", PAGE) is None
    (tmp_path / "empty").write_bytes(b"")
    assert find_wal_damage(tmp_path / "empty", PAGE) is None
