"""kill -9 at any time: the file is the state as of exactly the entry it names, and replay leads to the same state."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from parleyd.machine.machine import StateMachine
from parleyd.machine.records import CommittedEntry
from tests.unit.machine.harness import BOOTSTRAP_MEMBERS, START_MS, dump, open_session, payload, register, sends

FEEDER = """
import os, sys
from pathlib import Path
from parleyd.machine.machine import StateMachine
from tests.unit.machine.test_crash import entry_at
machine = StateMachine.open(Path(sys.argv[1]))
os.write(1, b"start\\n")
while True:
    first = machine.applied_index + 1
    machine.apply([entry_at(index) for index in range(first, first + 3)])
    os.write(1, f"{machine.applied_index}\\n".encode())
"""


def entry_at(index: int) -> CommittedEntry:
    """The entry of a fixed endless log: two users, then messages between them."""
    if index <= 2:
        command = register(("ada", "bob")[index - 1])
    elif index <= 4:
        command = open_session(index - 2, index, index)
    else:
        turn = index - 5
        session, recipient = (1, "bob") if turn % 2 == 0 else (2, "ada")
        command = sends(session, (turn // 2 + 1, recipient, f"message {turn} " + "x" * (turn % 900)))
    return CommittedEntry(index, 1 + index // 40, payload([command], START_MS + index))


def replayed(path: Path, up_to: int) -> bytes:
    machine = StateMachine.create(path, BOOTSTRAP_MEMBERS, b"")
    machine.apply([entry_at(index) for index in range(1, up_to + 1)])
    state_hash = machine.state_hash
    machine.close()
    return state_hash


@pytest.mark.parametrize("applies", [0, 1, 7, 60])
def test_kill_9_leaves_rows_and_position_together(tmp_path: Path, applies: int) -> None:
    path = tmp_path / "state.sqlite"
    StateMachine.create(path, BOOTSTRAP_MEMBERS, b"").close()
    with subprocess.Popen([sys.executable, "-c", FEEDER, str(path)], stdout=subprocess.PIPE) as feeder:
        assert feeder.stdout is not None
        told = [feeder.stdout.readline() for _ in range(applies + 1)][-1]
        os.kill(feeder.pid, signal.SIGKILL)
        rest = feeder.stdout.read().split()
    known = int(rest[-1]) if rest else int(told) if told != b"start\n" else 0
    machine = StateMachine.open(path)
    survived = machine.applied_index
    assert survived in (known, known + 3), "kill -9 loses no committed apply, and none is half there"
    assert machine.state_hash == (replayed(tmp_path / "reference", survived) if survived else machine.state_hash)
    machine.apply([entry_at(index) for index in range(survived + 1, survived + 50)])
    machine.close()
    replayed(tmp_path / "whole", survived + 49)
    assert dump(path) == dump(tmp_path / "whole")


def test_file_copied_at_any_moment_is_a_whole_state(tmp_path: Path) -> None:
    """What power loss leaves is some prefix of the commits; each is a state of its own."""
    live = tmp_path / "live"
    live.mkdir()
    path = live / "state.sqlite"
    machine = StateMachine.create(path, BOOTSTRAP_MEMBERS, b"")
    for number in range(12):
        first = machine.applied_index + 1
        machine.apply([entry_at(index) for index in range(first, first + 5)])
        shutil.copytree(live, tmp_path / f"copy{number}")
    machine.close()
    for number in range(12):
        copy = StateMachine.open(tmp_path / f"copy{number}" / "state.sqlite")
        assert copy.applied_index == (number + 1) * 5
        assert copy.state_hash == replayed(tmp_path / f"reference{number}", copy.applied_index)
        copy.close()


@pytest.mark.parametrize("cut_bytes", [1, 4096, 20_000, 10**9])
def test_write_ahead_log_cut_short_is_an_earlier_whole_state(tmp_path: Path, cut_bytes: int) -> None:
    """synchronous=NORMAL may lose the newest commits to a power cut; the Raft log replays them."""
    live = tmp_path / "live"
    live.mkdir()
    path = live / "state.sqlite"
    machine = StateMachine.create(path, BOOTSTRAP_MEMBERS, b"")
    for index in range(1, 60):
        machine.apply([entry_at(index)])
        if index == 20:
            assert machine.checkpoint() == 20
    crashed = tmp_path / "crashed"
    shutil.copytree(live, crashed)
    machine.close()
    wal = crashed / "state.sqlite-wal"
    os.truncate(wal, max(0, wal.stat().st_size - cut_bytes))
    (crashed / "state.sqlite-shm").unlink()
    again = StateMachine.open(crashed / "state.sqlite")
    assert 20 <= again.applied_index < 59, "what the checkpoint covered survives"
    survived = again.applied_index
    assert again.state_hash == replayed(tmp_path / "reference", survived)
    again.apply([entry_at(index) for index in range(survived + 1, 60)])
    again.close()
    replayed(tmp_path / "whole", 59)
    assert dump(crashed / "state.sqlite") == dump(tmp_path / "whole")
