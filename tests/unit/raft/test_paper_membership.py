"""Membership changes, by the paper: §6 joint consensus, thesis §4.1 to §4.3 single changes and learners."""

from __future__ import annotations

from typing import Any

import pytest

from parleyd.raft.errors import InvariantError
from parleyd.raft.events import (
    Applied,
    Campaign,
    ConfChangeApplied,
    Propose,
    ProposeConfChange,
    Tick,
    TransferLeader,
)
from parleyd.raft.membership import Transition, encode_conf_change
from parleyd.raft.messages import MessageType
from parleyd.raft.types import ConfState, Entry, EntryType, Index, NodeId, Role, Term
from parleyd.raft.update import Proposed, Refusal
from tests.unit.raft.lab import Lab, change, entries, entry, receive, settle, solo, voters

M = MessageType


def propose(*steps: str, transition: Transition = Transition.AUTO) -> ProposeConfChange:
    return ProposeConfChange(encode_conf_change(change(*steps, transition=transition)))


def bootstrapped(*ids: int, joining: tuple[int, ...] = (), **settings: Any) -> Lab:
    """A cluster led by server 1, with empty servers that may be added; snapshots are made when asked for."""
    lab = Lab(*ids, bootstrapped_at=1, **settings)
    for node in joining:
        lab.start(node, voters())
    lab.do(1, Campaign())
    return lab


def bring_up(lab: Lab, leader: int = 1) -> None:
    """Give the leader what newcomers wait for, and time to send it."""
    lab.give_snapshot(leader)
    lab.tick(3)


def last_answer(lab: Lab, node: int) -> Proposed:
    return lab.servers[node].proposed[-1]


def test_a_change_takes_effect_when_applied_not_when_appended() -> None:
    lab = bootstrapped(1, 2, 3, joining=(4,))
    lab.servers[1].slow_disk = True
    lab.cut(2, 3)
    lab.do(1, propose("v4"))
    assert lab[1].conf_state == voters(1, 2, 3)
    lab.heal()
    lab.servers[1].slow_disk = False
    lab.sync(1)
    lab.tick(2)
    assert lab[1].conf_state == lab[2].conf_state == voters(1, 2, 3, 4)


def test_only_one_change_is_taken_at_a_time() -> None:
    lab = bootstrapped(1, 2, 3)
    lab.cut(2, 3)
    lab.do(1, propose("v4"))
    lab.do(1, propose("v5"))
    assert (last_answer(lab, 1).refusal, last_answer(lab, 1).first_index) == (Refusal.CONF_CHANGE_PENDING, 0)
    lab.heal()
    lab.tick(3)
    assert lab[1].conf_state == voters(1, 2, 3, 4)


def test_a_refused_change_leaves_an_empty_entry_and_the_log_goes_on() -> None:
    lab = bootstrapped(1, 2, 3)
    before: int = lab[1].commit_index
    lab.do(1, propose("r1", "r2", "r3"))
    assert last_answer(lab, 1).refusal == Refusal.CONF_CHANGE_PENDING
    assert lab[1].commit_index == before + 1
    assert lab[1].conf_state == voters(1, 2, 3)


def test_a_new_leader_takes_no_change_before_its_no_op_is_applied() -> None:
    # The known bug of single-server changes: without this two changes of two terms could each have a majority.
    raft = solo(1, log=entries(1), term=1)
    settle(raft, raft.step(Campaign()))
    raft.step(receive(M.VOTE_RESPONSE, 2, 1, 2))
    assert raft.role is Role.LEADER
    answer = raft.step(propose("v4")).proposed
    assert answer is not None
    assert answer.refusal == Refusal.CONF_CHANGE_PENDING


def test_no_campaign_with_a_committed_change_not_yet_applied() -> None:
    log = (*entries(1), Entry(Term(1), Index(2), EntryType.CONF_CHANGE_V2, encode_conf_change(change("v4"))))
    raft = solo(1, log=log, term=1)
    raft.step(receive(M.HEARTBEAT, 2, 1, 1, commit=2))
    raft.step(Campaign())
    assert (raft.role, raft.term) == (Role.FOLLOWER, 1)
    raft.step(ConfChangeApplied(log[1].data))
    raft.step(Applied(Index(2)))
    raft.step(Campaign())
    assert raft.role is Role.CANDIDATE


def test_several_changes_go_through_a_joint_membership_and_leave_it() -> None:
    lab = bootstrapped(1, 2, 3, joining=(4, 5))
    lab.do(1, propose("v4", "v5", "r2"))
    bring_up(lab)
    assert lab[1].conf_state == voters(1, 3, 4, 5)
    assert lab[4].conf_state == lab[5].conf_state == voters(1, 3, 4, 5)


