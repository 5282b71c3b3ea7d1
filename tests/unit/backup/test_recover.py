"""A recovery keeps everything that the node has, and leaves the old directory or the recovered one, wherever it ends.

What can go wrong: entries beyond the commit index, of members too; a kill at any step; a second run; a node that runs,
that was removed, that is fenced, or that is alone already.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from parley_proto.v1 import peer_pb2
from parleyd.backup.errors import RecoveryRefusedError
from parleyd.backup.recover import Recovery, Survey
from parleyd.group.opening import open_files, recover
from parleyd.machine.features import generations, members
from parleyd.machine.features.generations import GenerationKind
from parleyd.machine.levels import MAX_LEVEL
from parleyd.machine.new_generation import GAP, Begun
from parleyd.machine.reader import StateReader
from parleyd.raft.membership import ConfChange, ConfChangeType, SingleChange, encode_conf_change
from parleyd.raft.types import NO_NODE, ConfState, Entry, EntryType, HardState, Index, NodeId, Term
from parleyd.raft.update import Persist
from parleyd.storage import fence as fences
from parleyd.storage import identity as identities
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.errors import DirectoryBusyError
from parleyd.storage.fence import Fence
from parleyd.storage.raft_storage import RaftStorage
from tests.unit.backup.helpers import IDENTITY, TERM, batch, files_in, history, make_node
from tests.unit.backup.test_restore import Killed, killing_at
from tests.unit.machine.harness import register

NOW_MS = 1_700_000_000_000
LATE = [batch(register("late1"), level=MAX_LEVEL), batch(register("late2"), level=MAX_LEVEL)]
"""Entries that this node has, and whose commit it never heard of."""
COMMITTED = len(history())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One of three nodes; its log ends with entries beyond the commit index."""
    make_node(tmp_path / "n1", [*history(), *LATE], commit=COMMITTED)
    return tmp_path / "n1"


def survey(folder: Path) -> Survey:
    with DataDirectory.open(folder) as data, Recovery.open(data, identity_of(data)) as recovery:
        return recovery.survey


def carry_out(folder: Path) -> Begun:
    with DataDirectory.open(folder) as data, Recovery.open(data, identity_of(data)) as recovery:
        return recovery.carry_out(lambda: NOW_MS)


def identity_of(data: DataDirectory) -> identities.NodeIdentity:
    identity = identities.load(data.identity)
    assert identity is not None
    return identity


