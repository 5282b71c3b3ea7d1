"""Log compaction and snapshots, by the paper: §7."""

from __future__ import annotations

from typing import Any

import pytest

from parleyd.raft.errors import InvariantError, PeerProtocolError
from parleyd.raft.events import (
    Applied,
    Campaign,
    Compact,
    Propose,
    SnapshotAvailable,
    SnapshotStatus,
    Tick,
)
from parleyd.raft.messages import MessageType
from parleyd.raft.progress import ProgressState
from parleyd.raft.types import ConfState, Index, NodeId, Role, SnapshotMeta, Term
from tests.unit.raft.lab import Lab, entries, receive, solo, voters

M = MessageType


def behind(**settings: Any) -> Lab:
    """Server 1 leads and has cut its log; server 3 has missed what was cut."""
    lab = Lab(1, 2, 3, **settings)
    lab.do(1, Campaign())
    lab.cut(3)
    for number in range(5):
        lab.do(1, Propose((b"%d" % number,)))
    lab.do(1, Compact(Index(4)))
    lab.heal()
    return lab


def meta(index: int, term: int, conf: ConfState | None = None) -> SnapshotMeta:
    return SnapshotMeta(Index(index), Term(term), conf or voters(1, 2, 3))


def test_a_follower_behind_the_log_makes_the_leader_ask_for_a_snapshot() -> None:
    lab = behind()
    lab.tick(1, 1)
    assert NodeId(3) in lab.servers[1].needs_snapshot
    assert not [letter for letter in lab.delivered if letter.type is M.SNAPSHOT]


def test_a_snapshot_is_sent_as_soon_as_there_is_one_and_replication_goes_on_from_it() -> None:
    lab = behind()
    lab.tick(1, 1)
    lab.give_snapshot(1)
    sent = [letter for letter in lab.delivered if letter.type is M.SNAPSHOT]
    assert len(sent) == 1
    assert lab[1].status().progress[NodeId(3)].state is ProgressState.REPLICATE
    lab.do(1, Propose((b"after",)))
    assert lab.payloads(3) == [b"after"]
    assert lab[3].commit_index == lab[1].commit_index


def test_a_snapshot_older_than_the_log_is_of_no_use() -> None:
    lab = behind()
    lab.do(1, SnapshotAvailable(meta(2, 1)))
    lab.tick(1, 1)
    assert not [letter for letter in lab.delivered if letter.type is M.SNAPSHOT]
    assert NodeId(3) in lab.servers[1].needs_snapshot


def test_nothing_is_sent_while_a_snapshot_is_on_its_way() -> None:
    lab = behind()
    lab.tick(1, 1)
    lab.cut(3)
    lab.give_snapshot(1)
    update = lab.step(1, Propose((b"x",)))
    assert [letter for letter in update.send if letter.to == 3] == []
    assert lab[1].status().progress[NodeId(3)].state is ProgressState.SNAPSHOT


@pytest.mark.parametrize("ok", [True, False])
def test_after_a_transfer_the_leader_probes(ok: bool) -> None:
    lab = behind()
    lab.tick(1, 1)
    lab.cut(3)
    snapshot = lab.give_snapshot(1)
    lab.do(1, SnapshotStatus(NodeId(3), ok))
    status = lab[1].status().progress[NodeId(3)]
    assert (status.state, status.paused) == (ProgressState.PROBE, True)
    assert status.next_index == (snapshot.index + 1 if ok else status.match_index + 1)


def test_a_failed_transfer_is_tried_again_after_the_next_heartbeat() -> None:
    lab = behind()
    lab.tick(1, 1)
    lab.cut(3)
    lab.give_snapshot(1)
    lab.do(1, SnapshotStatus(NodeId(3), False))
    lab.heal()
    lab.tick(1, 1)
    assert lab[3].commit_index == lab[1].commit_index


def test_no_snapshot_is_sent_to_a_server_that_is_silent() -> None:
    lab = Lab(1, 2, 3)
    lab.cut(3)
    lab.do(1, Campaign())
    for number in range(5):
        lab.do(1, Propose((b"%d" % number,)))
    lab.tick(5, 1, 2)
    lab.do(1, Compact(Index(4)))
    lab.give_snapshot(1)
    lab.tick(3, 1, 2)
    assert not [letter for letter in lab.lost if letter.type is M.SNAPSHOT]