def test_a_joint_membership_is_left_by_request_when_it_was_entered_so() -> None:
    lab = bootstrapped(1, 2, 3, joining=(4,))
    lab.do(1, propose("v4", "r3", transition=Transition.JOINT_EXPLICIT))
    bring_up(lab)
    assert lab[1].conf_state == ConfState(voters=voters(1, 2, 4).voters, voters_outgoing=voters(1, 2, 3).voters)
    lab.do(1, propose("v5"))
    assert last_answer(lab, 1).refusal == Refusal.CONF_CHANGE_PENDING
    lab.do(1, propose())
    lab.tick(2)
    assert lab[1].conf_state == lab[4].conf_state == voters(1, 2, 4)


def test_leaving_a_membership_that_is_not_joint_is_refused() -> None:
    lab = bootstrapped(1, 2, 3)
    lab.do(1, propose())
    assert last_answer(lab, 1).refusal == Refusal.CONF_CHANGE_PENDING


@pytest.mark.parametrize("cut", [(2, 3), (4, 5)], ids=["outgoing majority gone", "incoming majority gone"])
def test_in_a_joint_membership_both_majorities_must_agree(cut: tuple[int, int]) -> None:
    lab = bootstrapped(1, 2, 3, joining=(4, 5))
    lab.do(1, propose("v4", "v5", "r2", "r3", transition=Transition.JOINT_EXPLICIT))
    bring_up(lab)
    commit = lab[1].commit_index
    lab.cut(*cut)
    lab.do(1, Propose((b"x",)))
    assert lab[1].commit_index == commit
    lab.heal()
    lab.tick(2)
    assert lab[1].commit_index > commit


def test_a_learner_gets_the_log_but_does_not_count() -> None:
    lab = bootstrapped(1, 2, 3, joining=(4,))
    lab.do(1, propose("l4"))
    bring_up(lab)
    lab.do(1, Propose((b"x",)))
    assert lab.payloads(4) == [b"x"]
    lab.cut(2, 3)
    commit = lab[1].commit_index
    lab.do(1, Propose((b"y",)))
    assert lab[1].commit_index == commit


def test_a_learner_never_campaigns() -> None:
    lab = bootstrapped(1, 2, 3, joining=(4,))
    lab.do(1, propose("l4"))
    bring_up(lab)
    lab.cut(1, 2, 3)
    lab.tick(60, 4)
    assert lab[4].role is Role.FOLLOWER


def test_a_learner_votes_when_asked_for_the_asker_may_know_of_its_promotion() -> None:
    conf = ConfState(voters=(NodeId(1), NodeId(2)), learners=(NodeId(3),))
    lab = Lab(1, 2, 3, conf=conf, check_quorum=False, pre_vote=False)
    update = lab.step(3, receive(M.VOTE, 2, 3, 1))
    assert [letter.reject for letter in update.after_persist] == [False]


def test_a_learner_is_promoted() -> None:
    lab = bootstrapped(1, 2, 3, joining=(4,))
    lab.do(1, propose("l4"))
    bring_up(lab)
    lab.do(1, propose("v4"))
    lab.tick(2)
    assert lab[4].conf_state == voters(1, 2, 3, 4)
    lab.do(1, TransferLeader(NodeId(4)))
    assert lab.leaders() == [4]


def test_a_voter_is_demoted_when_the_joint_membership_ends() -> None:
    lab = bootstrapped(1, 2, 3)
    lab.do(1, propose("l3", transition=Transition.JOINT_EXPLICIT))
    assert lab[1].conf_state.learners_next == (3,)
    lab.do(1, propose())
    assert lab[1].conf_state == ConfState(voters=(NodeId(1), NodeId(2)), learners=(NodeId(3),))


def test_a_removed_leader_steps_down_when_the_change_is_applied() -> None:
    lab = bootstrapped(1, 2, 3)
    lab.do(1, propose("r1"))
    assert lab[1].role is Role.FOLLOWER
    lab.tick(20, 2, 3)
    (leader,) = lab.leaders()
    assert leader in (2, 3)
    lab.do(leader, Propose((b"x",)))
    assert lab.payloads(leader) == [b"x"]


def test_a_removed_leader_that_does_not_step_down_takes_no_more_proposals() -> None:
    lab = bootstrapped(1, 2, 3, step_down_on_removal=False)
    lab.do(1, propose("r1"))
    assert lab[1].role is Role.LEADER
    lab.do(1, Propose((b"x",)))
    assert last_answer(lab, 1).refusal == Refusal.NOT_LEADER


def test_a_removed_server_does_not_disturb_those_that_stay() -> None:
    lab = bootstrapped(1, 2, 3, 4)
    lab.cut(4)
    lab.do(1, propose("r4"))
    term = lab[1].term
    lab.heal()
    lab.tick(60)
    assert lab.leaders() == [1]
    assert lab[1].term == term


def removal_in_the_log(candidate_log: int) -> tuple[Entry, ...]:
    """Entry 2 removes server 2; ordinary entries around it."""
    removal = Entry(Term(1), Index(2), EntryType.CONF_CHANGE_V2, encode_conf_change(change("r2")))
    return (entry(1, 1), removal, *(entry(1, index) for index in range(3, candidate_log + 1)))


