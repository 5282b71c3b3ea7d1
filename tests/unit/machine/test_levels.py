"""Levels: raised through the log once every member supports the next, and a node that is too old stops before it.

A release that supports level 2 is made up here: it has a column more, and `set_role` stands for a command of level 2.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine import entries, files, levels
from parleyd.machine import machine as machine_module
from parleyd.machine.audit_actions import NotAudited
from parleyd.machine.authorisation import Action
from parleyd.machine.errors import MachineReleaseError, MachineStorageError
from parleyd.machine.feature import SignedInCommand
from parleyd.machine.features import accounts, administration
from parleyd.machine.features import levels as levels_feature
from parleyd.machine.features.levels import LevelRaised
from parleyd.machine.machine import StateMachine
from parleyd.machine.reader import StateReader
from parleyd.machine.records import CommittedEntry, MemberRow, MembershipChange
from parleyd.machine.registry import COMMANDS, FEATURES
from parleyd.machine.state import State
from parleyd.machine.verify import verify_state_file
from tests.unit.machine.harness import (
    BOOTSTRAP_MEMBERS,
    START_MS,
    Node,
    change_setting,
    dump,
    mark_read,
    payload,
    publish,
    raise_level,
    register,
    sends,
    set_role,
)

OK = pb.RESULT_CODE_OK
UNKNOWN = pb.RESULT_CODE_UNKNOWN_COMMAND
NOT_NEXT = pb.RESULT_CODE_LEVEL_NOT_NEXT
NOT_SUPPORTED = pb.RESULT_CODE_LEVEL_NOT_SUPPORTED
COLUMN = "ALTER TABLE accounts ADD COLUMN shown TEXT NOT NULL DEFAULT 'nothing';"


@pytest.fixture(autouse=True)
def first_release() -> Iterator[None]:
    """A release that supports level 1 alone, whatever levels the product has by now."""
    with pytest.MonkeyPatch.context() as patch:
        for level in [level for level in levels.RELEASES if level > 1]:
            patch.delitem(levels.RELEASES, level)
        for module in (levels, files, machine_module, entries, levels_feature):
            patch.setattr(module, "MAX_LEVEL", 1)
        for name in [name for name, command in COMMANDS.items() if command.level > 1]:
            patch.delitem(COMMANDS, name)
        for feature in FEATURES:
            for level in [level for level in feature.tables if level > 1]:
                patch.delitem(feature.tables, level)
        patch.setattr(accounts, "DISPLAY_NAME_LEVEL", 1_000)
        yield


@contextmanager
def newer_release() -> Iterator[None]:
    """A release that supports levels 1 and 2."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(levels.RELEASES, 2, "9.9.0")
        for module in (levels, files, machine_module, entries, levels_feature):
            patch.setattr(module, "MAX_LEVEL", 2)
        patch.setitem(accounts.FEATURE.tables, 2, COLUMN)
        patch.setitem(
            COMMANDS,
            "set_role",
            SignedInCommand(administration.set_role, Action.SET_ROLE, level=2, audits=NotAudited.ROUTINE),
        )
        yield


@pytest.fixture
def newer() -> Iterator[None]:
    with newer_release():
        yield


def everybody_publishes(*ranges: tuple[int, int]) -> list[pb.Command]:
    return [publish(i, f"n{i}", levels=pair) for i, pair in zip((1, 2, 3), ranges, strict=True)]


def entry(index: int, *commands: pb.Command, level: int = 1) -> CommittedEntry:
    return CommittedEntry(index, 1, payload(commands, START_MS + index, level))