def test_a_snapshot_replaces_log_and_membership_when_it_is_durable() -> None:
    raft = solo(1, log=entries(1, 1), term=1)
    conf = voters(1, 2, 7)
    update = raft.step(receive(M.SNAPSHOT, 2, 1, 2, snapshot=meta(9, 2, conf)))
    assert update.persist is not None
    assert update.persist.snapshot == meta(9, 2, conf)
    assert update.persist.must_sync
    assert update.persist.hard_state is not None
    assert (update.persist.hard_state.current_term, update.persist.hard_state.commit_index) == (2, 9)
    assert [(letter.type, letter.index) for letter in update.after_persist] == [(M.APPEND_RESPONSE, 9)]
    assert (raft.applied_index, raft.status().first_index) == (0, 10)
    raft.step(update.persist.done)
    assert (raft.applied_index, raft.conf_state) == (9, conf)


def test_while_a_snapshot_is_installed_nothing_is_applied_and_nobody_campaigns() -> None:
    raft = solo(1)
    install = raft.step(receive(M.SNAPSHOT, 2, 1, 1, snapshot=meta(9, 1)))
    more = receive(M.APPEND, 2, 1, 1, index=9, log_term=1, entries=entries(1, start=10), commit=10)
    assert raft.step(more).committed == ()
    raft.step(Campaign())
    assert raft.role is Role.FOLLOWER
    assert install.persist is not None
    raft.step(install.persist.done)
    assert raft.applied_index == 9
    raft.step(Campaign())
    assert raft.role is not Role.FOLLOWER


def test_an_old_snapshot_is_answered_with_what_is_committed() -> None:
    raft = solo(1, log=entries(1, 1, 1), term=1, commit=3)
    update = raft.step(receive(M.SNAPSHOT, 2, 1, 1, snapshot=meta(2, 1)))
    assert [(letter.index, letter.reject) for letter in update.after_persist] == [(3, False)]
    assert raft.status().first_index == 1


def test_a_snapshot_that_the_log_already_holds_only_commits() -> None:
    raft = solo(1, log=entries(1, 1, 1), term=1)
    update = raft.step(receive(M.SNAPSHOT, 2, 1, 1, snapshot=meta(2, 1)))
    assert (raft.commit_index, raft.status().first_index, raft.status().last_index) == (2, 1, 3)
    assert update.persist is not None
    assert update.persist.snapshot is None


def test_a_snapshot_of_a_cluster_without_this_server_is_not_installed() -> None:
    raft = solo(1)
    raft.step(receive(M.SNAPSHOT, 2, 1, 1, snapshot=meta(9, 1, voters(2, 3))))
    assert raft.status().last_index == 0


@pytest.mark.parametrize(
    "snapshot",
    [
        None,
        meta(0, 1),
        meta(5, 1, ConfState(learners=(NodeId(1),))),
        meta(5, 1, ConfState(voters=(NodeId(1),), learners=(NodeId(1),))),
    ],
)
def test_a_snapshot_that_makes_no_sense_is_the_peers_fault(snapshot: SnapshotMeta | None) -> None:
    raft = solo(1)
    before = raft.status()
    with pytest.raises(PeerProtocolError, match="node 2"):
        raft.step(receive(M.SNAPSHOT, 2, 1, 1, snapshot=snapshot))
    assert raft.status() == before


def test_a_snapshot_brings_a_joint_membership_along() -> None:
    conf = ConfState(
        voters=voters(1, 2, 3).voters, voters_outgoing=voters(1, 2, 4).voters, auto_leave=True, learners_next=()
    )
    raft = solo(1)
    raft.step(receive(M.SNAPSHOT, 2, 1, 1, snapshot=meta(9, 1, conf)))
    assert raft.conf_state == conf


def test_compaction_keeps_what_the_next_message_needs() -> None:
    lab = Lab(1, 2, 3)
    lab.do(1, Campaign())
    for number in range(5):
        lab.do(1, Propose((b"%d" % number,)))
    lab.do(1, Compact(lab[1].applied_index))
    lab.do(1, Propose((b"x",)))
    assert lab.payloads(2)[-1] == b"x"
    assert lab[1].status().first_index == 7


def test_compaction_above_what_is_applied_is_refused() -> None:
    raft = solo(1, log=entries(1, 1), term=1)
    raft.step(receive(M.HEARTBEAT, 2, 1, 1, commit=2))
    with pytest.raises(InvariantError, match="compaction"):
        raft.step(Compact(Index(2)))
    raft.step(Applied(Index(2)))
    raft.step(Compact(Index(2)))
    raft.step(Compact(Index(1)))  # late: done already
    assert raft.status().first_index == 3


def test_a_restart_behind_a_snapshot_goes_on_from_it() -> None:
    lab = Lab(1, 2, 3, bootstrapped_at=50)
    lab.do(1, Campaign())
    lab.do(1, Propose((b"x",)))
    lab.step(1, Tick())
    assert lab[1].commit_index == 52
    assert lab.payloads(2) == [b"x"]
