"""Majorities, alone and joint: which index is committed, and which vote is won (Raft §5.2, §5.4.2, §6).

A joint configuration decides only what both of its halves decide. An empty half agrees to everything, so an ordinary
configuration is a joint one with an empty second half.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence

from parleyd.raft.types import NO_INDEX, ConfState, Index, NodeId

EVERYTHING = Index(2**64 - 1)
"""The commit index of an empty majority: it never lowers the result."""


class VoteResult(enum.Enum):
    """The state of a vote."""

    PENDING = "pending"
    LOST = "lost"
    WON = "won"


def halves(conf_state: ConfState) -> tuple[tuple[NodeId, ...], ...]:
    """Return the sets of voters of which each must decide: one, or two in a joint membership."""
    return (conf_state.voters, conf_state.voters_outgoing) if conf_state.voters_outgoing else (conf_state.voters,)


def has_majority(conf_state: ConfState, fits: Callable[[NodeId], bool]) -> bool:
    """Return whether a majority of the voters fits, of both sets in a joint membership."""
    return all(2 * sum(map(fits, voters)) > len(voters) for voters in halves(conf_state))


def majority_committed_index(voters: Sequence[NodeId], acked: Mapping[NodeId, Index]) -> Index:
    """Return the highest index that more than half of `voters` have acknowledged; a voter not in `acked` has 0."""
    if not voters:
        return EVERYTHING
    indexes = sorted(acked.get(voter, NO_INDEX) for voter in voters)
    return indexes[(len(indexes) - 1) // 2]


def joint_committed_index(
    incoming: Sequence[NodeId], outgoing: Sequence[NodeId], acked: Mapping[NodeId, Index]
) -> Index:
    """Return the highest index that both halves have committed."""
    index = majority_committed_index(incoming, acked)
    return min(index, majority_committed_index(outgoing, acked)) if outgoing else index


def majority_vote_result(voters: Sequence[NodeId], votes: Mapping[NodeId, bool]) -> VoteResult:
    """Count `votes` (True: granted) of `voters`; an empty majority has won."""
    if not voters:
        return VoteResult.WON
    quorum = len(voters) // 2 + 1
    cast = [votes[voter] for voter in voters if voter in votes]
    granted = sum(cast)
    if granted >= quorum:
        return VoteResult.WON
    missing = len(voters) - len(cast)
    return VoteResult.PENDING if granted + missing >= quorum else VoteResult.LOST


def joint_vote_result(
    incoming: Sequence[NodeId], outgoing: Sequence[NodeId], votes: Mapping[NodeId, bool]
) -> VoteResult:
    """Return won if both halves are won, lost if either is lost."""
    first = majority_vote_result(incoming, votes)
    second = majority_vote_result(outgoing, votes)
    if first is second:
        return first
    if VoteResult.LOST in (first, second):
        return VoteResult.LOST
    return VoteResult.PENDING
