"""Bugs other projects had, each in a few steps; tests/mutants/patches says which and where they were reported."""

from __future__ import annotations

from parleyd.raft.events import Campaign, Propose, ReadIndex, Tick, TransferLeader
from parleyd.raft.messages import MessageType
from parleyd.raft.types import ConfState, Index, NodeId, Role, SnapshotMeta, Term
from tests.unit.raft.lab import Lab, entries, entry, receive, settle, solo, voters

M = MessageType


def test_a_candidate_that_steps_down_within_its_term_keeps_its_vote() -> None:
    raft = solo()
    settle(raft, raft.step(Campaign()))
    for node in (2, 3):
        settle(raft, raft.step(receive(M.VOTE_RESPONSE, node, 1, 1, reject=True)))
    assert (raft.role, raft.term) == (Role.FOLLOWER, 1)
    (answer,) = settle(raft, raft.step(receive(M.VOTE, 2, 1, 1, index=Index(9), log_term=Term(1))))
    assert answer.reject
    assert raft.status().voted_for == 1


def test_a_heartbeat_of_an_earlier_term_does_not_restart_the_election_clock() -> None:
    raft = solo(term=3, pre_vote=True, check_quorum=True)
    for _ in range(40):
        raft.step(Tick())
        raft.step(receive(M.HEARTBEAT, 2, 1, 2))
        if raft.role is Role.PRE_CANDIDATE:
            return
    raise AssertionError("the heartbeats of a leader that is none any more keep this server quiet")


def test_a_follower_commits_nothing_its_leader_has_not_vouched_for() -> None:
    # Entries 2 and 3 are of an earlier leader; the new one has only said that entry 1 is the same.
    raft = solo(term=2, log=entries(1, 1, 1))
    raft.step(receive(M.APPEND, 2, 1, 2, index=Index(1), log_term=Term(1), commit=Index(3)))
    assert raft.commit_index == 1


def test_a_heartbeat_never_tells_a_commit_index_beyond_what_the_follower_has() -> None:
    lab = Lab(1, 2, 3)
    lab.do(1, Campaign())
    lab.cut(3)
    lab.do(1, Propose((b"x",)))
    lab.wire.clear()
    lab.step(1, Tick())
    told = {int(letter.to): int(letter.commit) for letter in lab.wire if letter.type is M.HEARTBEAT}
    assert told == {2: 2, 3: 1}


def test_the_end_of_one_installation_is_not_taken_for_the_end_of_the_next() -> None:
    raft = solo()
    metas = [SnapshotMeta(Index(index), Term(1), voters(1, 2, 3)) for index in (5, 9)]
    first, second = (raft.step(receive(M.SNAPSHOT, 2, 1, 1, snapshot=meta)) for meta in metas)
    assert first.persist is not None
    assert second.persist is not None
    raft.step(first.persist.done)
    assert raft.applied_index == 5, "the state machine has the first snapshot only"
    raft.step(Campaign())
    assert raft.status().role is Role.FOLLOWER, "the second state is still being installed"
    raft.step(second.persist.done)
    assert raft.applied_index == 9
    raft.step(Campaign())
    assert raft.status().role is Role.CANDIDATE


def test_a_server_that_confirmed_an_earlier_read_has_not_confirmed_the_next() -> None:
    lab = Lab(1, 2, 3, 4, 5)
    lab.do(1, Campaign())
    tokens = []
    for context in (b"first", b"second"):
        lab.step(1, ReadIndex(context))
        tokens.append(lab.wire[-1].context)
        lab.wire.clear()
        if context == b"first":
            lab.step(1, receive(M.HEARTBEAT_RESPONSE, 2, 1, 1, context=tokens[0]))
    lab.step(1, receive(M.HEARTBEAT_RESPONSE, 3, 1, 1, context=tokens[1]))
    assert lab.servers[1].reads == []
    lab.step(1, receive(M.HEARTBEAT_RESPONSE, 4, 1, 1, context=tokens[1]))
    assert [ready.context for ready in lab.servers[1].reads] == [b"first", b"second"]


def test_an_entry_that_was_replaced_and_came_back_is_not_durable_by_its_first_write() -> None:
    raft = solo(term=1, log=entries(1))
    writes = []
    for leader, term, entry_term in ((2, 1, 1), (3, 2, 2), (2, 3, 1)):
        before = {"index": Index(1), "log_term": Term(1), "commit": Index(2 if term == 3 else 0)}
        update = raft.step(receive(M.APPEND, leader, 1, term, entries=(entry(entry_term, 2),), **before))
        assert update.persist is not None
        writes.append(update.persist)
    assert raft.commit_index == 2
    # The disk has the entry's first life; the write that replaces it is still on its way and may be its last.
    assert [item.index for item in raft.step(writes[0].done).committed] == []
    raft.step(writes[1].done)
    assert [item.index for item in raft.step(writes[2].done).committed] == [2]


def test_a_follower_that_lacks_entries_is_not_told_to_campaign() -> None:
    lab = Lab(1, 2, 3)
    lab.do(1, Campaign())
    lab.cut(3)
    lab.do(1, Propose((b"x",)))
    lab.wire.clear()
    lab.step(1, TransferLeader(NodeId(3)))
    assert M.TIMEOUT_NOW not in [letter.type for letter in lab.wire]
    lab.heal()
    lab.tick(2)
    assert lab.leaders() == [3]


def test_a_leader_of_an_earlier_term_hears_of_the_current_one() -> None:
    for kind in (M.APPEND, M.HEARTBEAT):
        raft = solo(term=3, pre_vote=True, check_quorum=True)
        answers = settle(raft, raft.step(receive(kind, 2, 1, 2)))
        assert [(answer.to, answer.term) for answer in answers] == [(2, 3)]


def test_learners_make_no_majority_with_their_leader() -> None:
    nodes = [NodeId(node) for node in range(1, 6)]
    lab = Lab(*nodes, conf=ConfState(voters=tuple(nodes[:3]), learners=tuple(nodes[3:])))
    lab.do(1, Campaign())
    lab.cut(2, 3)
    commit = lab[1].commit_index
    lab.do(1, Propose((b"x",)))
    assert lab[4].status().last_index == lab[5].status().last_index == commit + 1
    assert lab[1].commit_index == commit


def test_a_leader_elected_in_a_joint_membership_leaves_it() -> None:
    joint = ConfState(voters=(NodeId(1), NodeId(2)), voters_outgoing=(NodeId(1), NodeId(3)), auto_leave=True)
    lab = Lab(1, 2, 3, conf=joint)
    lab.do(1, Campaign())
    lab.tick(5)
    assert [lab[node].conf_state.voters_outgoing for node in (1, 2)] == [(), ()]