def test_a_removed_server_that_refuses_a_vote_says_how_far_its_log_is_committed() -> None:
    raft = solo(2, (1,), term=1, log=removal_in_the_log(4), commit=3)
    (answer,) = settle(raft, raft.step(receive(MessageType.VOTE, 1, 2, 2, index=Index(2), log_term=Term(1))))
    assert (answer.reject, answer.commit, answer.log_term) == (True, 3, 1)


def test_a_voter_that_refuses_a_vote_says_no_more_than_that() -> None:
    raft = solo(2, (1, 2), term=1, log=removal_in_the_log(4), commit=3)
    (answer,) = settle(raft, raft.step(receive(MessageType.VOTE, 1, 2, 2, index=Index(2), log_term=Term(1))))
    assert (answer.reject, answer.commit) == (True, 0)


@pytest.mark.parametrize("pre_vote", [False, True])
def test_who_needs_the_vote_of_a_removed_server_goes_on_without_it(pre_vote: bool) -> None:
    raft = solo(1, (1, 2), term=1, log=removal_in_the_log(3), commit=1, pre_vote=pre_vote)
    raft.step(Applied(Index(1)))
    settle(raft, raft.step(Campaign()))
    kind = MessageType.PRE_VOTE_RESPONSE if pre_vote else MessageType.VOTE_RESPONSE
    refusal = receive(kind, 2, 1, raft.term, reject=True, commit=Index(3), log_term=Term(1))
    update = raft.step(refusal)
    assert [known.index for known in update.committed] == [2, 3]
    assert raft.status().role is Role.FOLLOWER, "it counted the wrong majority"
    raft.step(ConfChangeApplied(update.committed[0].data))
    raft.step(Applied(Index(3)))
    settle(raft, raft.step(Campaign()))
    assert raft.status().role is Role.LEADER


def test_a_commit_index_counts_only_where_the_logs_agree() -> None:
    raft = solo(1, (1, 2), term=2, log=removal_in_the_log(3), commit=1)
    raft.step(Campaign())
    raft.step(receive(MessageType.VOTE_RESPONSE, 2, 1, 3, reject=True, commit=Index(3), log_term=Term(2)))
    raft.step(receive(MessageType.VOTE_RESPONSE, 2, 1, 3, reject=True, commit=Index(9), log_term=Term(1)))
    assert raft.commit_index == 1


def test_removing_a_slow_voter_commits_what_waited_for_it() -> None:
    lab = bootstrapped(1, 2)
    lab.cut(2)
    lab.do(1, Propose((b"x",)))
    raft = lab[1]
    commit = raft.commit_index
    lab.step(1, ConfChangeApplied(encode_conf_change(change("r2"))))
    assert raft.commit_index > commit


def test_a_transfer_to_a_server_being_removed_is_given_up() -> None:
    lab = bootstrapped(1, 2, 3, joining=(4,))
    lab.cut(3)
    lab.do(1, TransferLeader(NodeId(3)))
    assert lab[1].status().transferee == 3
    lab.step(1, ConfChangeApplied(encode_conf_change(change("r3"))))
    assert lab[1].status().transferee == 0


def test_a_change_that_applies_as_none_changes_nothing() -> None:
    lab = bootstrapped(1, 2, 3)
    before = lab[1].status()
    lab.step(1, ConfChangeApplied(b""))
    assert lab[1].status() == before


def test_a_committed_change_that_does_not_fit_stops_the_server() -> None:
    raft = solo(1)
    with pytest.raises(InvariantError, match="does not fit"):
        raft.step(ConfChangeApplied(encode_conf_change(change())))


def test_an_unreadable_change_is_refused_before_anything_happens() -> None:
    lab = bootstrapped(1, 2, 3)
    before = lab[1].status()
    with pytest.raises(ValueError, match="cut short"):
        lab.step(1, ProposeConfChange(b"\x01"))
    assert lab[1].status() == before


def test_auto_leave_goes_on_under_the_next_leader() -> None:
    lab = bootstrapped(1, 2, 3, joining=(4,))
    change_data = encode_conf_change(change("v4", "r3"))
    lab.cut(2, 3)
    lab.step(1, ProposeConfChange(change_data))
    lab.heal()
    lab.wire.clear()
    # The entry reaches 2 and is committed; 1 falls silent before it proposes to leave.
    lab.tick(1, 1)
    lab.cut(1)
    lab.tick(30, 2, 3)
    for leader in lab.leaders():
        if leader != 1:
            bring_up(lab, leader)
    lab.heal()
    lab.tick(30)
    confs = {lab[node].conf_state for node in (1, 2, 3)}
    assert all(not conf.voters_outgoing for conf in confs)


def test_a_heartbeat_from_a_leader_that_does_not_know_us_is_followed() -> None:
    # A fresh server has no membership: it follows whoever leads and gets the rest by snapshot.
    lab = Lab(1)
    lab.start(9, voters())
    lab.step(9, receive(M.HEARTBEAT, 1, 9, 3))
    assert lab[9].leader == 1
    lab.step(9, Tick())
    assert lab[9].role is Role.FOLLOWER
