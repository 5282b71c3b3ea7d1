"""Elections, by the paper: §5.1 terms, §5.2 elections, §5.4.1 who may win, thesis §9.6 pre-vote, §6.2 check-quorum."""

from __future__ import annotations

from typing import Any

import pytest

from parleyd.raft.events import (
    Campaign,
    ForgetLeader,
    Persisted,
    Propose,
    Receive,
    StopCampaigning,
    Tick,
    TransferLeader,
)
from parleyd.raft.messages import MessageType
from parleyd.raft.raft import Raft
from parleyd.raft.types import ConfState, NodeId, Role, Term
from parleyd.raft.update import Update
from tests.unit.raft.lab import Lab, entries, receive, settle, solo

M = MessageType


def candidate(**settings: Any) -> Raft:
    """Server 1 of 3, asking for votes in term 1, its own vote durable."""
    raft = solo(**settings)
    settle(raft, raft.step(Campaign()))
    return raft


def answers(update: Update) -> list[tuple[MessageType, int, bool]]:
    return [(letter.type, letter.to, letter.reject) for letter in update.after_persist]


# §5.1


@pytest.mark.parametrize("role", [Role.FOLLOWER, Role.CANDIDATE, Role.LEADER])
def test_a_higher_term_makes_any_server_a_follower_in_it(role: Role) -> None:
    raft = solo() if role is Role.FOLLOWER else candidate()
    if role is Role.LEADER:
        raft.step(receive(M.VOTE_RESPONSE, 2, 1, 1))
    assert raft.role is role
    raft.step(receive(M.APPEND, 2, 1, 5))
    assert (raft.role, raft.term, raft.leader) == (Role.FOLLOWER, 5, 2)


def test_a_message_of_an_earlier_term_is_ignored() -> None:
    raft = solo(term=3)
    before = raft.status()
    update = raft.step(receive(M.APPEND, 2, 1, 2, entries=entries(2)))
    assert update == Update()
    assert raft.status() == before


def test_a_leader_of_an_earlier_term_is_told_the_current_one_under_pre_vote() -> None:
    raft = solo(term=3, pre_vote=True)
    update = raft.step(receive(M.APPEND, 2, 1, 2))
    (letter,) = update.after_persist
    assert (letter.type, letter.term) == (M.APPEND_RESPONSE, 3)


def test_the_term_never_goes_back_over_a_restart() -> None:
    raft = solo(term=7)
    raft.step(Campaign())
    assert raft.term == 8


# §5.2


def test_servers_start_as_followers() -> None:
    assert solo().role is Role.FOLLOWER


def test_a_follower_campaigns_when_it_hears_nothing_for_its_timeout() -> None:
    raft = solo(election_timeout_ticks=10)
    ticks = 0
    while raft.role is Role.FOLLOWER:
        raft.step(Tick())
        ticks += 1
    assert 10 <= ticks < 20
    assert raft.role is Role.CANDIDATE


def test_a_heartbeat_restarts_the_election_clock() -> None:
    raft = solo(election_timeout_ticks=10, term=1)
    for _ in range(50):
        raft.step(Tick())
        raft.step(receive(M.HEARTBEAT, 2, 1, 1))
    assert raft.role is Role.FOLLOWER


def test_a_leader_sends_heartbeats_every_heartbeat_interval() -> None:
    lab = Lab(1, 2, 3, heartbeat_ticks=2)
    lab.do(1, Campaign())
    first, second = lab.step(1, Tick()), lab.step(1, Tick())
    assert not first.send
    assert [(letter.type, letter.to) for letter in second.send] == [(M.HEARTBEAT, 2), (M.HEARTBEAT, 3)]


def test_a_candidate_enters_a_new_term_votes_for_itself_and_asks_the_others() -> None:
    raft = solo(term=4)
    update = raft.step(Campaign())
    assert (raft.role, raft.term, raft.status().voted_for) == (Role.CANDIDATE, 5, 1)
    assert [(letter.type, letter.to, letter.term) for letter in update.send] == [(M.VOTE, 2, 5), (M.VOTE, 3, 5)]
    assert update.persist is not None
    assert update.persist.hard_state is not None
    assert update.persist.hard_state.voted_for == 1


