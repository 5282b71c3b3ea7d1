"""Nothing that the disk does to the journal reaches the node, and what is missing is counted."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from parleyd.events.event import Event
from parleyd.events.journal import MIN_BYTES, JournalFile, encode_header, read_journal
from parleyd.events.journal_writer import RETRY_S, JournalKeeper, JournalWriter


def event(number: int) -> Event:
    return Event(1, number, 1_000 + number, "role_changed", {"term": number})


def kinds(path: Path) -> list[tuple[str, object]]:
    return [
        (record.event.kind, record.event.fields.get("count", record.event.number))
        for record in read_journal(path).records
    ]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.ring"


def test_a_full_disk_costs_the_events_meanwhile_and_their_number_is_recorded(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = JournalKeeper(path, MIN_BYTES, clock)
    keeper.write(event(1))
    with monkeypatch.context() as full, capture_logs() as logs:
        full.setattr(os, "pwrite", _no_space)
        keeper.write(event(2))
        clock.now += RETRY_S
        keeper.write(event(3))
    keeper.write(event(4))  # not tried again yet
    assert [line["event"] for line in logs] == ["journal_not_written"]
    assert "No space left" in logs[0]["error"]
    clock.now += RETRY_S
    with capture_logs() as logs:
        keeper.write(event(5))
    assert [line["event"] for line in logs] == ["journal_writing_resumed"]
    assert kinds(path) == [("role_changed", 1), ("events_not_recorded", 3), ("role_changed", 5)]
    keeper.close()


def _no_space(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_part_of_a_record_that_the_disk_takes_harms_no_other_record(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = JournalKeeper(path, MIN_BYTES, clock)
    keeper.write(event(1))
    real = os.pwrite
    with monkeypatch.context() as short, capture_logs():
        short.setattr(os, "pwrite", lambda file, content, at: real(file, content[:50], at))
        keeper.write(event(2))
    assert (kinds(path), read_journal(path).torn) == ([("role_changed", 1)], 1)
    clock.now += RETRY_S
    with capture_logs():
        keeper.write(event(3))
    assert kinds(path) == [("role_changed", 1), ("events_not_recorded", 1), ("role_changed", 3)]
    assert read_journal(path).torn == 0
    keeper.close()


def test_a_folder_that_cannot_be_written_and_a_path_that_is_a_folder_or_a_pipe_stop_nothing(
    tmp_path: Path, clock: Clock
) -> None:
    taken, pipe = tmp_path / "journal.ring", tmp_path / "pipe.ring"
    taken.mkdir()
    os.mkfifo(pipe)
    for path in (taken, pipe, tmp_path / "missing" / "journal.ring"):
        keeper = JournalKeeper(path, MIN_BYTES, clock)
        with capture_logs() as logs:
            keeper.write(event(1))
        assert [line["event"] for line in logs] == ["journal_not_written"]


def test_a_journal_of_a_newer_release_is_left_alone_and_the_node_goes_on(path: Path, clock: Clock) -> None:
    path.write_bytes(encode_header(31, version=2, release="9.9"))
    keeper = JournalKeeper(path, MIN_BYTES, clock)
    with capture_logs() as logs:
        keeper.write(event(1))
    assert "9.9 or newer" in logs[0]["error"]
    assert path.read_bytes() == encode_header(31, version=2, release="9.9")


class SlowKeeper(JournalKeeper):
    """A disk that takes nothing until it is let go."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, MIN_BYTES)
        self.reached = threading.Event()
        self.released = threading.Event()

    def write(self, event: Event) -> None:
        self.reached.set()
        assert self.released.wait(10)
        super().write(event)


def test_who_puts_an_event_never_waits_for_the_disk_and_what_is_too_much_is_counted(path: Path) -> None:
    keeper = SlowKeeper(path)
    writer = JournalWriter(keeper, max_waiting=2)
    writer.put(event(1))
    assert keeper.reached.wait(10)
    for number in range(2, 9):
        writer.put(event(number))
    writer.close(timeout_s=0)  # a stop does not wait for the disk, either
    keeper.released.set()
    writer.close(timeout_s=10)
    assert kinds(path) == [("role_changed", 1), ("events_not_recorded", 5), ("role_changed", 2), ("role_changed", 3)]


KILLED = """
import os, sys
from pathlib import Path
from parleyd.events.event import Event
from parleyd.events.journal import MIN_BYTES, JournalFile
file = JournalFile.open(Path(sys.argv[1]), MIN_BYTES)
number = 0
while True:
    number += 1
    file.append(Event(1, number, number, "vote_given", {"term": number, "candidate": "n" * (number % 90)}))
    if number % 50 == 0:
        os.write(1, b"x")
"""


def test_a_process_that_is_killed_while_it_writes_leaves_a_journal_without_gaps(path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.read(3) == b"xxx"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    found = read_journal(path)
    numbers = [record.event.number for record in found.records]
    assert numbers[-1] >= 150
    assert numbers == [*range(numbers[0], numbers[-1] + 1)]
    assert found.torn <= 1
    JournalFile.open(path, MIN_BYTES).close()
