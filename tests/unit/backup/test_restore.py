"""A restore makes one whole new cluster, or it can be repeated: whatever the file is, and wherever it is killed.

What can go wrong: a damaged file; a directory in use or with something in it; a kill at any step; a start in between.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from parleyd.backup import restore as restore_module
from parleyd.backup.errors import BackupDamagedError, BackupError
from parleyd.backup.restore import Restored, restore
from parleyd.group.opening import open_files, recover
from parleyd.machine.features import members
from parleyd.machine.levels import MAX_LEVEL, MIN_LEVEL
from parleyd.machine.new_generation import GAP
from parleyd.machine.reader import StateReader
from parleyd.raft.config import RaftConfig
from parleyd.raft.raft import Raft
from parleyd.raft.types import NO_NODE, ConfState, NodeId, Role
from parleyd.storage import identity as identities
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.errors import DirectoryBusyError, IdentityError
from parleyd.storage.identity import PeerInfo, cluster_id_of
from tests.unit.backup.helpers import IDENTITY, TERM, files_in, history, make_backup, make_node

OWN = PeerInfo(NodeId(77), "n1", "10.1.0.1:7700", "10.1.0.1:7600", MIN_LEVEL, MAX_LEVEL, b"k" * 32)
NOW_MS = 1_700_000_000_000


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    make_node(tmp_path / "old", history())
    with DataDirectory.open(tmp_path / "old") as data:
        return make_backup(data, tmp_path / "backups")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "restored"


def carry_out(backup: Path, folder: Path) -> Restored:
    return restore(backup, folder, OWN, lambda: NOW_MS)


def check_restored(folder: Path) -> None:
    """The directory starts as the only node of a new cluster, which has everybody."""
    with DataDirectory.open(folder) as data:
        identity = identities.load(data.identity)
        assert identity is not None
        assert identity.node_id == OWN.node_id
        assert identity.cluster_id == cluster_id_of(identity.bootstrap_members) != IDENTITY.cluster_id
        log, machine = open_files(data)
        with closing(log), closing(machine):
            recovered = recover(log, machine)
            assert recovered.repair is None
            assert recovered.applied_index == recovered.snapshot.index == len(history()) + GAP
            assert recovered.conf_state == ConfState(voters=(OWN.node_id,))
            assert recovered.hard_state.voted_for == NO_NODE
            assert recovered.hard_state.current_term == TERM + 1
            assert machine.generation == NOW_MS // 1000
            assert elected(Raft(RaftConfig(OWN.node_id), recovered.initial_state()))
        with closing(StateReader.open(data.state_db)) as reader:
            found = members.current(reader)
            assert [(row.name, row.peer_address, row.key_digest) for row in found.rows] == [
                (OWN.name, OWN.peer_address, OWN.key_digest)
            ]
            assert reader.rows("SELECT count(*) FROM accounts WHERE name LIKE 'person%'") == [(3,)]
            assert reader.rows("SELECT count(*) FROM sessions") == [(1,)]
    assert "restore-unfinished" not in files_in(folder)


def elected(raft: Raft) -> bool:
    """Whether the node leads by itself."""
    from parleyd.raft.events import Tick

    for _ in range(100):
        update = raft.step(Tick())
        while update.persist is not None:
            update = raft.step(update.persist.done)
        if raft.status().role is Role.LEADER:
            return True
    return False


def test_a_restored_directory_is_the_only_node_of_a_new_cluster(backup: Path, folder: Path) -> None:
    done = carry_out(backup, folder)
    check_restored(folder)
    assert done.begun.generation == NOW_MS // 1000
    assert done.backup.cluster_id == IDENTITY.cluster_id
    assert folder.stat().st_mode & 0o777 == 0o700


def test_an_empty_directory_may_exist(backup: Path, folder: Path) -> None:
    folder.mkdir()
    (folder / "lost+found").mkdir()
    carry_out(backup, folder)
    check_restored(folder)


@pytest.mark.parametrize("name", ["identity.json", "notes.txt", "raft.sqlite"])
def test_a_directory_with_something_in_it_is_refused_and_stays(backup: Path, folder: Path, name: str) -> None:
    folder.mkdir()
    (folder / name).write_text("here before")
    with pytest.raises(BackupError, match="Nothing was changed"):
        carry_out(backup, folder)
    assert files_in(folder) == {name}


def test_a_second_restore_is_refused(backup: Path, folder: Path) -> None:
    carry_out(backup, folder)
    with pytest.raises(BackupError, match="data directory of a node"):
        carry_out(backup, folder)
    check_restored(folder)


def test_a_directory_that_another_process_holds_is_refused(backup: Path, folder: Path) -> None:
    with DataDirectory.open(folder), pytest.raises(DirectoryBusyError):
        carry_out(backup, folder)


def test_a_damaged_file_makes_nothing(backup: Path, folder: Path) -> None:
    os.truncate(backup, backup.stat().st_size - 1)
    with pytest.raises(BackupDamagedError):
        carry_out(backup, folder)
    assert not folder.exists()


def test_a_file_that_turns_out_to_be_damaged_later_leaves_nothing_of_a_node(
    backup: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise BackupDamagedError("a page")

    with monkeypatch.context() as patch:
        patch.setattr(restore_module, "check_state", fail)
        with pytest.raises(BackupDamagedError):
            carry_out(backup, folder)
    assert files_in(folder) == {"lock", "snapshots"}
    carry_out(backup, folder)
    check_restored(folder)


# ---- killed at every step


class Killed(BaseException):
    """The process ends here."""


CALLS = ("fsync", "replace", "rename", "unlink", "open")


def killing_at(monkeypatch: pytest.MonkeyPatch, place: int) -> Callable[[], int]:
    """Kill before the call number `place` of those that change a disk. Return how many there were."""
    count = 0

    def wrap(name: str) -> None:
        original = getattr(os, name)

        def call(*arguments: object, **options: object) -> object:
            nonlocal count
            count += 1
            if count >= place:
                raise Killed
            return original(*arguments, **options)

        monkeypatch.setattr(os, name, call)

    for name in CALLS:
        wrap(name)
    return lambda: count


def test_a_restore_killed_at_any_step_is_repeated_and_no_node_starts_in_between(
    backup: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        calls = killing_at(patch, 1_000_000)
        carry_out(backup, folder)
    assert calls() > 20
    outcomes = set()
    for place in range(1, calls() + 1):
        shutil.rmtree(folder)
        with monkeypatch.context() as patch:
            killing_at(patch, place)
            with pytest.raises(Killed):
                carry_out(backup, folder)
        outcomes.add(start_or_repeat(backup, folder))
        check_restored(folder)
    assert outcomes == {"repeated", "refused a start", "complete"}


def start_or_repeat(backup: Path, folder: Path) -> str:
    """What a start finds, and then a repeated restore."""
    if (folder / "identity.json").exists():
        return "complete"  # check_restored() opens it as a start does
    outcome = "repeated"
    if (folder / "restore-unfinished").exists():
        with pytest.raises(IdentityError, match="Repeat the restore"):
            DataDirectory.open(folder)
        outcome = "refused a start"
    carry_out(backup, folder)
    return outcome