def check_recovered(folder: Path, people: Sequence[str] = ("late1", "late2"), generation: int = NOW_MS // 1000) -> None:
    """The directory starts as the only node of its cluster, with all entries."""
    with DataDirectory.open(folder) as data:
        assert identity_of(data) == IDENTITY
        log, machine = open_files(data)
        with closing(log), closing(machine):
            recovered = recover(log, machine)
            assert recovered.applied_index == recovered.snapshot.index
            assert recovered.applied_index > COMMITTED + GAP
            assert recovered.conf_state == ConfState(voters=(IDENTITY.node_id,))
            assert recovered.hard_state.current_term == TERM + 1
            assert recovered.hard_state.voted_for == NO_NODE
            assert machine.generation == generation
        with closing(StateReader.open(data.state_db)) as reader:
            found = members.current(reader)
            assert [row.name for row in found.rows] == ["n1"]
            assert IDENTITY.node_id not in [row.node_id for row in found.removed]
            names = {name for (name,) in reader.rows("SELECT name FROM accounts")}
            assert names >= {"person0", *people}
            [*_, last] = generations.all_of(reader)
            assert (last.kind, last.began_at_ms) == (GenerationKind.RECOVERED, NOW_MS)
        assert files_in(data.snapshots) == set()


def test_a_recovery_keeps_entries_beyond_the_commit_index_and_records_the_others_as_removed(folder: Path) -> None:
    begun = carry_out(folder)
    assert begun == Begun(NOW_MS // 1000, COMMITTED + len(LATE) + GAP, TERM + 1)
    check_recovered(folder)
    with DataDirectory.open(folder) as data, closing(StateReader.open(data.state_db)) as reader:
        assert [row.name for row in members.current(reader).removed] == ["n2", "n3"]


def test_the_survey_names_what_may_be_missing_and_the_others(folder: Path) -> None:
    found = survey(folder)
    assert (found.commit_index, found.last_index, found.unconfirmed) == (COMMITTED, COMMITTED + 2, 2)
    assert [row.name for row in found.others] == ["n2", "n3"]
    text = "\n".join(found.lines())
    for part in ("10.0.0.2:7700", "10.0.0.3:7600", "2 entries after that", "term 7", "will be lost"):
        assert part in text


def test_looking_changes_nothing(folder: Path) -> None:
    before = survey(folder)
    assert survey(folder) == before
    with DataDirectory.open(folder) as data, closing(StateReader.open(data.state_db)) as reader:
        assert (reader.applied_index(), reader.summary().generation) == (COMMITTED, 0)


def test_a_second_run_finds_that_the_node_is_alone(folder: Path) -> None:
    carry_out(folder)
    with pytest.raises(RecoveryRefusedError, match="only member"):
        carry_out(folder)
    check_recovered(folder)


def test_a_state_that_lags_behind_its_log_gets_all_of_it(tmp_path: Path) -> None:
    make_node(tmp_path / "n1", [*history(), *LATE], commit=COMMITTED, applied=2)
    carry_out(tmp_path / "n1")
    check_recovered(tmp_path / "n1")


def append(folder: Path, *entries: tuple[EntryType, bytes]) -> None:
    with DataDirectory.open(folder) as data:
        log = RaftStorage.open(data.raft_db)
        first = log.last_index + 1
        rows = tuple(Entry(TERM, Index(first + place), kind, payload) for place, (kind, payload) in enumerate(entries))
        log.append([Persist(hard_state=None, entries=rows)])
        log.close()


def membership(*changes: tuple[ConfChangeType, int], context: bytes = b"") -> tuple[EntryType, bytes]:
    singles = tuple(SingleChange(kind, NodeId(node)) for kind, node in changes)
    return EntryType.CONF_CHANGE_V2, encode_conf_change(ConfChange(singles, context=context))


def test_membership_entries_beyond_the_commit_index_leave_no_member(folder: Path) -> None:
    newcomer = peer_pb2.PeerInfo(node_id=4, name="n4", peer_address="10.0.0.4:1", min_level=1, max_level=MAX_LEVEL)
    append(
        folder,
        membership((ConfChangeType.ADD_LEARNER, 4), context=newcomer.SerializeToString()),
        membership((ConfChangeType.REMOVE_NODE, 1)),  # this node
        membership((ConfChangeType.REMOVE_NODE, 2), (ConfChangeType.ADD_VOTER, 4)),  # a joint one
        membership((ConfChangeType.REMOVE_NODE, 9)),  # does not fit
        (EntryType.NORMAL, batch(register("late3"), level=MAX_LEVEL)),
    )
    carry_out(folder)
    check_recovered(folder, ["late1", "late2", "late3"])
    with DataDirectory.open(folder) as data, closing(StateReader.open(data.state_db)) as reader:
        assert {row.name for row in members.current(reader).removed} == {"n2", "n3", "n4"}


def test_a_term_in_which_this_node_voted_is_left_behind(folder: Path) -> None:
    with DataDirectory.open(folder) as data:
        log = RaftStorage.open(data.raft_db)
        log.append([Persist(hard_state=HardState(Term(50), NodeId(3), Index(COMMITTED)))])
        log.close()
    assert carry_out(folder).term == 51


# ---- refused


def test_a_running_node_is_refused(folder: Path) -> None:
    with DataDirectory.open(folder), pytest.raises(DirectoryBusyError):
        carry_out(folder)


def test_a_node_that_was_removed_is_refused(folder: Path) -> None:
    with DataDirectory.open(folder) as data:
        log, machine = open_files(data)
        machine._connection.execute("DELETE FROM cluster_members WHERE node_id = 1")
        log.close()
        machine.close()
    with pytest.raises(RecoveryRefusedError, match="no member"):
        survey(folder)


def test_a_node_without_a_cluster_is_refused(tmp_path: Path) -> None:
    with DataDirectory.open(tmp_path / "new") as data:
        new = identities.new_identity("n1")
        with pytest.raises(RecoveryRefusedError, match="no cluster yet"), Recovery.open(data, new):
            pass


def test_a_fence_is_named_and_ends_with_the_recovery(folder: Path) -> None:
    with DataDirectory.open(folder) as data:
        fences.save(data.fence, Fence("outvoted at entry 7"))
    assert "outvoted at entry 7" in "\n".join(survey(folder).lines())
    carry_out(folder)
    assert "fenced.json" not in files_in(folder)


# ---- killed at every step


def test_a_recovery_killed_at_any_step_leaves_the_old_node_or_the_recovered_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(folder, kept)
    with monkeypatch.context() as patch:
        calls = killing_at(patch, 1_000_000)
        carry_out(folder)
    outcomes = set()
    for place in range(1, calls() + 1):
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)
        with monkeypatch.context() as patch:
            killing_at(patch, place)
            with pytest.raises(Killed):
                carry_out(folder)
        outcomes.add(repeat(folder))
        check_recovered(folder)
    assert outcomes == {"old", "recovered"}


def repeat(folder: Path) -> str:
    """What a start would find, and then a repeated recovery."""
    try:
        found = survey(folder)
    except RecoveryRefusedError:
        return "recovered"
    assert (found.generation, found.last_index, found.commit_index) == (0, COMMITTED + 2, COMMITTED)
    assert carry_out(folder).generation == NOW_MS // 1000
    return "old"