@pytest.mark.parametrize(
    ("size", "grants", "rejections", "expected"),
    [
        (1, 0, 0, Role.LEADER),
        (3, 1, 0, Role.LEADER),
        (3, 1, 1, Role.LEADER),
        (5, 2, 0, Role.LEADER),
        (3, 0, 0, Role.CANDIDATE),
        (5, 1, 2, Role.CANDIDATE),
        (3, 0, 2, Role.FOLLOWER),
        (5, 0, 3, Role.FOLLOWER),
    ],
)
def test_an_election_is_won_lost_or_open_by_majority(size: int, grants: int, rejections: int, expected: Role) -> None:
    raft = candidate(peers=tuple(range(1, size + 1)))
    for node in range(2, 2 + grants):
        raft.step(receive(M.VOTE_RESPONSE, node, 1, 1))
    for node in range(2 + grants, 2 + grants + rejections):
        raft.step(receive(M.VOTE_RESPONSE, node, 1, 1, reject=True))
    assert raft.role is expected
    assert raft.term == 1


def test_a_vote_counts_once_however_often_it_arrives() -> None:
    raft = candidate(peers=(1, 2, 3, 4, 5))
    for _ in range(5):
        raft.step(receive(M.VOTE_RESPONSE, 2, 1, 1))
    assert raft.role is Role.CANDIDATE


def test_a_candidate_does_not_count_its_own_vote_before_it_is_durable() -> None:
    raft = solo()
    update = raft.step(Campaign())
    raft.step(receive(M.VOTE_RESPONSE, 2, 1, 1))
    before = raft.role
    assert update.persist is not None
    raft.step(update.persist.done)
    assert (before, raft.role) == (Role.CANDIDATE, Role.LEADER)


def test_a_candidate_elected_by_the_others_leads_only_when_its_own_vote_is_durable() -> None:
    # Else a crash lets it be elected in the same term again, and two logs have different entries of one term.
    raft = solo()
    update = raft.step(Campaign())
    for node in (2, 3):
        raft.step(receive(M.VOTE_RESPONSE, node, 1, 1))
    before = raft.role
    assert update.persist is not None
    raft.step(update.persist.done)
    assert (before, raft.role) == (Role.CANDIDATE, Role.LEADER)


def test_follower_grants_one_vote_per_term() -> None:
    raft = solo(1)
    first = raft.step(receive(M.VOTE, 2, 1, 1))
    second = raft.step(receive(M.VOTE, 3, 1, 1))
    again = raft.step(receive(M.VOTE, 2, 1, 1))
    assert answers(first) == [(M.VOTE_RESPONSE, 2, False)]
    assert answers(second) == [(M.VOTE_RESPONSE, 3, True)]
    assert answers(again) == [(M.VOTE_RESPONSE, 2, False)]


def test_a_vote_is_remembered_over_a_restart() -> None:
    raft = solo(1, term=1, vote=2)
    assert answers(raft.step(receive(M.VOTE, 3, 1, 1))) == [(M.VOTE_RESPONSE, 3, True)]
    assert answers(raft.step(receive(M.VOTE, 2, 1, 1))) == [(M.VOTE_RESPONSE, 2, False)]


def test_a_vote_leaves_only_with_the_write_that_makes_it_durable() -> None:
    update = solo(1).step(receive(M.VOTE, 2, 1, 1))
    assert not update.send
    assert update.persist is not None
    assert update.persist.must_sync
    assert update.persist.hard_state is not None
    assert (update.persist.hard_state.current_term, update.persist.hard_state.voted_for) == (1, 2)


def test_a_candidate_follows_a_leader_of_its_own_term() -> None:
    raft = candidate()
    raft.step(receive(M.APPEND, 2, 1, 1))
    assert (raft.role, raft.leader, raft.term) == (Role.FOLLOWER, 2, 1)


def test_election_timeouts_differ_between_servers_and_campaigns() -> None:
    seen = set()
    for node in (1, 2, 3):
        raft = solo(node, election_timeout_ticks=20, seed=5)
        for _ in range(3):
            ticks = 0
            term = raft.term
            while raft.term == term:
                raft.step(Tick())
                ticks += 1
            seen.add(ticks)
    assert len(seen) > 3


def test_a_split_vote_is_resolved() -> None:
    lab = Lab(1, 2, 3, 4, pre_vote=False, check_quorum=False)
    for node in (1, 2):
        lab.step(node, Campaign())
    lab.deliver()
    lab.tick(40)
    assert len(lab.leaders()) == 1


# §5.4.1


