"""The next generation begins in one place: no id, entry or member of the old life is one of the new life."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from parleyd.machine.errors import MachineStorageError
from parleyd.machine.features import audit, generations
from parleyd.machine.features.generations import GenerationKind, GenerationRow
from parleyd.machine.levels import MAX_LEVEL, MIN_LEVEL
from parleyd.machine.machine import StateMachine
from parleyd.machine.new_generation import GAP, ID_GAP, Begun, NewGeneration, begin_generation
from parleyd.machine.reader import StateReader
from parleyd.machine.records import CommittedEntry, MemberRow
from parleyd.machine.verify import verify_state_file
from tests.unit.backup.helpers import history
from tests.unit.machine.harness import BOOTSTRAP_MEMBERS

COUNTERS = "last_account_id, last_session_id, last_device_id, last_conversation_id, last_message_id, message_count"
SAME_NAME = MemberRow(99, "n1", "10.0.0.9:7000", "10.0.0.9:7001", MIN_LEVEL, MAX_LEVEL, b"k" * 32)


def make_state(path: Path, level: int = MAX_LEVEL) -> bytes:
    """A state of three members; return its hash."""
    rows = [replace(row, max_level=MAX_LEVEL) for row in BOOTSTRAP_MEMBERS]
    with closing(StateMachine.create(path, rows, b"three")) as machine:
        machine.apply([CommittedEntry(index, 7, payload) for index, payload in enumerate(history(level), 1)])
        assert machine.level == level
        return machine.state_hash


def begin(
    path: Path, own: MemberRow = SAME_NAME, kind: GenerationKind = GenerationKind.RESTORED, at_ms: int = 1234
) -> Begun:
    return begin_generation(path, NewGeneration(kind, own, b"one", 8, at_ms))


def counters(path: Path) -> list[int]:
    with closing(StateReader.open(path)) as reader:
        return list(reader.rows(f"SELECT {COUNTERS} FROM meta")[0])


def test_position_generation_and_ids_are_beyond_everything_of_the_old_life(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    old_hash = make_state(path)
    index, before = len(history()), counters(path)
    begun = begin(path)
    assert begun == Begun(1, index + GAP, 8)
    gaps = [ID_GAP, ID_GAP, ID_GAP, ID_GAP, GAP, 0]
    assert counters(path) == [value + gap for value, gap in zip(before, gaps, strict=True)]
    assert verify_state_file(path) == (begun.index, 8, b"one")
    with closing(StateMachine.open(path)) as machine:
        assert machine.generation == 1
        assert machine.state_hash != old_hash
        machine.apply([CommittedEntry(begun.index + 1, 9)])


@pytest.mark.parametrize("level", range(MIN_LEVEL, MAX_LEVEL + 1))
def test_the_node_is_the_only_member_and_the_others_never_join_again(tmp_path: Path, level: int) -> None:
    path = tmp_path / "state.sqlite"
    make_state(path, level)
    begin(path)
    with closing(StateMachine.open(path)) as machine:
        members = machine.members()
    assert [(row.node_id, row.name) for row in members.rows] == [(99, "n1")]
    assert [row.node_id for row in members.removed] == [1, 2, 3]
    if level == MAX_LEVEL:
        assert {barred.name for barred in members.barred} == {"n2", "n3"}, "its own name is not barred"


@pytest.mark.parametrize(
    ("kind", "action"),
    [(GenerationKind.RESTORED, "cluster.restored"), (GenerationKind.RECOVERED, "cluster.recovered")],
)
def test_the_audit_log_tells_of_the_new_life_before_its_members_and_stays_one_chain(
    tmp_path: Path, kind: GenerationKind, action: str
) -> None:
    path = tmp_path / "state.sqlite"
    make_state(path)
    with closing(StateReader.open(path)) as reader:
        before = audit.page(reader, 0, 1000, 1 << 20)
    begun = begin(path, kind=kind, at_ms=1234)
    with closing(StateReader.open(path)) as reader:
        found = audit.page(reader, before.last_number, 1000, 1 << 20)
    assert found.previous_hash == before.last_hash
    told = [(row.actor, row.action, row.object) for row in found.rows]
    assert told[0] == ("(operator)", action, f"generation {begun.generation}")
    assert {(action, name) for _, action, name in told[1:]} == {
        ("member.removed", "n1"),
        ("member.removed", "n2"),
        ("member.removed", "n3"),
        ("member.added", "n1"),
    }
    assert {row.index for row in found.rows} == {begun.index}
    assert (found.rows[0].at_ms, found.rows[0].detail) == (1234, f"after entry {len(history())}")


def test_a_node_that_stays_is_no_former_member(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    make_state(path)
    begin(path, replace(BOOTSTRAP_MEMBERS[1], max_level=MAX_LEVEL))
    with closing(StateMachine.open(path)) as machine:
        members = machine.members()
    assert [row.node_id for row in members.rows] == [2]
    assert [row.node_id for row in members.removed] == [1, 3]


def test_each_generation_stays_recorded_from_level_3_on(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    make_state(path)
    first = begin(path)
    begin(path, kind=GenerationKind.RECOVERED)
    with closing(StateReader.open(path)) as reader:
        assert generations.all_of(reader) == (
            GenerationRow(1, GenerationKind.RESTORED, 1234, len(history())),
            GenerationRow(2, GenerationKind.RECOVERED, 1234, first.index),
        )


def test_two_generations_that_begin_with_one_state_differ(tmp_path: Path) -> None:
    """An operator restores one backup, and later another one of the same life, or the same once more."""
    begun = []
    for second in (1_800_000_000, 1_800_000_001):
        path = tmp_path / f"{second}.sqlite"
        make_state(path)
        begun.append(begin(path, at_ms=second * 1000 + 999).generation)
    assert begun == [1_800_000_000, 1_800_000_001]


def test_a_generation_is_higher_than_the_one_before_also_after_the_clock_was_set_back(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    make_state(path)
    assert begin(path, at_ms=1_800_000_000_000).generation == 1_800_000_000
    assert begin(path, at_ms=1_700_000_000_000).generation == 1_800_000_001


def test_below_level_3_only_the_number_is_known(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    make_state(path, MIN_LEVEL)
    assert begin(path).generation == 1
    with closing(StateReader.open(path)) as reader:
        assert generations.all_of(reader) == ()
        assert reader.summary().generation == 1


def test_everything_is_in_the_one_file_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    make_state(path)
    begin(path)
    assert [file.name for file in tmp_path.iterdir()] == ["state.sqlite"]


def test_a_state_that_another_program_has_open_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    make_state(path)
    with closing(apsw.Connection(str(path))) as other:
        other.execute("BEGIN; SELECT * FROM meta").fetchall()
        with pytest.raises(MachineStorageError):
            begin(path)
