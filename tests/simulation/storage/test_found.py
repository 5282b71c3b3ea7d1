"""The bugs that these simulations found, each on its own.

SQLite says nothing of a checkpoint that fails on the side of a commit. A VFS in Python cannot show this: apsw raises
what such a VFS raised even where SQLite itself went on. So the system call beneath SQLite's own VFS fails here.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
import pytest

from parleyd.machine.errors import MachineDamagedError, MachineStorageError
from parleyd.machine.machine import StateMachine
from parleyd.page_checksums import checksum_vfs
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.errors import StorageDamagedError, StorageError
from parleyd.storage.raft_storage import RaftStorage
from tests.simulation.storage.disk import Kind
from tests.simulation.storage.recorder import Recorder
from tests.simulation.storage.workload import kill, tuned_down
from tests.unit.machine.harness import BOOTSTRAP_MEMBERS as MEMBERS
from tests.unit.machine.test_crash import entry_at
from tests.unit.storage.log_helpers import BOOTSTRAP_MEMBERS, write

_PWRITE = ctypes.CFUNCTYPE(
    ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_longlong, use_errno=True
)


@contextmanager
def no_writes_into(path: Path) -> Iterator[None]:
    """Every pwrite to `path` fails with EIO."""
    vfs = apsw.VFS("system-calls", "unix")
    name = next(name for name in ("pwrite64", "pwrite") if vfs.xGetSystemCall(name))
    before = vfs.xGetSystemCall(name)
    assert before is not None
    real = _PWRITE(before)

    def fail(descriptor: int, data: int, size: int, offset: int) -> int:
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            ctypes.set_errno(errno.EIO)
            return -1
        return int(real(descriptor, data, size, offset))

    failing = _PWRITE(fail)
    address = ctypes.cast(failing, ctypes.c_void_p).value
    assert address is not None
    vfs.xSetSystemCall(name, address)
    try:
        yield
    finally:
        vfs.xSetSystemCall(name, before)
        vfs.unregister()


def append_many(log: RaftStorage) -> None:
    for index in range(1, 30):
        log.append([write(1, index, index, b"x" * 2000)])


def apply_many(machine: StateMachine) -> None:
    for index in range(1, 60):
        machine.apply([entry_at(index)])


def test_a_checkpoint_that_fails_inside_an_append_ends_the_log(tmp_path: Path) -> None:
    path = tmp_path / "raft.sqlite"
    with tuned_down():
        log = RaftStorage.open(path)
        log.initialize(BOOTSTRAP_MEMBERS)
        with no_writes_into(path), pytest.raises(StorageError):
            append_many(log)
        with pytest.raises(StorageError, match="failed before"):
            log.append([write(1, 40, 40)])
        log.close()


def test_a_checkpoint_that_fails_beside_applies_ends_the_state_machine(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    with tuned_down():
        machine = StateMachine.create(path, MEMBERS, b"")
        apply_many(machine)
        assert machine.has_long_wal
        with no_writes_into(path), pytest.raises(MachineStorageError):
            machine.shorten_wal()
        with pytest.raises(MachineStorageError, match="already failed"):
            machine.apply([entry_at(machine.applied_index + 1)])
        machine.close()


def test_a_data_directory_is_named_durably_before_anything_is_kept_in_it(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    with recorder.recording(), DataDirectory.open(tmp_path / "var" / "lib" / "parley"):
        pass
    nothing_unsynced = recorder.disk.image([])
    assert sorted(nothing_unsynced) == ["var", "var/lib", "var/lib/parley", "var/lib/parley/snapshots"]


def test_a_data_directory_whose_making_was_cut_short_is_named_durably_by_the_next_start(tmp_path: Path) -> None:
    (tmp_path / "parley").mkdir()
    recorder = Recorder(tmp_path)
    with recorder.recording():
        recorder.note(Kind.MKDIR, "parley")
        with DataDirectory.open(tmp_path / "parley"):
            pass
    assert "parley" in recorder.disk.image([])


def log_with_reused_wal(path: Path, *, checkpointed: bool) -> None:
    """A log whose WAL has whole frames, all of them in the database or none, and a header that is being written."""
    log = RaftStorage.open(path)
    log.initialize(BOOTSTRAP_MEMBERS)
    for index in range(1, 6):
        log.append([write(1, index, index)])
    if checkpointed:
        log._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    kill(log._connection)
    with path.with_name(path.name + "-wal").open("r+b") as wal:
        wal.write(b"torn" * 8)


def test_a_header_torn_while_the_wal_began_anew_is_no_damage(tmp_path: Path) -> None:
    log_with_reused_wal(tmp_path / "raft.sqlite", checkpointed=True)
    log = RaftStorage.open(tmp_path / "raft.sqlite")
    assert log.load().last_index == 5
    log.close()


def test_a_header_that_rotted_over_frames_still_needed_is_damage(tmp_path: Path) -> None:
    log_with_reused_wal(tmp_path / "raft.sqlite", checkpointed=False)
    with pytest.raises(StorageDamagedError, match="acknowledged entries are lost"):
        RaftStorage.open(tmp_path / "raft.sqlite")


def test_rot_in_the_header_and_the_first_frame_is_damage(tmp_path: Path) -> None:
    log_with_reused_wal(tmp_path / "raft.sqlite", checkpointed=False)
    with (tmp_path / "raft.sqlite-wal").open("r+b") as wal:
        wal.write(b"\xff" * 512)
    with pytest.raises(StorageDamagedError, match="acknowledged entries are lost"):
        RaftStorage.open(tmp_path / "raft.sqlite")


def put_page_over(path: Path, source: str, target: str) -> None:
    """A write of one table's page that went to another's."""
    with closing(apsw.Connection(str(path))) as connection:
        root = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
        read, written = ((int(connection.execute(root, (name,)).get) - 1) * 4096 for name in (source, target))
    content = path.read_bytes()
    path.write_bytes(content[:written] + content[read : read + 4096] + content[written + 4096 :])


def test_a_page_of_another_table_where_term_and_vote_were_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "raft.sqlite"
    log = RaftStorage.open(path)
    log.initialize(BOOTSTRAP_MEMBERS)
    log.append([write(1, 1, 1)])
    log.close()
    put_page_over(path, "entries", "state")
    with pytest.raises(StorageDamagedError, match="not term and vote"):
        RaftStorage.open(path)


def test_a_page_of_another_table_where_the_position_was_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    StateMachine.create(path, MEMBERS, b"").close()
    put_page_over(path, "accounts", "meta")
    with pytest.raises(MachineDamagedError, match="which entries it covers"):
        StateMachine.open(path)
    StateMachine.create(tmp_path / "other.sqlite", MEMBERS, b"").close()
    put_page_over(tmp_path / "other.sqlite", "cluster_members", "meta")
    with pytest.raises(MachineDamagedError, match="which entries it covers"):
        StateMachine.open(tmp_path / "other.sqlite")


def test_text_that_rotted_ends_the_state_machine_and_is_no_result(tmp_path: Path) -> None:
    """As a result it would differ from what the other nodes computed."""
    path = tmp_path / "state.sqlite"
    machine = StateMachine.create(path, MEMBERS, b"")
    machine.apply([entry_at(index) for index in range(1, 5)])
    machine.close()
    with closing(apsw.Connection(str(path), vfs=checksum_vfs())) as connection:
        connection.execute("UPDATE accounts SET name = CAST(x'ff626f62' AS TEXT)")
    machine = StateMachine.open(path)
    with pytest.raises(MachineDamagedError):
        machine.apply([entry_at(5)])
    machine.close()
