"""A change of format is cut short at every call to the disk: the old file is left or the new one, with all it holds.

The same is done to a call that fails: the start ends with an error, and the next one goes on from what is there.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest

from parleyd.formats import FIRST_FORMAT
from parleyd.storage import identity, log_file
from parleyd.storage.errors import StorageError
from parleyd.storage.raft_storage import RaftStorage
from tests.simulation.storage.campaign import crash_states
from tests.simulation.storage.disk import Disk, Image, Kind, put, read_back
from tests.simulation.storage.recorder import IGNORED, Fault, Recorder
from tests.simulation.storage.workload import kill, tuned_down
from tests.unit.storage.log_helpers import BOOTSTRAP_MEMBERS, write
from tests.unit.storage.test_formats import LATER_IDENTITY, LATER_LOG, LEVEL, body_of, format_of

ENTRIES = 20
HIGHEST_LEVEL = LEVEL + 1


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of file: how it is made, changed at a start, and what a start must read from it afterwards."""

    name: str
    make: Callable[[Path], None]
    start: Callable[[Path], object]
    version: Callable[[Path], int]
    newest: int


def _make_log(path: Path) -> None:
    log = RaftStorage.open(path)
    log.initialize(BOOTSTRAP_MEMBERS)
    for index in range(1, ENTRIES + 1):
        log.append([write(1, index, index, b"x" * 500)])
    log.close()


def _start_log(path: Path) -> object:
    log = RaftStorage.open(path, level=HIGHEST_LEVEL)
    try:
        return log.load()
    finally:
        kill(log._connection)


def _make_identity(path: Path) -> None:
    identity.save(path, identity.NodeIdentity(node_id=BOOTSTRAP_MEMBERS.voters[0], name="n1", cluster_id="c"))


def _start_identity(path: Path) -> object:
    return identity.load(path, HIGHEST_LEVEL)


LOG = Case("raft.sqlite", _make_log, _start_log, lambda path: format_of(path).version, LATER_LOG.current)
IDENTITY = Case(
    "identity.json", _make_identity, _start_identity, lambda path: int(body_of(path)["format"]), LATER_IDENTITY.current
)
CASES = pytest.mark.parametrize("case", [LOG, IDENTITY], ids=lambda case: case.name)


@contextmanager
def later_release() -> Iterator[None]:
    """A release that knows newer formats."""
    with (
        patch.object(log_file, "_FORMAT", LATER_LOG),
        patch.object(identity, "_FORMAT", LATER_IDENTITY),
    ):
        yield


def old_files(case: Case, folder: Path) -> tuple[Image, object]:
    """The files in the old format, and what they hold."""
    folder.mkdir()
    case.make(folder / case.name)
    held = case.start(folder / case.name)
    assert case.version(folder / case.name) == FIRST_FORMAT
    return read_back(folder, IGNORED), held


def start_on(image: Image, folder: Path, case: Case, fault: Fault | None = None) -> tuple[Recorder, object]:
    """One start of the later release on `image`; gives its calls and what it read."""
    folder.mkdir()
    put(image, folder)
    recorder = Recorder(folder, Disk.holding(image), fault)
    with recorder.recording(), later_release(), tuned_down():
        found: object = None
        try:
            found = case.start(folder / case.name)
        except StorageError as error:
            found = error
    return recorder, found


@CASES
def test_a_change_cut_short_anywhere_leaves_the_old_file_or_the_new_one(case: Case, tmp_path: Path) -> None:
    image, held = old_files(case, tmp_path / "old")
    recorder, found = start_on(image, tmp_path / "start", case)
    assert found == held
    assert case.version(tmp_path / "start" / case.name) == case.newest
    disk, versions, number = Disk.holding(image), set(), 0
    for call in [None, *recorder.calls]:
        if call is not None:
            disk.carry_out(call)
        for choice, left in crash_states(disk, f"{number}", 3):
            where = tmp_path / f"crash-{number}"
            number += 1
            where.mkdir()
            put(left, where)
            # What was left is the old format or the new one, and the older release still opens the old one.
            if case.name in left and not any(path.endswith("-wal") and content for path, content in left.items()):
                versions.add(case.version(where / case.name))
            with later_release():
                assert case.start(where / case.name) == held, f"after {call}, {choice.damage} {choice.detail}"
                assert case.version(where / case.name) == case.newest
    assert versions == {FIRST_FORMAT, case.newest}
    assert number > 10


@CASES
def test_a_call_that_fails_during_a_change_ends_the_start_and_the_next_one_goes_on(case: Case, tmp_path: Path) -> None:
    image, held = old_files(case, tmp_path / "old")
    calls = start_on(image, tmp_path / "start", case)[0].calls
    failed = 0
    for call in calls:
        error = errno.ENOSPC if call.kind is Kind.WRITE else errno.EIO
        recorder, found = start_on(image, tmp_path / f"fault-{call.number}", case, Fault(call.number, error))
        assert recorder.failed is not None
        failed += isinstance(found, StorageError)
        with later_release():
            assert case.start(tmp_path / f"fault-{call.number}" / case.name) == held
        assert isinstance(found, StorageError) or found == held
    assert failed > len(calls) // 2
