"""What a crash finds: the file as it is after every commit, opened on its own."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import apsw
import pytest

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.machine import StateMachine
from parleyd.machine.records import CommittedEntry
from tests.unit.machine.harness import (
    BOOTSTRAP_MEMBERS,
    START_MS,
    AccountId,
    ConversationId,
    Item,
    Node,
    Target,
    dump,
    payload,
    sends,
)
from tests.unit.machine.test_crash import entry_at


def test_rows_and_position_are_committed_together(tmp_path: Path) -> None:
    folder = tmp_path / "live"
    folder.mkdir()
    path = folder / "state.sqlite"
    machine = StateMachine.create(path, BOOTSTRAP_MEMBERS, b"")
    pictures: list[Path] = []

    def photograph(_connection: apsw.Connection, _schema: str, _pages: int) -> int:
        pictures.append(tmp_path / f"picture-{len(pictures)}")
        shutil.copytree(folder, pictures[-1])
        return apsw.SQLITE_OK

    machine._connection.set_wal_hook(photograph)
    for first in range(1, 13, 3):
        machine.apply([entry_at(index) for index in range(first, first + 3)])
    machine.close()
    assert pictures
    for picture in pictures:
        found = StateMachine.open(picture / "state.sqlite")
        applied = found.applied_index
        found.close()
        reference = StateMachine.create(tmp_path / f"reference-{picture.name}", BOOTSTRAP_MEMBERS, b"")
        reference.apply([entry_at(index) for index in range(1, applied + 1)])
        reference.close()
        assert dump(picture / "state.sqlite") == dump(tmp_path / f"reference-{picture.name}")


def test_send_repeated_within_one_command_is_stored_once(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    machine = StateMachine.create(path, BOOTSTRAP_MEMBERS, b"")
    machine.apply([entry_at(index) for index in range(1, 5)])
    twice = payload([sends(1, (1, "bob", "hello"), (1, "bob", "hello"))], START_MS)
    ((result,),) = machine.apply([CommittedEntry(5, 1, twice)]).results
    machine.close()
    first, second = result.send_messages.sends
    assert first == second
    assert len(dump(path)["messages"]) == 1


_TARGETS: tuple[Target, ...] = (
    "bob",
    AccountId(3),
    ConversationId(1),
    "cid",
    "nobody",
    "bob",
    ConversationId(2),
    ConversationId(3),
    "ada",
    "bob",
)
_ITEMS: tuple[Item, ...] = tuple(
    (number, target, f"message {number}") for number, target in enumerate(_TARGETS, start=1)
)


@pytest.mark.parametrize("rises", [False, True], ids=["lowest level", "highest level"])
def test_sends_of_one_command_end_like_commands_of_one_send_each(tmp_path: Path, rises: bool) -> None:
    """Targets of one conversation by name, by account and by id, in turn with others: what they share is found once."""
    ends = []
    forms: list[list[Sequence[Item]]] = [[_ITEMS], [(item,) for item in _ITEMS]]
    for form, groups in enumerate(forms):
        node = Node(tmp_path / f"{form}.sqlite")
        ada, _, _ = (node.user(name, device) for device, name in enumerate(("ada", "bob", "cid"), start=1))
        if rises:
            node.rise()
        for other in ("bob", "cid"):
            node.machine.apply([_entry_of(node, [sends(ada, (0, other, "no number"))])])
        node.machine.apply([_entry_of(node, [sends(ada, *group) for group in groups])])
        node.close()
        rows = dump(node.path)
        assert len(rows["messages"]) == 8
        ends.append({name: content for name, content in rows.items() if name != "meta"})
    assert ends[0] == ends[1]


def _entry_of(node: Node, commands: list[pb.Command]) -> CommittedEntry:
    machine = node.machine
    return CommittedEntry(machine.applied_index + 1, 1, payload(commands, START_MS * 2, machine.level))


def test_nodes_that_apply_at_different_hours_end_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes, rows = [], []
    for hour in (1_000, 2_000_000):
        monkeypatch.setattr(time, "time", lambda hour=hour: hour * 3600.0)
        monkeypatch.setattr(time, "time_ns", lambda hour=hour: hour * 3600 * 10**9)
        path = tmp_path / f"{hour}.sqlite"
        machine = StateMachine.create(path, BOOTSTRAP_MEMBERS, b"")
        machine.apply([entry_at(index) for index in range(1, 9)])
        hashes.append(machine.state_hash)
        machine.close()
        rows.append(dump(path))
    assert hashes[0] == hashes[1]
    assert rows[0] == rows[1]
