"""Quorums against a second, naive implementation: try every index, count every vote."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from parleyd.raft.quorum import (
    EVERYTHING,
    VoteResult,
    joint_committed_index,
    joint_vote_result,
    majority_committed_index,
    majority_vote_result,
)
from parleyd.raft.types import Index, NodeId

NODES = st.integers(1, 7).map(NodeId)
HALF = st.sets(NODES, max_size=5).map(lambda nodes: tuple(sorted(nodes)))
ACKED = st.dictionaries(NODES, st.integers(0, 9).map(Index))
VOTES = st.dictionaries(NODES, st.booleans())


def naive_committed(voters: tuple[NodeId, ...], acked: dict[NodeId, Index]) -> int:
    """The highest index for which the voters that have it are more than those that have it not."""
    if not voters:
        return EVERYTHING
    having = [index for index in range(10) if 2 * sum(acked.get(node, 0) >= index for node in voters) > len(voters)]
    return max(having)


def naive_vote(voters: tuple[NodeId, ...], votes: dict[NodeId, bool]) -> VoteResult:
    """Won if it is whatever the missing votes are, lost likewise."""
    missing = [node for node in voters if node not in votes]
    outcomes = set()
    for bits in range(2 ** len(missing)):
        full = votes | {node: bool(bits >> position & 1) for position, node in enumerate(missing)}
        outcomes.add(not voters or 2 * sum(full[node] for node in voters) > len(voters))
    return VoteResult.PENDING if len(outcomes) == 2 else VoteResult.WON if outcomes == {True} else VoteResult.LOST


@given(HALF, ACKED)
def test_a_majority_commits_what_counting_says(voters: tuple[NodeId, ...], acked: dict[NodeId, Index]) -> None:
    assert majority_committed_index(voters, acked) == naive_committed(voters, acked)


@given(HALF, HALF, ACKED)
def test_a_joint_quorum_commits_what_both_halves_do(
    incoming: tuple[NodeId, ...], outgoing: tuple[NodeId, ...], acked: dict[NodeId, Index]
) -> None:
    expected = min(naive_committed(incoming, acked), naive_committed(outgoing, acked))
    assert joint_committed_index(incoming, outgoing, acked) == expected
    assert joint_committed_index(outgoing, incoming, acked) == expected


@given(HALF, VOTES)
def test_a_vote_is_decided_when_no_missing_vote_can_change_it(
    voters: tuple[NodeId, ...], votes: dict[NodeId, bool]
) -> None:
    assert majority_vote_result(voters, votes) is naive_vote(voters, votes)


@given(HALF, HALF, VOTES)
def test_a_joint_vote_is_won_by_both_halves_and_lost_by_either(
    incoming: tuple[NodeId, ...], outgoing: tuple[NodeId, ...], votes: dict[NodeId, bool]
) -> None:
    halves = {naive_vote(incoming, votes), naive_vote(outgoing, votes)}
    if VoteResult.LOST in halves:
        expected = VoteResult.LOST
    elif halves == {VoteResult.WON}:
        expected = VoteResult.WON
    else:
        expected = VoteResult.PENDING
    assert joint_vote_result(incoming, outgoing, votes) is expected


@given(HALF, ACKED)
def test_two_majorities_of_one_membership_share_a_voter(voters: tuple[NodeId, ...], acked: dict[NodeId, Index]) -> None:
    index = majority_committed_index(voters, acked)
    if voters:
        having = {node for node in voters if acked.get(node, 0) >= index}
        assert 2 * len(having) > len(voters)
