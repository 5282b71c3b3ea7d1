"""`parleyd doctor` reads a data directory beside a running node or without one, and changes nothing in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from parleyd.doctor import directory as looks
from parleyd.doctor.directory import holder_of, look_at_directory, look_at_pages
from parleyd.doctor.facts import DirectoryLook
from parleyd.group.opening import create_files, open_files
from parleyd.raft.types import NodeId
from parleyd.storage import fence, lost_entries, place
from parleyd.storage import identity as identities
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.identity import NodeIdentity, PeerInfo, cluster_id_of

MEMBERS = (PeerInfo(NodeId(1), "n1", "127.0.0.1:7000", "127.0.0.1:7001"),)
PAGE_BYTES = 4_096


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The directory of a node that has stopped."""
    with DataDirectory.open(tmp_path / "data") as data:
        bootstrapped = NodeIdentity(NodeId(1), "n1", cluster_id_of(MEMBERS), MEMBERS)
        create_files(data, bootstrapped)
        identities.save(data.identity, bootstrapped)
    return tmp_path / "data"


@pytest.fixture
def running(folder: Path) -> Iterator[Path]:
    """The directory of a node that runs: locked, its databases open."""
    with DataDirectory.open(folder) as data:
        log, machine = open_files(data)
        with closing(log), closing(machine):
            yield folder


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "RETRY_S", 0.0)