def level_of(path: Path) -> tuple[int, int, bool]:
    """The level in the header and in the content, and whether its column is there."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    columns = [row[1] for row in connection.execute("PRAGMA table_info(accounts)")]
    found = (connection.pragma("user_version"), connection.execute("SELECT level FROM meta").get, "shown" in columns)
    connection.close()
    return found


# ---- a node that is too old


ABOVE = [
    pytest.param([entry(1, register("ada"), level=2)], id="alone"),
    pytest.param([entry(1, register("ada")), entry(2, register("bob"), level=2)], id="after another"),
    pytest.param([entry(1, register("ada")), entry(2, level=2), entry(3, register("bob"))], id="between others"),
    pytest.param(
        [entry(1, *everybody_publishes((1, 2), (1, 2), (1, 2))), entry(2, register("bob"), raise_level(2, "9.9.0"))],
        id="a raise",
    ),
    pytest.param([entry(1, register("ada"), level=2**32 - 1)], id="highest number"),
]


@pytest.mark.parametrize("entries", ABOVE)
def test_entry_above_the_releases_own_level_stops_the_node_with_nothing_written(
    node: Node, entries: list[CommittedEntry]
) -> None:
    before = (dump(node.path), node.machine.applied_index, node.machine.state_hash)
    with pytest.raises(MachineReleaseError, match=r"supports levels 1 to 1.*Nothing is wrong with the data"):
        node.machine.apply(entries)
    assert (dump(node.path), node.machine.applied_index, node.machine.state_hash) == before
    with pytest.raises(MachineStorageError, match="already failed"):
        node.machine.apply(entries[:1])
    node.reopen()
    assert (dump(node.path), node.machine.applied_index, node.machine.state_hash) == before


def test_node_that_stops_names_the_entry_and_the_release_it_needs(node: Node) -> None:
    node.apply(*everybody_publishes((1, 2), (1, 2), (1, 2)))
    with pytest.raises(
        MachineReleaseError, match=r"entry 2 of the log has level 2.*Start this node with Parley 9\.9\.0"
    ):
        node.machine.apply([entry(2, raise_level(2, "9.9.0"))])


def test_node_that_gets_the_raise_together_with_later_entries_names_the_release_too(node: Node) -> None:
    node.apply(*everybody_publishes((1, 2), (1, 2), (1, 2)))
    with pytest.raises(MachineReleaseError, match=r"has level 2.*Start this node with Parley 9\.9\.0"):
        node.machine.apply([entry(2, raise_level(2, "9.9.0")), entry(3, register("ada"), level=2)])


def test_raise_that_is_refused_does_not_stop_the_node_for_whose_sake_it_is(tmp_path: Path) -> None:
    """A node of the old release joins while the raise is on its way: all refuse it, and the newcomer goes on."""
    newcomer = MembershipChange(b"m", (1, 2, 3, 4), (MemberRow(4, "n4", "h:1", "h:2"),))
    entries = [
        entry(1, *everybody_publishes((1, 2), (1, 2), (1, 2))),
        CommittedEntry(2, 1, b"", newcomer),
        entry(3, raise_level(2), raise_level(3)),
        entry(4, register("ada")),
    ]
    old = Node(tmp_path / "old")
    outcomes = [old.machine.apply(entries)]
    with newer_release():
        new = Node(tmp_path / "new")
        outcomes.append(new.machine.apply(entries))
    assert outcomes[0].results == outcomes[1].results
    assert [result.code for result in outcomes[0].results[2]] == [NOT_SUPPORTED, NOT_NEXT]
    assert old.machine.state_hash == new.machine.state_hash
    old.close()
    new.close()
    assert dump(old.path) == dump(new.path)


def test_node_of_the_needed_release_goes_on_where_the_old_one_stopped(node: Node) -> None:
    node.apply(*everybody_publishes((1, 2), (1, 2), (1, 2)))
    raising = entry(2, raise_level(2))
    with pytest.raises(MachineReleaseError):
        node.machine.apply([raising])
    with newer_release():
        node.reopen()
        assert node.machine.apply([raising]).results == ((pb.CommandResult(code=OK),),)
        node.close()
    for opened in (StateMachine.open, StateReader.open, verify_state_file):
        with pytest.raises(MachineReleaseError, match="has level 2"):
            opened(node.path)


# ---- what is not of the entry's level


def test_batch_above_the_clusters_level_is_unknown_and_changes_nothing(newer: None, node: Node) -> None:
    ada = node.user("ada", 1)
    before = dump(node.path)
    results = node.apply(
        register("bob"), sends(ada, (1, "ada", "x")), set_role(ada, "ada", administrator=True), level=2
    )
    assert results == [pb.CommandResult(code=UNKNOWN)] * 3
    assert node.effects() == ()
    after = dump(node.path)
    assert {table for table in after if after[table] != before[table]} == {"meta"}


@pytest.mark.parametrize("level", [0, 2])
def test_batch_of_no_level_or_a_later_one_lets_nobody_in(newer: None, node: Node, level: int) -> None:
    assert [result.code for result in node.apply(register("ada"), level=level)] == [UNKNOWN]


def test_command_above_the_batchs_level_is_unknown_on_old_and_new_releases_alike(tmp_path: Path) -> None:
    """The old release has no such command at all: to it the field is unknown."""
    hashes, dumps = [], []
    for release in ("old", "new"):
        with newer_release(), pytest.MonkeyPatch.context() as patch:
            if release == "old":
                patch.delitem(COMMANDS, "set_role")
            node = Node(tmp_path / release)
            ada = node.user("ada", 1)
            results = node.apply(set_role(ada, "ada", administrator=False), set_role(99, "", administrator=True))
            assert results == [pb.CommandResult(code=UNKNOWN)] * 2
            hashes.append(node.machine.state_hash)
            node.close()
            dumps.append(dump(node.path))
    assert hashes[0] == hashes[1]
    assert dumps[0] == dumps[1]


def test_command_that_this_release_cannot_read_is_unknown(node: Node) -> None:
    later = pb.Command.FromString(bytes([0xFA, 0x3E, 0x02, 0x08, 0x01]))  # field 1007, as a later release might have
    assert later.WhichOneof("command") is None
    assert node.one(later) == pb.CommandResult(code=UNKNOWN)


def test_old_entry_is_applied_by_old_rules_after_the_level_has_risen(newer: None, node: Node) -> None:
    ada = node.user("ada", 1)
    node.user("bob", 2)
    node.apply(*everybody_publishes((1, 2), (1, 2), (1, 2)))
    make_bob = set_role(ada, "bob", administrator=True)
    assert [result.code for result in node.apply(raise_level(2), make_bob)] == [OK, UNKNOWN], "level 1 to its end"
    assert node.one(make_bob).code == UNKNOWN
    assert [result.code for result in node.apply(make_bob, level=2)] == [OK]


# ---- raising


def test_level_rises_when_all_members_support_it(newer: None, node: Node) -> None:
    node.apply(*everybody_publishes((1, 2), (1, 3), (2, 2)))
    assert level_of(node.path) == (1, 1, False)
    assert node.one(publish(3, "n3", levels=(2, 2))).code == NOT_SUPPORTED, "it could not apply what is in the log"
    node.one(publish(3, "n3", levels=(1, 2)))
    assert node.one(raise_level(2)).code == OK
    assert node.effects() == (LevelRaised(2),)
    assert level_of(node.path) == (2, 2, True)
    summary = node.reader.summary()
    assert (summary.level, node.reader.level()) == (2, 2)


@pytest.mark.parametrize("behind", [0, 1, 2])
def test_level_does_not_rise_while_one_member_does_not_support_it(newer: None, node: Node, behind: int) -> None:
    ranges = [(1, 2), (1, 2), (1, 2)]
    ranges[behind] = (1, 1)
    node.apply(*everybody_publishes(*ranges))
    assert node.one(raise_level(2)).code == NOT_SUPPORTED
    assert node.effects() == ()
    assert level_of(node.path) == (1, 1, False)


def test_level_does_not_rise_over_a_newcomer_that_has_not_published_and_one_removed_does_not_count(
    newer: None, node: Node
) -> None:
    node.apply(*everybody_publishes((1, 2), (1, 2), (1, 2)))
    newcomer = MemberRow(4, "n4", "h:1", "h:2")
    joined = MembershipChange(b"m", (1, 2, 3, 4), (newcomer,))
    node.machine.apply([CommittedEntry(node.machine.applied_index + 1, 1, b"", joined)])
    assert node.one(raise_level(2)).code == NOT_SUPPORTED
    left = MembershipChange(b"m", (1, 2, 3))
    node.machine.apply([CommittedEntry(node.machine.applied_index + 1, 1, b"", left)])
    assert node.one(raise_level(2)).code == OK


def test_level_rises_by_one_never_falls_and_raising_it_again_is_fine(newer: None, node: Node) -> None:
    node.apply(*everybody_publishes((1, 9), (1, 9), (1, 9)))
    assert node.one(raise_level(0)).code == NOT_NEXT
    assert [node.one(raise_level(level)).code for level in (1, 2, 2)] == [OK, OK, OK]
    assert node.effects() == (), "only the first raise is told"
    assert node.one(raise_level(1)).code == NOT_NEXT
    assert level_of(node.path) == (2, 2, True)


def test_level_that_is_not_the_next_is_refused(newer: None, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "MAX_LEVEL", 3)
    node.apply(*everybody_publishes((1, 9), (1, 9), (1, 9)))
    assert node.one(raise_level(3)).code == NOT_NEXT
    assert level_of(node.path) == (1, 1, False)


def test_level_is_held_back_by_its_setting(newer: None, node: Node) -> None:
    ada = node.user("ada", 1)
    node.apply(*everybody_publishes((1, 2), (1, 2), (1, 2)))
    node.one(change_setting(ada, "level_limit", 1))
    assert node.one(raise_level(2)).code == pb.RESULT_CODE_LEVEL_HELD
    assert level_of(node.path) == (1, 1, False)
    node.one(change_setting(ada, "level_limit", 2))
    assert node.one(raise_level(2)).code == OK
    node.one(change_setting(ada, "level_limit", 1))
    assert node.one(raise_level(2)).code == OK, "what is so already is not held"
    assert level_of(node.path)[0] == 2


@pytest.mark.parametrize("pair", [(0, 1), (0, 0), (2, 2), (2, 1), (3, 9)])
def test_member_whose_range_does_not_hold_the_clusters_level_is_refused(node: Node, pair: tuple[int, int]) -> None:
    assert node.one(publish(1, "n1", levels=pair)).code == NOT_SUPPORTED
    assert node.machine.members().rows == tuple(BOOTSTRAP_MEMBERS)


def test_member_publishes_its_levels(node: Node) -> None:
    assert node.one(publish(1, "n1", "a:1", "a:2", levels=(1, 4))).code == OK
    assert node.machine.members().rows[0] == MemberRow(1, "n1", "a:1", "a:2", 1, 4)


# ---- the tables of a level


def risen(index: int) -> list[CommittedEntry]:
    """Entries that raise the level in the middle of ordinary work."""
    commands: list[tuple[list[pb.Command], int]] = [
        ([register("ada"), register("bob")], 1),
        (everybody_publishes((1, 2), (1, 2), (1, 2)), 1),
        ([register("cid"), raise_level(2, "9.9.0"), register("dan")], 1),
        ([register("eve")], 1),
        ([register("fay")], 2),
    ]
    return [entry(index + place, *batch, level=level) for place, (batch, level) in enumerate(commands)]


def test_nodes_that_raise_in_any_batching_end_alike_and_a_copy_of_one_serves_another(
    newer: None, tmp_path: Path
) -> None:
    hashes, dumps = [], []
    for place, sizes in enumerate(([5], [1, 1, 1, 1, 1], [2, 2, 1])):
        machine = StateMachine.create(tmp_path / f"{place}", BOOTSTRAP_MEMBERS, b"m")
        entries = risen(1)
        for size in sizes:
            outcome = machine.apply(entries[:size])
            assert not outcome.failures
            entries = entries[size:]
        hashes.append(machine.state_hash)
        machine.close()
        dumps.append(dump(tmp_path / f"{place}"))
    assert len(set(hashes)) == 1
    assert dumps[0] == dumps[1] == dumps[2]
    assert [row[-1] for row in dumps[0]["accounts"]] == ["nothing"] * 6
    shutil.copy(tmp_path / "0", tmp_path / "copy")
    assert verify_state_file(tmp_path / "copy")[0] == 5
    copy = StateMachine.open(tmp_path / "copy")
    copy.apply([entry(6, register("gil"), level=2)])
    copy.close()


def test_crash_at_any_commit_leaves_a_file_of_one_level(newer: None, tmp_path: Path) -> None:
    folder = tmp_path / "live"
    folder.mkdir()
    path = folder / "state.sqlite"
    machine = StateMachine.create(path, BOOTSTRAP_MEMBERS, b"m")
    pictures: list[Path] = []

    def photograph(_connection: apsw.Connection, _schema: str, _pages: int) -> int:
        pictures.append(tmp_path / f"picture-{len(pictures)}")
        shutil.copytree(folder, pictures[-1])
        return apsw.SQLITE_OK

    machine._connection.set_wal_hook(photograph)
    for one in risen(1):
        machine.apply([one])
    machine.close()
    whole = dump(path)
    seen = set()
    for picture in pictures:
        again = StateMachine.open(picture / "state.sqlite")
        raised = again.applied_index >= 3
        assert level_of(picture / "state.sqlite") == ((2, 2, True) if raised else (1, 1, False))
        seen.add(raised)
        again.apply(risen(1)[again.applied_index :])
        again.close()
        assert dump(picture / "state.sqlite") == whole
    assert seen == {False, True}


def test_crash_inside_the_raise_leaves_the_level_before_it(
    newer: None, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = risen(1)
    node.machine.apply(entries[:2])

    def crash(_: State) -> None:
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(State, "write_meta", crash)
        with pytest.raises(MachineStorageError):
            node.machine.apply(entries[2:])
    node.close()
    assert level_of(node.path) == (1, 1, False)
    node.machine = StateMachine.open(node.path)
    node.machine.apply(entries[2:])
    assert level_of(node.path) == (2, 2, True)


def test_command_that_fails_beside_a_raise_leaves_the_state_it_would_leave_alone(
    newer: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction is rolled back and applied again carefully, raise included."""

    def broken(*_: object) -> None:
        raise KeyError("a bug")

    hashes, dumps = [], []
    for place, together in enumerate((True, False)):
        node = Node(tmp_path / f"{place}")
        ada = node.user("ada", 1)
        node.apply(*everybody_publishes((1, 2), (1, 2), (1, 2)))
        monkeypatch.setattr("parleyd.machine.features.receipts.Receipts.marks", broken)
        first = node.machine.applied_index + 1
        entries = [entry(first, raise_level(2), mark_read(ada, 1, 1)), entry(first + 1, register("bob"), level=2)]
        outcomes = [node.machine.apply(entries)] if together else [node.machine.apply([one]) for one in entries]
        monkeypatch.undo()
        codes = [result.code for outcome in outcomes for results in outcome.results for result in results]
        assert codes == [OK, pb.RESULT_CODE_FAILED, OK]
        assert level_of(node.path) == (2, 2, True)
        hashes.append(node.machine.state_hash)
        node.close()
        dumps.append(dump(node.path))
    assert hashes[0] == hashes[1]
    assert dumps[0] == dumps[1]


def test_raise_that_fails_leaves_no_half_of_its_tables(
    newer: None, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.apply(*everybody_publishes((1, 2), (1, 2), (1, 2)))
    real = State.begin_level

    def half(state: State, level: int) -> None:
        real(state, level)
        raise KeyError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(State, "begin_level", half)
        assert node.one(raise_level(2)).code == pb.RESULT_CODE_FAILED
    assert level_of(node.path) == (1, 1, False)
    assert node.one(raise_level(2)).code == OK
    assert level_of(node.path) == (2, 2, True)
