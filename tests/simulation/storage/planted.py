"""Storage bugs planted on purpose: what is not found when it is planted would not be found when it is real.

Each is a context in which one call is left out, or made too early.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import apsw

from parleyd.group.files import GroupFiles
from parleyd.machine.machine import StateMachine
from parleyd.membership.members import ClusterMembers
from parleyd.raft.types import SnapshotMeta
from parleyd.raft.update import Persist
from parleyd.storage import data_directory, files, identity, log_file, raft_storage, snapshots
from parleyd.storage.raft_storage import RaftStorage


@contextmanager
def log_is_not_synced() -> Iterator[None]:
    """The log's commits are left to the operating system."""
    original = log_file.configure

    def configure(connection: apsw.Connection) -> None:
        original(connection)
        connection.pragma("synchronous", "off")

    with patch.object(raft_storage, "configure", configure):
        yield


@contextmanager
def log_syncs_only_at_checkpoints() -> Iterator[None]:
    """A commit is durable when the next checkpoint is."""
    original = log_file.configure

    def configure(connection: apsw.Connection) -> None:
        original(connection)
        connection.pragma("synchronous", "normal")

    with patch.object(raft_storage, "configure", configure):
        yield


@contextmanager
def each_write_is_a_transaction_of_its_own() -> Iterator[None]:
    """Several writes that belong together are carried out one by one."""
    original = RaftStorage.append

    def append(self: RaftStorage, writes: list[Persist]) -> None:
        for write in writes:
            for part in (Persist(entries=write.entries, snapshot=write.snapshot), Persist(hard_state=write.hard_state)):
                original(self, [part])

    with patch.object(RaftStorage, "append", append):
        yield


@contextmanager
def checkpoint_without_full_sync() -> Iterator[None]:
    """The index is called durable because a commit returned."""

    def checkpoint(self: StateMachine) -> int:
        return self.applied_index

    with patch.object(StateMachine, "checkpoint", checkpoint):
        yield


@contextmanager
def install_leaves_the_old_wal() -> Iterator[None]:
    """The new state comes beside the old write-ahead log, which its writer left there."""

    def close(self: StateMachine) -> None:
        self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self._connection.close()
        self._closed = True

    def finish_install(state_db: Path) -> bool:
        installing = state_db.with_name(state_db.name + snapshots.INSTALLING_SUFFIX)
        if installing.exists():
            files.rename_durably(installing, state_db)
        return True

    with (
        patch.object(StateMachine, "close", close),
        patch.object(snapshots, "finish_install", finish_install),
        patch.object(data_directory, "finish_install", finish_install),
    ):
        yield


@contextmanager
def rename_without_syncing_the_folder() -> Iterator[None]:
    """A new name is believed to be durable at once."""

    def rename(source: Path, target: Path) -> None:
        os.replace(source, target)

    with (
        patch.object(files, "rename_durably", rename),
        patch.object(snapshots, "rename_durably", rename),
        patch.object(files, "fsync_path", lambda path: None),
    ):
        yield


@contextmanager
def small_files_are_not_synced() -> Iterator[None]:
    """The identity is renamed into place before its content is on disk."""

    def write_durably(target: Path, content: bytes) -> None:
        temporary = target.with_name(target.name + ".tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        files.rename_durably(temporary, target)

    with patch.object(identity, "write_durably", write_durably):
        yield


@contextmanager
def log_is_reset_before_the_state_is_installed() -> Iterator[None]:
    """On a restart in between, the log begins behind a state that was never installed."""

    async def install(self: GroupFiles, snapshot: SnapshotMeta, write: Persist) -> ClusterMembers:
        await self._log_thread.call(lambda: self._log.append([write]))
        await self._state_thread.call(self.machine.close)
        self.machine = await self._state_thread.call(lambda: self.snapshot_store.install_received(snapshot))
        return ClusterMembers.of(await self._state_thread.call(self.machine.members))

    with patch.object(GroupFiles, "_install", install):
        yield


@contextmanager
def received_snapshot_is_not_synced() -> Iterator[None]:
    """A snapshot is renamed into place before its content is on disk."""

    def finish(self: snapshots.SnapshotReceiver) -> Path:
        self._file.close()
        received = self._path.with_suffix(".received")
        files.rename_durably(self._path, received)
        return received

    with patch.object(snapshots.SnapshotReceiver, "finish", finish):
        yield


@contextmanager
def data_directory_is_not_named_durably() -> Iterator[None]:
    """The folder is made and used at once (this was ours)."""

    def make(path: Path, mode: int) -> None:
        path.mkdir(mode, parents=True, exist_ok=True)

    with patch.object(data_directory, "make_folder_durably", make):
        yield


@dataclass(frozen=True, slots=True)
class Planted:
    """A bug, and the operation in which a crash shows it."""

    plant: Callable[[], AbstractContextManager[None]]
    shows_in: str
    breaks_the_life: bool = False  # the node cannot even go on


PLANTED = {
    planted.plant.__name__: planted
    for planted in (
        Planted(log_is_not_synced, "append"),
        Planted(log_syncs_only_at_checkpoints, "vote"),
        Planted(each_write_is_a_transaction_of_its_own, "append"),
        Planted(checkpoint_without_full_sync, "checkpoint"),
        Planted(install_leaves_the_old_wal, "restore", breaks_the_life=True),
        Planted(rename_without_syncing_the_folder, "bootstrap"),
        Planted(small_files_are_not_synced, "bootstrap"),
        Planted(log_is_reset_before_the_state_is_installed, "restore"),
        Planted(received_snapshot_is_not_synced, "restore"),
        Planted(data_directory_is_not_named_durably, "vote"),
    )
}
