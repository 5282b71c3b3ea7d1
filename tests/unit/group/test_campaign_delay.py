"""Followers of a leader that died do not get in each other's way."""

from __future__ import annotations

import itertools
import random

import pytest

from parleyd.group.campaign_delay import JITTER_MS, STEP_MS, campaign_delay_ms
from parleyd.raft.types import NodeId

RNG = random.Random(1)
VOTERS = [NodeId(id_) for id_ in (70, 10, 40, 90, 20)]


@pytest.mark.parametrize("lost", VOTERS)
def test_the_ranges_of_two_candidates_never_meet(lost: NodeId) -> None:
    survivors = [voter for voter in VOTERS if voter != lost]
    delays = sorted([campaign_delay_ms(VOTERS, me, lost, RNG) for _ in range(50)] for me in survivors)
    for earlier, later in itertools.pairwise(delays):
        assert min(later) - max(earlier) >= STEP_MS - (JITTER_MS[1] - JITTER_MS[0])


def test_the_first_in_line_starts_almost_at_once() -> None:
    assert campaign_delay_ms(VOTERS, NodeId(20), NodeId(10), RNG) <= JITTER_MS[1]


def test_one_that_does_not_vote_waits_until_all_voters_had_their_turn() -> None:
    assert campaign_delay_ms(VOTERS, NodeId(5), NodeId(10), RNG) >= 4 * STEP_MS
