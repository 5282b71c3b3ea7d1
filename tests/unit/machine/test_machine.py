"""Apply as such: atomic, deterministic, unharmed by bad commands, stopped by a bad disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import apsw
import pytest

from parley_proto.v1 import model_pb2
from parley_proto.v1 import state_pb2 as pb
from parleyd.formats import FormatRefusedError
from parleyd.machine import machine as machine_module
from parleyd.machine.effects import Effect
from parleyd.machine.errors import (
    MachineDamagedError,
    MachineError,
    MachineInvariantError,
    MachineReleaseError,
    MachineStorageError,
)
from parleyd.machine.features import accounts
from parleyd.machine.features import sends as sends_feature
from parleyd.machine.features.messages import MessageStored
from parleyd.machine.features.settings import Settings
from parleyd.machine.files import APPLICATION_ID
from parleyd.machine.levels import MAX_LEVEL
from parleyd.machine.machine import ApplyOutcome, StateMachine
from parleyd.machine.reader import StateReader
from parleyd.machine.records import CommittedEntry, MembershipChange
from parleyd.machine.rows import MAX_CACHED_ROWS, Rows
from parleyd.machine.state import State
from parleyd.machine.verify import verify_state_file
from parleyd.page_checksums import checksum_vfs
from tests.unit.machine.harness import (
    BOOTSTRAP_MEMBERS,
    START_MS,
    ConversationId,
    Node,
    dump,
    mark_delivered,
    message_count,
    payload,
    register,
    sends,
)
from tests.unit.storage.faulty_vfs import faulty_disk

FAILED = pb.RESULT_CODE_FAILED
UNKNOWN = pb.RESULT_CODE_UNKNOWN_COMMAND
OK = pb.RESULT_CODE_OK


def entry(index: int, *commands: pb.Command, term: int = 1) -> CommittedEntry:
    return CommittedEntry(index, term, payload(commands, START_MS + index))


# ---- position


def test_new_state_covers_nothing(node: Node) -> None:
    machine = node.machine
    assert (machine.applied_index, machine.applied_term, machine.membership) == (0, 0, b"membership")
    assert message_count(node.reader) == 0


def test_position_is_kept_with_the_rows(node: Node) -> None:
    node.machine.apply(
        [
            entry(1, register("ada"), term=3),
            CommittedEntry(2, 4),
            CommittedEntry(3, 5, b"", MembershipChange(b"grown", (1, 2, 3))),
        ]
    )
    before = node.machine.state_hash
    node.reopen()
    machine = node.machine
    assert (machine.applied_index, machine.applied_term, machine.membership) == (3, 5, b"grown")
    assert machine.state_hash == before
    assert (node.reader.summary().state_hash, node.reader.applied_index()) == (before, 3)


def test_no_op_has_no_results_and_is_applied(node: Node) -> None:
    outcome = node.machine.apply([CommittedEntry(1, 1), entry(2, register("ada")), CommittedEntry(3, 1)])
    assert outcome.applied_index == 3
    assert [len(results) for results in outcome.results] == [0, 1, 0]


def test_nothing_to_apply_changes_nothing(node: Node) -> None:
    before = node.machine.state_hash
    assert node.machine.apply([]) == ApplyOutcome(0, (), (), 1)
    assert node.machine.state_hash == before


@pytest.mark.parametrize("indexes", [[0], [2], [1, 3], [1, 1], [2, 1]])
def test_entries_out_of_order_are_refused_before_any_is_applied(node: Node, indexes: list[int]) -> None:
    with pytest.raises(MachineInvariantError):
        node.machine.apply([entry(index, register(f"user{index}")) for index in indexes])
    assert node.machine.applied_index == 0
    assert dump(node.path)["accounts"] == []


def test_entry_applied_before_is_refused(node: Node) -> None:
    node.machine.apply([entry(1)])
    with pytest.raises(MachineInvariantError):
        node.machine.apply([entry(1)])


# ---- bad commands


def test_undecodable_entry_is_an_unknown_command_and_not_the_end(node: Node) -> None:
    outcome = node.machine.apply([CommittedEntry(1, 1, b"\xff\xff\xff"), entry(2, register("ada"))])
    assert [[result.code for result in results] for results in outcome.results] == [[UNKNOWN], [OK]]


def test_command_of_a_newer_release_is_an_unknown_command(node: Node) -> None:
    outcome = node.machine.apply([entry(1, pb.Command(), register("ada"))])
    assert [result.code for result in outcome.results[0]] == [UNKNOWN, OK]


@pytest.fixture
def poison(node: Node, monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], tuple[int, int]]:
    """Two users, and a machine that stumbles over the body 'poison' after half of its work is done."""
    sessions = (node.user("ada", 1), node.user("bob", 2))
    node.user("cid", 3)
    real = sends_feature._Sends.apply

    def install(error: Exception) -> tuple[int, int]:
        def stumble(
            command: sends_feature._Sends, number: int, send: model_pb2.Send, stored: pb.StoredSendResult
        ) -> None:
            real(command, number, send, stored)
            if send.body == "poison":
                raise error

        monkeypatch.setattr(sends_feature._Sends, "apply", stumble)
        return sessions

    return install


def test_command_that_fails_unforeseen_changes_nothing_and_spares_the_others(
    node: Node, poison: Callable[[Exception], tuple[int, int]]
) -> None:
    ada, bob = poison(KeyError("a bug"))
    index = node.machine.applied_index
    outcome = node.machine.apply(
        [
            entry(index + 1, sends(ada, (1, "bob", "before"))),
            entry(index + 2, sends(bob, (1, "ada", "same")), sends(ada, (2, "bob", "fine"), (3, "cid", "poison"))),
            entry(index + 3, sends(ada, (2, "bob", "after"))),
        ]
    )
    codes = [[result.code for result in results] for results in outcome.results]
    assert codes == [[OK], [OK, FAILED], [OK]]
    stored = [effect.message.body for effect in outcome.effects if isinstance(effect, MessageStored)]
    assert stored == ["before", "same", "after"]
    assert [row[-2] for row in dump(node.path)["messages"]] == ["before", "same", "after"]
    assert message_count(node.reader) == 3
    assert len(dump(node.path)["conversations"]) == 1, "the one it began is gone again"
    (failure,) = outcome.failures
    assert (failure.index, failure.position) == (index + 2, 1)
    assert "KeyError in stumble" in failure.where
    assert "a bug" not in failure.where


def test_failing_command_leaves_the_same_state_however_entries_are_batched(
    tmp_path: Path, node: Node, poison: Callable[[Exception], tuple[int, int]]
) -> None:
    ada, bob = poison(apsw.ConstraintError("a bug"))
    node.close()
    other = tmp_path / "other.sqlite"
    shutil.copy(node.path, other)
    one, two = StateMachine.open(node.path), StateMachine.open(other)
    first = one.applied_index + 1
    commands = [sends(ada, (1, "bob", "a")), sends(bob, (1, "ada", "poison")), sends(bob, (1, "ada", "b"))]
    batch = [entry(first + place, command) for place, command in enumerate(commands)]
    together = one.apply(batch)
    alone = [two.apply([single]) for single in batch]
    assert [result for single in alone for result in single.results] == list(together.results)
    assert one.state_hash == two.state_hash
    one.close()
    two.close()
    assert dump(node.path) == dump(other)


@pytest.mark.parametrize(
    "error", [apsw.IOError("x"), apsw.FullError("x"), OSError("x"), MemoryError(), RecursionError()]
)
def test_fault_of_this_node_is_never_made_a_result(
    node: Node, poison: Callable[[Exception], tuple[int, int]], error: Exception
) -> None:
    ada, _ = poison(error)
    index = node.machine.applied_index
    with pytest.raises((MachineStorageError, RecursionError)):
        node.machine.apply([entry(index + 1, sends(ada, (1, "bob", "poison")))])
    with pytest.raises(MachineStorageError, match="already failed"):
        node.machine.apply([entry(index + 1)])
    node.close()
    machine = StateMachine.open(node.path)
    assert machine.applied_index == index
    machine.close()


def test_fault_of_this_node_while_a_command_is_tried_again_carefully_is_fatal_too(
    node: Node, poison: Callable[[Exception], tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, _ = poison(KeyError("a bug"))

    def broken(*_: object) -> None:
        raise apsw.IOError("disk")

    monkeypatch.setattr(State, "forget_all", broken)
    with pytest.raises(MachineStorageError):
        node.machine.apply([entry(node.machine.applied_index + 1, sends(ada, (1, "bob", "poison")))])


# ---- the disk


@pytest.mark.parametrize("error", [apsw.IOError, apsw.FullError])
def test_write_that_fails_stops_the_machine_and_keeps_the_last_commit(tmp_path: Path, error: type[apsw.Error]) -> None:
    path = tmp_path / "state.sqlite"
    StateMachine.create(path, BOOTSTRAP_MEMBERS, b"").close()
    with faulty_disk() as disk:
        machine = StateMachine.open(path, vfs=disk.name)
        machine.apply([entry(1, register("ada"))])
        position = (machine.applied_index, machine.state_hash)
        disk.fail["write"] = error
        with pytest.raises(MachineStorageError, match="will be applied again"):
            machine.apply([entry(2, register("bob"))])
        assert (machine.applied_index, machine.state_hash) == position
        disk.fail.clear()
        disk.calls.clear()
        for action in (lambda: machine.apply([entry(2)]), machine.checkpoint):
            with pytest.raises(MachineStorageError, match="already failed"):
                action()
        machine.close()
        assert ("write", "main") not in disk.calls
    again = StateMachine.open(path)
    assert (again.applied_index, again.state_hash) == position
    outcome = again.apply([entry(2, register("bob"))])
    assert outcome.results[0][0].code == OK
    again.close()


def test_apply_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    StateMachine.create(path, BOOTSTRAP_MEMBERS, b"").close()
    with faulty_disk() as disk:
        machine = StateMachine.open(path, vfs=disk.name)
        machine.apply([entry(1)])
        disk.calls.clear()
        machine.apply([entry(2, register("ada"))])
        assert ("write", "wal") in disk.calls
        assert disk.syncs("wal") == disk.syncs("main") == 0
        machine.close()


def test_checkpoint_syncs_everything_even_while_a_reader_holds_it_up(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    StateMachine.create(path, BOOTSTRAP_MEMBERS, b"").close()
    reader = apsw.Connection(str(path))
    with faulty_disk() as disk:
        machine = StateMachine.open(path, vfs=disk.name)
        machine.apply([entry(1)])
        machine.checkpoint()
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM meta").fetchall()
        machine.apply([entry(2, register("ada"))])
        disk.calls.clear()
        assert machine.checkpoint() == 2
        assert ("write", "main") not in disk.calls, "the reader holds the checkpoint up"
        writes = [place for place, call in enumerate(disk.calls) if call == ("write", "wal")]
        assert ("sync", "wal") in disk.calls[writes[-1] :]
        disk.calls.clear()
        machine.apply([entry(3)])
        assert disk.syncs("wal") == 0, "only the checkpoint is synchronous"
        reader.close()
        machine.close()


@pytest.mark.parametrize("checkpoint", [StateMachine.checkpoint, StateMachine.shorten_wal])
def test_sync_that_fails_in_a_checkpoint_stops_the_machine(
    checkpoint: Callable[[StateMachine], object], tmp_path: Path
) -> None:
    path = tmp_path / "state.sqlite"
    StateMachine.create(path, BOOTSTRAP_MEMBERS, b"").close()
    with faulty_disk() as disk:
        machine = StateMachine.open(path, vfs=disk.name)
        machine.apply([entry(1)])
        disk.fail["sync"] = apsw.IOError
        with pytest.raises(MachineStorageError):
            checkpoint(machine)
        disk.fail.clear()
        with pytest.raises(MachineStorageError, match="already failed"):
            checkpoint(machine)
        with pytest.raises(MachineStorageError, match="already failed"):
            machine.apply([entry(2)])
        machine.close()


def _may_sync(machine: StateMachine) -> bool:
    return machine.may_sync


def _is_long(machine: StateMachine) -> bool:
    return machine.has_long_wal


def test_an_apply_never_checkpoints_by_itself_and_says_when_it_is_time(tmp_path: Path) -> None:
    """A checkpoint syncs, so it has no place in an apply, which may run on the event loop."""
    path = tmp_path / "state.sqlite"
    StateMachine.create(path, BOOTSTRAP_MEMBERS, b"").close()
    with faulty_disk() as disk, patch.object(machine_module, "LONG_WAL_PAGES", 20):
        machine = StateMachine.open(path, vfs=disk.name)
        index = 1
        assert _may_sync(machine)
        machine.apply([entry(1)])
        assert not _may_sync(machine)
        disk.calls.clear()
        while not _is_long(machine):
            index += 1
            machine.apply([entry(index, register(f"account{index}"))])
        assert disk.syncs("wal") == disk.syncs("main") == 0
        machine.shorten_wal()
        assert disk.syncs("wal") == disk.syncs("main") == 1
        assert not _is_long(machine)
        assert _may_sync(machine)
        machine.apply([entry(index + 1)])
        assert not _may_sync(machine)
        assert not _is_long(machine), "the file is written from its start again"
        machine.close()


def test_a_wal_that_a_reader_keeps_long_is_tried_again_at_the_next_apply(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    StateMachine.create(path, BOOTSTRAP_MEMBERS, b"").close()
    reader = apsw.Connection(str(path))
    with patch.object(machine_module, "LONG_WAL_PAGES", 5), closing(StateMachine.open(path)) as machine:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM meta").fetchall()
        index = 0
        while not _is_long(machine):
            index += 1
            machine.apply([entry(index, register(f"account{index}"))])
        machine.shorten_wal()
        machine.apply([entry(index + 1)])
        assert _is_long(machine)
        reader.close()
        machine.shorten_wal()
        machine.apply([entry(index + 2)])
        assert not _is_long(machine)


def test_closed_machine_applies_nothing_more(node: Node) -> None:
    node.machine.close()
    node.machine.close()
    with pytest.raises(MachineStorageError):
        node.machine.apply([entry(1)])


# ---- opening and damage


def test_equal_founders_make_equal_states(tmp_path: Path) -> None:
    one = StateMachine.create(tmp_path / "one", BOOTSTRAP_MEMBERS, b"m")
    two = StateMachine.create(tmp_path / "two", list(reversed(BOOTSTRAP_MEMBERS)), b"m")
    other = StateMachine.create(tmp_path / "other", BOOTSTRAP_MEMBERS[:2], b"m")
    assert one.state_hash == two.state_hash != other.state_hash
    for machine in (one, two, other):
        machine.close()
    assert dump(tmp_path / "one") == dump(tmp_path / "two")


def test_new_state_is_never_written_over_an_old_one(node: Node) -> None:
    node.user("ada", 1)
    with pytest.raises(MachineError, match="never written over"):
        StateMachine.create(node.path, BOOTSTRAP_MEMBERS, b"")
    assert accounts.by_name(node.reader, "ada") is not None


def test_creation_cut_short_leaves_no_state_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.sqlite"
    import os

    def crash(*_: object) -> None:
        raise OSError("crash")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(MachineStorageError):
        StateMachine.create(path, BOOTSTRAP_MEMBERS, b"")
    monkeypatch.undo()
    assert not path.exists()
    StateMachine.create(path, BOOTSTRAP_MEMBERS, b"").close()


@pytest.mark.parametrize("content", [b"", b"garbage" * 2000, b"SQLite format 3\x00" + bytes(5000)])
def test_file_that_is_no_state_is_refused_with_advice(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.sqlite"
    path.write_bytes(content)
    for opened in (StateMachine.open, StateReader.open, verify_state_file):
        with pytest.raises(MachineDamagedError, match="joins as a new member"):
            opened(path)


def test_missing_state_is_refused_and_not_created(tmp_path: Path) -> None:
    with pytest.raises(MachineDamagedError, match="missing"):
        StateMachine.open(tmp_path / "state.sqlite")
    assert list(tmp_path.iterdir()) == []


def tampered(node: Node, *statements: str) -> Path:
    """The state, closed, after a change that no state machine made."""
    node.user("ada", 1)
    node.close()
    with closing(apsw.Connection(str(node.path), vfs=checksum_vfs())) as connection:
        for statement in statements:
            connection.execute(statement)
    return node.path


OPENERS = (StateMachine.open, StateReader.open, verify_state_file)


@pytest.mark.parametrize("opened", OPENERS)
def test_state_of_a_higher_level_is_refused_and_not_called_damaged(
    node: Node, opened: Callable[[Path], object]
) -> None:
    path = tampered(node, "PRAGMA user_version = 99", "UPDATE meta SET level = 99")
    before = path.read_bytes()
    with pytest.raises(MachineReleaseError, match=f"has level 99.*supports levels 1 to {MAX_LEVEL}.*[Nn]othing is"):
        opened(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("opened", OPENERS)
def test_state_of_0_1_is_refused_by_name(node: Node, opened: Callable[[Path], object]) -> None:
    path = tampered(node, "PRAGMA application_id = 0")
    before = path.read_bytes()
    with pytest.raises(FormatRefusedError, match=r"written by Parley 0\.1.*Nothing was changed"):
        opened(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("opened", OPENERS)
@pytest.mark.parametrize(
    "statements",
    [("PRAGMA application_id = 77",), ("UPDATE meta SET level = 2",), ("PRAGMA application_id = 0", "DROP TABLE meta")],
)
def test_file_of_another_program_or_of_two_minds_is_damaged(
    node: Node, opened: Callable[[Path], object], statements: tuple[str, ...]
) -> None:
    path = tampered(node, *statements)
    with pytest.raises(MachineDamagedError, match="joins as a new member"):
        opened(path)


def test_new_state_names_its_program_and_level(node: Node) -> None:
    node.close()
    with closing(apsw.Connection(str(node.path), vfs=checksum_vfs())) as connection:
        assert (connection.pragma("application_id"), connection.pragma("user_version")) == (APPLICATION_ID, 1)


def test_state_without_a_position_is_refused(node: Node) -> None:
    node.close()
    connection = apsw.Connection(str(node.path), vfs=checksum_vfs())
    connection.execute("DELETE FROM meta")
    connection.close()
    with pytest.raises(MachineDamagedError, match="which entries it covers"):
        StateMachine.open(node.path)
    with pytest.raises(MachineDamagedError, match="which entries it covers"):
        verify_state_file(node.path)


def test_sound_copy_is_verified_and_tells_its_position(node: Node) -> None:
    node.user("ada", 1)
    index = node.machine.applied_index
    node.close()
    assert verify_state_file(node.path) == (index, 1, b"membership")
    assert sorted(path.name for path in node.path.parent.iterdir()) == [node.path.name]


def test_damaged_copy_is_found_before_it_is_installed(node: Node) -> None:
    ada = node.user("ada", 1)
    for number in range(1, 200):
        node.send(ada, (number, "ada", "x" * 500))
    node.close()
    content = bytearray(node.path.read_bytes())
    for page in range(8, len(content) // 4096, 3):
        content[page * 4096 : page * 4096 + 200] = b"\xff" * 200
    node.path.write_bytes(content)
    with pytest.raises(MachineDamagedError):
        verify_state_file(node.path)


# ---- determinism


def test_state_hash_changes_with_every_entry_and_with_what_it_does(tmp_path: Path) -> None:
    seen = set()
    for number, variant in enumerate(
        (
            [entry(1)],
            [CommittedEntry(1, 2)],
            [entry(1, register("ada"))],
            [CommittedEntry(1, 1, b"", MembershipChange(b"m", (1, 2, 3)))],
        )
    ):
        machine = StateMachine.create(tmp_path / f"{number}", BOOTSTRAP_MEMBERS, b"")
        seen.add(machine.state_hash)
        machine.apply(variant)
        seen.add(machine.state_hash)
        machine.close()
    assert len(seen) == 5


def test_node_that_computes_another_result_from_the_same_entry_is_found_by_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> tuple[pb.ResultCode.ValueType, int, int]:
        return pb.RESULT_CODE_INVALID_BODY, 0, 0

    hashes = []
    for number in range(2):
        node = Node(tmp_path / f"{number}")
        ada = node.user("ada", 1)
        if number == 1:
            monkeypatch.setattr(sends_feature._Sends, "apply", refuse)
        node.send(ada, (1, "ada", "some text"))
        hashes.append(node.machine.state_hash)
        node.close()
    assert hashes[0] != hashes[1]


def test_caches_are_bounded_and_do_not_change_the_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same entries with caches of one row and of many give one state."""
    hashes, dumps, effects = [], [], []
    for bound in (1, MAX_CACHED_ROWS):
        monkeypatch.setattr("parleyd.machine.rows.MAX_CACHED_ROWS", bound)
        node = Node(tmp_path / f"bound-{bound}")
        sessions = [node.user(f"user{number}", 10 + number) for number in range(5)]
        channel = node.channel(sessions[0], "all", 2, 3, 4, 5)
        last = 0
        told: list[Effect] = []
        for turn in range(1, 5):
            for place, session in enumerate(sessions):
                target = ConversationId(channel) if place == 2 else f"user{(place + turn) % 5}"
                (result,) = node.send(session, (turn, target, "x"))
                told.extend(node.effects())
                last = result.message_id
            node.one(mark_delivered(sessions[turn], last))
            told.extend(node.effects())
            assert all(len(cache) <= bound for cache in caches(node.machine._state))
        hashes.append(node.machine.state_hash)
        node.close()
        dumps.append(dump(node.path))
        effects.append(told)
    assert hashes[0] == hashes[1]
    assert dumps[0] == dumps[1]
    assert effects[0] == effects[1]


def caches(state: State) -> list[dict[object, object]]:
    """Everything that the state keeps between transactions, wherever it is."""
    found = []
    for feature in state._rows._all:
        for held in vars(feature).values():
            found += [rows for rows in vars(held).values() if isinstance(rows, dict)] if isinstance(held, Rows) else []
            found += [held] if isinstance(held, dict) and not isinstance(feature, Settings) else []
    assert len(found) >= 10
    return found