@pytest.mark.parametrize(
    ("own", "last_term", "last_index", "granted"),
    [
        ((1,), 1, 1, True),
        ((1,), 1, 2, True),
        ((1, 1), 1, 1, False),
        ((1,), 2, 1, True),
        ((1, 1), 2, 1, True),
        ((2,), 1, 1, False),
        ((2,), 1, 2, False),
        ((2, 2), 1, 9, False),
    ],
)
def test_a_vote_needs_a_log_at_least_as_complete(
    own: tuple[int, ...], last_term: int, last_index: int, granted: bool
) -> None:
    raft = solo(1, term=2, log=entries(*own))
    update = raft.step(receive(M.VOTE, 2, 1, 3, index=last_index, log_term=last_term))
    assert answers(update) == [(M.VOTE_RESPONSE, 2, not granted)]


# Thesis §9.6: pre-vote


def test_a_pre_candidate_changes_neither_term_nor_vote() -> None:
    raft = solo(term=3, vote=2, pre_vote=True)
    update = raft.step(Campaign())
    assert (raft.role, raft.term, raft.status().voted_for) == (Role.PRE_CANDIDATE, 3, 2)
    assert {(letter.type, letter.term) for letter in update.send} == {(M.PRE_VOTE, 4)}


def test_granting_a_pre_vote_changes_nothing_and_binds_nobody() -> None:
    raft = solo(1, term=1)
    before = raft.status()
    for node in (2, 3):
        update = raft.step(receive(M.PRE_VOTE, node, 1, 2))
        (letter,) = update.after_persist
        assert (letter.type, letter.reject, letter.term) == (M.PRE_VOTE_RESPONSE, False, 2)
    assert raft.status() == before


def test_a_pre_vote_does_not_restart_the_election_clock() -> None:
    raft = solo(1, term=1, election_timeout_ticks=10)
    for _ in range(20):
        raft.step(Tick())
        raft.step(receive(M.PRE_VOTE, 2, 1, raft.term + 1))
    assert raft.role is Role.CANDIDATE


def test_a_server_that_was_cut_off_does_not_depose_the_leader() -> None:
    lab = Lab(1, 2, 3)
    lab.do(1, Campaign())
    term = lab[1].term
    lab.cut(3)
    lab.tick(60)
    assert lab[3].role is Role.PRE_CANDIDATE
    lab.heal()
    lab.tick(30)
    assert lab.leaders() == [1]
    assert {lab[node].term for node in (1, 2, 3)} == {term}
    assert lab[3].leader == 1


def test_a_candidate_with_a_long_log_and_a_low_term_learns_the_term() -> None:
    # Server 1 has a higher term (from an election without pre-vote) but a shorter log: silence would block for ever.
    lab = Lab(1, 2, logs={2: entries(1, 1)}, terms={1: 5, 2: 1})
    lab.do(2, Campaign())
    lab.do(2, Campaign())
    assert lab.leaders() == [2]
    assert lab[2].term > 5


def test_pre_vote_with_a_rejecting_majority_ends_the_campaign() -> None:
    raft = candidate(pre_vote=True)
    assert raft.role is Role.PRE_CANDIDATE
    for node in (2, 3):
        raft.step(receive(M.PRE_VOTE_RESPONSE, node, 1, 0, reject=True))
    assert (raft.role, raft.term) == (Role.FOLLOWER, 0)


# Thesis §4.2.3 and §6.2: stickiness and check-quorum


def test_who_has_heard_from_a_leader_ignores_candidates() -> None:
    lab = Lab(1, 2, 3, pre_vote=False)
    lab.do(1, Campaign())
    update = lab.step(2, receive(M.VOTE, 3, 2, 9, index=50, log_term=8))
    assert update == Update()
    assert lab[2].term == 1


def test_a_candidate_chosen_by_its_leader_is_not_ignored() -> None:
    lab = Lab(1, 2, 3, pre_vote=False)
    lab.do(1, Campaign())
    update = lab.step(2, receive(M.VOTE, 3, 2, 2, index=1, log_term=1, context=b"transfer"))
    assert answers(update) == [(M.VOTE_RESPONSE, 3, False)]


def test_a_leader_without_a_majority_steps_down() -> None:
    lab = Lab(1, 2, 3)
    lab.do(1, Campaign())
    lab.cut(1)
    lab.tick(11, 1)
    assert lab[1].role is not Role.LEADER
    assert lab[1].leader == 0


def test_a_leader_with_a_bare_majority_stays() -> None:
    lab = Lab(1, 2, 3)
    lab.do(1, Campaign())
    lab.cut(3)
    lab.tick(50, 1, 2)
    assert lab.leaders() == [1]