def content_of(folder: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """What is in a folder: sizes, times, rights and bytes."""
    return {
        path.name: (path.stat().st_size, path.stat().st_mtime_ns, path.stat().st_mode, path.read_bytes())
        for path in folder.iterdir()
        if path.is_file()
    }


def alter(path: Path, at: int) -> None:
    """Flip a bit."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_nothing_is_wrong_with_the_directory_of_a_node_that_has_stopped(folder: Path) -> None:
    assert look_at_directory(folder) == DirectoryLook(str(folder), identity_name="n1")
    pages = look_at_pages(folder / "state.sqlite")
    assert pages is not None
    assert (pages.checked, pages.damaged, pages.error) == (pages.total, (), "")
    assert pages.total > 5


def test_nothing_is_wrong_beside_a_running_node_which_is_named_by_its_process(running: Path) -> None:
    assert look_at_directory(running) == DirectoryLook(str(running), identity_name="n1", holder_pid=os.getpid())


@pytest.mark.parametrize("state", ["folder", "running"])
def test_a_look_changes_nothing(state: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(state)
    before = content_of(folder)
    look_at_directory(folder)
    look_at_pages(folder / "state.sqlite")
    assert content_of(folder) == before


def test_a_node_can_start_while_it_is_looked_at(folder: Path) -> None:
    look_at_directory(folder)
    with DataDirectory.open(folder) as data:
        log, machine = open_files(data)
        look_at_directory(folder)
        log.close()
        machine.close()


def test_a_missing_directory_is_no_error_and_is_not_made(tmp_path: Path) -> None:
    assert look_at_directory(tmp_path / "none") == DirectoryLook(str(tmp_path / "none"), exists=False)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_directory_is_that_of_a_node_that_never_started(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    assert look_at_directory(tmp_path) == DirectoryLook(str(tmp_path))
    assert look_at_pages(tmp_path / "state.sqlite") is None


def test_a_file_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    assert "is not a folder" in look_at_directory(tmp_path / "data").error


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_directory_that_cannot_be_written_is_named(folder: Path) -> None:
    folder.chmod(0o500)
    assert "may not read and write" in look_at_directory(folder).error
    folder.chmod(0o700)


def test_a_directory_that_others_can_read_is_not_private(folder: Path) -> None:
    folder.chmod(0o750)
    assert not look_at_directory(folder).is_private


def test_a_damaged_identity_is_named(folder: Path) -> None:
    path = folder / "identity.json"
    path.write_text(path.read_text().replace('"n1"', '"n2"', 1))
    assert "does not match its checksum" in look_at_directory(folder).identity_error


def test_a_log_that_is_none_is_named(folder: Path) -> None:
    (folder / "raft.sqlite").write_bytes(b"x" * PAGE_BYTES)
    look = look_at_directory(folder)
    assert look.log_error
    assert look.state_error == ""


def test_a_log_of_a_later_format_is_named(folder: Path) -> None:
    with closing(apsw.Connection(str(folder / "raft.sqlite"))) as connection:
        connection.execute("UPDATE format SET version = 99")
    assert "format" in look_at_directory(folder).log_error


def test_damage_in_the_write_ahead_log_is_named_if_the_node_does_not_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "find_wal_damage", lambda *_: "frame 3 is damaged")
    assert "frame 3 is damaged" in look_at_directory(folder).log_error
    with DataDirectory.open(folder):
        assert look_at_directory(folder).log_error == ""


def test_a_state_that_is_none_is_named(folder: Path) -> None:
    (folder / "state.sqlite").write_bytes(b"x" * PAGE_BYTES)
    assert look_at_directory(folder).state_error


def test_a_flipped_bit_in_a_page_of_the_state_is_found(folder: Path) -> None:
    alter(folder / "state.sqlite", 3 * PAGE_BYTES + 100)
    pages = look_at_pages(folder / "state.sqlite")
    assert pages is not None
    assert pages.damaged == (4,)


def test_a_page_that_is_whole_at_the_second_attempt_is_no_damage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = folder / "state.sqlite"
    whole = state.read_bytes()
    alter(state, 3 * PAGE_BYTES + 100)
    monkeypatch.setattr(looks, "sleep", lambda _: state.write_bytes(whole))
    pages = look_at_pages(state)
    assert pages is not None
    assert pages.damaged == ()


def test_many_pages_are_compared_only_in_part_and_not_for_long(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "MAX_PAGES", 4)
    few = look_at_pages(folder / "state.sqlite")
    assert few is not None
    assert 1 < few.checked <= 4 < few.total
    times = iter([0.0, 0.0, 100.0])
    late = look_at_pages(folder / "state.sqlite", clock=lambda: next(times))
    assert late is not None
    assert late.checked == 1


def test_a_state_without_checksums_is_named(tmp_path: Path) -> None:
    with closing(apsw.Connection(str(tmp_path / "state.sqlite"))) as connection:
        connection.execute("CREATE TABLE t(x)")
    pages = look_at_pages(tmp_path / "state.sqlite")
    assert pages is not None
    assert "no pages with checksums" in pages.error


def test_the_marks_of_a_fenced_node_and_of_a_lost_log_are_read(folder: Path) -> None:
    fence.save(folder / "fenced.json", fence.Fence("its state differs at entry 7"))
    lost_entries.save(folder / "lost-entries", "entries 3 to 9")
    look = look_at_directory(folder)
    assert look.fence == "its state differs at entry 7"
    assert "entries 3 to 9" in look.lost_entries


def test_a_copy_is_told_from_its_original_and_nothing_is_written(folder: Path, tmp_path: Path) -> None:
    assert look_at_directory(folder).place_error == ""
    assert not (folder / "place.json").exists()
    place.check(folder)
    shutil.copytree(folder, tmp_path / "copy")
    assert look_at_directory(folder).place_error == ""
    assert "is a copy of the data directory" in look_at_directory(tmp_path / "copy").place_error


def test_the_holder_of_a_lock_is_that_of_the_same_file(tmp_path: Path) -> None:
    lock, other = tmp_path / "lock", tmp_path / "other"
    for path in (lock, other):
        path.touch()
    listed = tmp_path / "locks"
    status = other.stat()
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    listed.write_text(
        f"1: POSIX  ADVISORY  WRITE 7 {device}:{lock.stat().st_ino} 0 EOF\n"
        f"2: FLOCK  ADVISORY  WRITE 8 {device}:{other.stat().st_ino} 0 EOF\n"
    )
    assert (holder_of(lock, listed), holder_of(other, listed)) == (0, 8)
    listed.write_text(f"1: FLOCK  ADVISORY  WRITE 9 00:99:{lock.stat().st_ino} 0 EOF\n")
    assert holder_of(lock, listed) == 0, "another file system may have a file of this number"
    lock.write_text("9\n")
    assert holder_of(lock, listed) == 9
    assert holder_of(lock, tmp_path / "none") == 0
    assert holder_of(tmp_path / "none", listed) == 0
