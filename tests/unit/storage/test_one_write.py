"""What a power cut finds: the files as they are at every sync, each opened on its own."""

from __future__ import annotations

import shutil
from pathlib import Path

from parleyd.raft.update import Persist
from parleyd.storage.raft_storage import LogContents, RaftStorage
from tests.unit.storage.faulty_vfs import FaultyDisk
from tests.unit.storage.log_helpers import BOOTSTRAP_MEMBERS, entries, hard_state


class PhotographedDisk(FaultyDisk):
    """Copies the log's files to a folder of their own whenever one of them is to be synced."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._taken = 0
        self.pictures: list[Path] = []

    def note(self, operation: str, kind: str) -> None:
        super().note(operation, kind)
        if operation == "sync":
            self._taken += 1
            picture = self._folder.with_name(f"picture-{self._taken}")
            shutil.copytree(self._folder, picture)
            self.pictures.append(picture)


def contents_of(folder: Path) -> LogContents:
    log = RaftStorage.open(folder / "raft.sqlite")
    try:
        return log.load()
    finally:
        log.close()


def test_term_vote_and_entries_reach_the_disk_together(tmp_path: Path) -> None:
    folder = tmp_path / "live"
    folder.mkdir()
    disk = PhotographedDisk(folder)
    log = RaftStorage.open(folder / "raft.sqlite", vfs=disk.name)
    log.initialize(BOOTSTRAP_MEMBERS)
    log.append([Persist(hard_state=hard_state(1, vote=1), entries=entries(1, 1, 2))])
    before = log.load()
    disk.pictures.clear()
    log.append([Persist(hard_state=hard_state(2, vote=3), entries=entries(2, 2, 4))])
    after = log.load()
    assert disk.pictures
    pictures = list(disk.pictures)
    log.close()
    disk.unregister()
    assert [contents_of(picture) for picture in pictures if contents_of(picture) not in (before, after)] == []