def test_learners_do_not_keep_a_leader_in_office() -> None:
    conf = ConfState(voters=(NodeId(1), NodeId(2), NodeId(3)), learners=(NodeId(4), NodeId(5)))
    lab = Lab(1, 2, 3, 4, 5, conf=conf)
    lab.do(1, Campaign())
    lab.cut(2, 3)
    lab.tick(11, 1)
    assert lab[1].role is not Role.LEADER


def test_a_bridge_keeps_no_dead_quorum_quiet() -> None:
    # Everybody reaches server 2 only: the leader has lost its majority, and 2 alone can have one.
    lab = Lab(1, 2, 3, 4, 5)
    lab.do(1, Campaign())
    lab.cut_between((1, 3), (1, 4), (1, 5), (3, 4), (3, 5), (4, 5))
    lab.tick(200)
    assert lab.leaders() == [2]
    lab.do(2, Propose((b"goes on",)))
    lab.tick()
    assert [lab.payloads(node) for node in (1, 2, 3, 4, 5)] == [[b"goes on"]] * 5


def test_forgetting_the_leader_lets_pre_votes_through_but_keeps_the_term() -> None:
    lab = Lab(1, 2, 3)
    lab.do(1, Campaign())
    assert lab.step(2, receive(M.PRE_VOTE, 3, 2, 2, index=1, log_term=1)) == Update()
    lab.step(2, ForgetLeader())
    assert (lab[2].leader, lab[2].term) == (0, 1)
    update = lab.step(2, receive(M.PRE_VOTE, 3, 2, 2, index=1, log_term=1))
    assert answers(update) == [(M.PRE_VOTE_RESPONSE, 3, False)]
    lab.tick(1, 1)
    assert lab[2].leader == 1


def test_forgetting_the_leader_does_not_restart_the_election_clock() -> None:
    raft = solo(1, term=1, election_timeout_ticks=10)
    raft.step(receive(M.HEARTBEAT, 2, 1, 1))
    ticks = 0
    while raft.role is Role.FOLLOWER:
        raft.step(Tick())
        raft.step(ForgetLeader())
        ticks += 1
    assert ticks < 20


def test_a_server_that_stopped_campaigning_votes_but_stands_for_no_election() -> None:
    lab = Lab(1, 2, 3)
    lab.do(1, Campaign())
    lab.do(2, StopCampaigning())
    lab.cut(1)
    lab.tick(60, 2)
    assert lab[2].role is Role.FOLLOWER
    lab.do(2, Campaign())
    assert lab[2].role is Role.FOLLOWER
    lab.tick(20, 2, 3)
    assert lab[3].role is Role.LEADER


def test_a_server_that_stopped_campaigning_does_not_take_over_when_asked() -> None:
    lab = Lab(1, 2, 3)
    lab.do(1, Campaign())
    lab.do(2, StopCampaigning())
    lab.do(1, TransferLeader(NodeId(2)))
    assert lab.leaders() == [1]
    assert lab[1].term == lab[2].term == 1


def test_a_candidate_gives_up_when_it_stops_campaigning() -> None:
    raft = candidate(pre_vote=False)
    raft.step(StopCampaigning())
    assert raft.role is Role.FOLLOWER
    raft.step(receive(M.VOTE_RESPONSE, 2, 1, 1))
    assert raft.role is Role.FOLLOWER


def test_a_leader_that_stopped_campaigning_leads_until_another_takes_over() -> None:
    lab = Lab(1, 2, 3)
    lab.do(1, Campaign())
    lab.do(1, StopCampaigning())
    assert lab.leaders() == [1]
    lab.do(1, TransferLeader(NodeId(2)))
    assert lab.leaders() == [2]


def test_a_role_change_is_told_once() -> None:
    raft = solo()
    update = raft.step(Campaign())
    assert update.role is not None
    assert (update.role.role, update.role.term, update.role.leader) == (Role.CANDIDATE, 1, 0)
    assert raft.step(Receive(receive(M.VOTE, 2, 1, 1).message)).role is None


def test_a_storage_answer_of_an_earlier_campaign_is_no_vote_in_a_later_one() -> None:
    raft = solo()
    first = raft.step(Campaign())
    second = raft.step(Campaign())
    raft.step(receive(M.VOTE_RESPONSE, 2, 1, 2))
    assert first.persist is not None
    assert second.persist is not None
    raft.step(first.persist.done)
    before = raft.role
    raft.step(second.persist.done)
    assert (before, raft.role) == (Role.CANDIDATE, Role.LEADER)


def test_an_empty_storage_answer_changes_nothing() -> None:
    raft = solo(term=2)
    before = raft.status()
    assert raft.step(Persisted(term=Term(2))) == Update()
    assert raft.status() == before
