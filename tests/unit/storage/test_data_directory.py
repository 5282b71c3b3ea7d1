"""One process per data directory, and no leftovers of a crash in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from parleyd.machine.machine import StateMachine
from parleyd.page_checksums import checksum_vfs
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.disk_space import DiskSpace
from parleyd.storage.errors import CopyFailedError, DirectoryBusyError, StorageDamagedError, StorageError
from parleyd.storage.snapshots import TEMPORARY_SUFFIX
from tests.unit.storage.log_helpers import meta

HOLDER = """
import sys
from pathlib import Path
from parleyd.storage.data_directory import DataDirectory
with DataDirectory.open(Path(sys.argv[1])):
    print("open", flush=True)
    sys.stdin.read()
"""


def test_directory_is_made_for_its_owner_only(tmp_path: Path) -> None:
    with DataDirectory.open(tmp_path / "a" / "data") as data:
        assert data.path.stat().st_mode & 0o777 == 0o700
        assert data.snapshots.is_dir()


def test_files_that_others_could_read_are_taken_from_them(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    DataDirectory.open(folder).close()
    (folder / "state.sqlite").touch()
    (folder / "state.sqlite").chmod(0o644)
    with DataDirectory.open(folder):
        assert [path.stat().st_mode & 0o077 for path in folder.iterdir()] == [0, 0, 0]


def test_existing_directory_is_closed_to_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with DataDirectory.open(tmp_path):
        assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_second_process_is_refused_and_told_who_runs(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(DirectoryBusyError, match=rf"process {holder.pid}.*data is untouched"):
            DataDirectory.open(tmp_path)
        holder.stdin.close()
    with DataDirectory.open(tmp_path):
        pass


def test_killed_process_leaves_the_directory_free(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.kill()
    with DataDirectory.open(tmp_path):
        pass


def test_directory_may_be_opened_again_after_close(tmp_path: Path) -> None:
    data = DataDirectory.open(tmp_path)
    with pytest.raises(DirectoryBusyError):
        DataDirectory.open(tmp_path)
    data.close()
    data.close()
    DataDirectory.open(tmp_path).close()


def test_leftovers_of_a_crash_are_removed_and_data_is_not(tmp_path: Path) -> None:
    with DataDirectory.open(tmp_path) as data:
        kept = [data.raft_db, data.state_db, data.identity, data.path / "state.sqlite-wal"]
        stale = [
            data.path / "identity.json.tmp",
            data.path / "state.sqlite.tmp",
            data.path / "state.sqlite.tmp-wal",
            data.snapshots / "incoming-12.tmp",
            data.snapshots / "incoming-12.received",
            data.snapshots / "state-latest.sqlite",
        ]
        for path in kept + stale:
            path.write_bytes(b"x")
    with DataDirectory.open(tmp_path):
        assert all(path.exists() for path in kept)
        assert not any(path.exists() for path in stale)


def test_founding_cut_short_is_cleared_away(tmp_path: Path) -> None:
    with DataDirectory.open(tmp_path) as data:
        names = ["raft.sqlite", "raft.sqlite-wal", "state.sqlite", "state.sqlite-wal", "state.sqlite-shm"]
        for name in names:
            (data.path / name).write_bytes(b"x")
        data.identity.write_bytes(b"kept")
        data.discard_incomplete_bootstrap()
        assert not any((data.path / name).exists() for name in names)
        assert data.identity.exists()


def test_file_in_the_place_of_the_directory_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(StorageError, match="data directory"):
        DataDirectory.open(tmp_path / "data")


def test_a_copy_that_would_use_the_reserve_is_not_begun(tmp_path: Path) -> None:
    """One follower that lagged and no room for a copy stopped every healthy node, one after the other."""
    with DataDirectory.open(tmp_path / "data") as data:
        StateMachine.create(data.state_db, [], b"").close()
        size = data.state_db.stat().st_size
        data.space = DiskSpace(data.path, 1000, measure=lambda _: 1000 + size - 1)
        with pytest.raises(CopyFailedError, match=r"does not fit.*kept in reserve.*state itself is untouched"):
            data.copy_state("copy.sqlite", lambda _: meta(0, 0))
        assert not list(data.snapshots.iterdir())
        data.space = DiskSpace(data.path, 1000, measure=lambda _: 1000 + size)
        assert data.copy_state("copy.sqlite", lambda _: meta(0, 0)).total_bytes == size


def test_pages_that_removed_messages_leave_in_the_file_are_told(tmp_path: Path) -> None:
    with DataDirectory.open(tmp_path / "data") as data:
        assert data.reusable_bytes() == 0
        StateMachine.create(data.state_db, [], b"").close()
        assert data.reusable_bytes() == 0
        connection = apsw.Connection(str(data.state_db), vfs=checksum_vfs())
        connection.execute("CREATE TABLE filler(x BLOB); INSERT INTO filler(x) VALUES(zeroblob(100000))")
        connection.execute("DROP TABLE filler")
        connection.close()
        assert 100_000 <= data.reusable_bytes() < data.state_db.stat().st_size


def test_the_free_space_is_that_of_the_disk(tmp_path: Path) -> None:
    assert DiskSpace(tmp_path, 0).free_bytes() > 0


def test_a_file_that_vanishes_while_the_folder_is_tidied_stops_no_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`parleyd admin create` renames its file, and the node that starts said that its disk had failed."""
    DataDirectory.open(tmp_path).close()
    gone = tmp_path / "administrator-claim-0.json.tmp"
    listed = Path.iterdir
    monkeypatch.setattr(Path, "glob", lambda *_: iter([gone]))
    monkeypatch.setattr(Path, "iterdir", lambda path: iter([*listed(path), *([gone] if path == tmp_path else [])]))
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    DataDirectory.open(tmp_path).close()


@pytest.mark.parametrize("content", [b"up to 9 are confirmed, and the log ends at 7", b"", b"\xff\xfe"])
def test_a_log_that_lost_entries_is_never_started_again(tmp_path: Path, content: bytes) -> None:
    with DataDirectory.open(tmp_path / "data") as data:
        data.lost_entries.write_bytes(content)
        half_made = data.snapshots / f"one{TEMPORARY_SUFFIX}"
        half_made.parent.mkdir(exist_ok=True)
        half_made.touch()
    for _ in range(2):
        with pytest.raises(StorageDamagedError, match=r"lost entries of the log .*parley cluster remove NAME"):
            DataDirectory.open(tmp_path / "data")
        assert half_made.exists(), "nothing is changed in it"
